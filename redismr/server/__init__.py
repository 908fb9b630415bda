"""A private server: a Valkey that belongs to this process and ends with it.

``start`` makes one for this process and its workers, on a unix socket. ``serve`` makes one that
others may join over TCP, and ``join`` gives them the connection.
"""

from redismr.server.binary import find_binary
from redismr.server.credentials import join
from redismr.server.launch import serve, start
from redismr.server.private import PrivateServer

__all__ = ["PrivateServer", "find_binary", "join", "serve", "start"]
