"""Run a client that is also the server, in a thread, if there is no other: complete alone.

``python examples/ancestors/masterless.py``; further ones that run at the same time help
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
            server = None  # another process is the server by now

if server:
    print_table(server.results())
sys.exit(not client.finished())
