"""A private server: a Valkey of our own that ends when we do.

``PrivateServer`` for this process and its workers (a unix socket, nothing else), ``serve`` for
others to join over TCP, ``join`` for what they need to do so.
"""

from redismr.server.binary import find_binary
from redismr.server.credentials import join
from redismr.server.private import PrivateServer, serve, start

__all__ = ["PrivateServer", "find_binary", "join", "serve", "start"]
