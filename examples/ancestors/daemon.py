"""Run client and server as daemons, while the main thread does other work: here it pings.

``python examples/ancestors/daemon.py``; further ones that run at the same time help
"""

import sys

from table import print_top
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


class Client(mincemeat.Client_daemon):
    def timeout(self):
        self.endpoint.ping()


try:
    server = mincemeat.Server_daemon(credentials)
    server.start()
except OSError:
    server = None  # another process is the server: help there

client = Client(credentials, timeout=5.0)
client.start()
while client.is_alive():
    client.join(1.0)
    if client.is_alive() and client.endpoint.authenticated():
        client.endpoint.send_command_backchannel("ping", ("from the main thread", None))

if server:
    server.join()
    for txn, results in server.endpoint.output:
        print_top(txn, results)
sys.exit(client.state() != "success")
