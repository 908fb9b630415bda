"""A client that becomes the server too, in a thread, while there is none: complete alone.

``python examples/ancestors/masterless.py``; every further one that runs meanwhile helps
"""

import sys

from table import print_table
from texts import Texts, total, words

from redismr.compat import mincemeat

credentials = {
    "interface": "localhost",
    "port": mincemeat.DEFAULT_PORT,
    "password": "changeme",
    "datasource": Texts("*.txt"),
    "mapfn": words,
    "collectfn": total,
    "finishfn": total,
}

server = None
for _attempt in range(10):
    client = mincemeat.Client()
    client.conn(**credentials)  # returns when the server has ended, or if there is none
    if client.authenticated():
        break
    if server is None:
        try:
            server = mincemeat.Server(map={})
            server.conn(asynchronous=True, **credentials)
        except OSError:
            server = None  # somebody else is the server by now

if server:
    print_table(server.results())
sys.exit(not client.finished())
