"""Run the same script everywhere: the first to bind the port is the server, the others work.

``python examples/ancestors/election.py``, twice or more; or ``redismr mincemeat -p changeme``
"""

import re

from table import print_table
from texts import Texts, total, words

from redismr.compat import mincemeat


def mapfn(name, text):
    for word, one in words(name, text):
        yield re.sub("'(s|ll|d|ve)$", "", word), one


credentials = {
    "interface": "localhost",
    "port": mincemeat.DEFAULT_PORT,
    "password": "changeme",
    "datasource": Texts("*moon*.txt"),
    "mapfn": mapfn,
    "reducefn": total,
}

while True:
    client = mincemeat.Client()
    client.conn(**credentials)  # returns when the server has ended, or if there is none
    if client.authenticated():
        break
    try:
        server = mincemeat.Server()
        server.conn(**credentials)
    except OSError:
        if server.authenticated():
            raise  # this process was elected, and its job has failed
        continue  # another process was elected in the meantime
    print_table(server.results())
    break
