"""A private server: a Valkey that belongs to this process and ends with it."""

from redismr.server.binary import find_binary
from redismr.server.credentials import join
from redismr.server.launch import serve, start
from redismr.server.private import PrivateServer

__all__ = ["PrivateServer", "find_binary", "join", "serve", "start"]
