"""The same script everywhere: the first to bind the port is the server, the others work for it.

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
            raise  # it was elected, and what it serves has failed
        continue  # somebody else was elected meanwhile
    print_table(server.results())
    break
