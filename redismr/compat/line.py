"""A plain connection to the server, which tells of its end: nothing is asked over it but AUTH."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from redismr.errors import RedismrError
from redismr.server.access import USER, derived_credentials
from redismr.store import Store

if TYPE_CHECKING:
    from redismr.config import Connection

_LOOK_EVERY = 0.5
_ANSWER_SECONDS = 10.0
_KEEPALIVE = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))


class Line:
    """An authenticated connection.

    Raises:
        ConnectionRefusedError, OSError: nobody listens there.
        PermissionError: the password is not the server's.
        ConnectionError: what listens there is no server of ours.
    """

    def __init__(self, host: str, port: int, password: str) -> None:
        self._process = os.getpid()
        self._socket = socket.create_connection((host, port), _ANSWER_SECONDS)
        try:
            self._authenticate(derived_credentials(password).auth)
        except BaseException:
            self._socket.close()
            raise
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in _KEEPALIVE:  # a host that vanished is missed after 40 s
            if hasattr(socket, option):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)

    def wait(self, still: Callable[[], bool]) -> None:
        """Return when the server ended, ``close`` was called, or ``still()`` is false."""
        while still():
            try:
                ready, _, _ = select.select([self._socket], [], [], _LOOK_EVERY)
                if ready and not self._socket.recv(4096):
                    return
            except (OSError, ValueError):  # reset, or closed by another thread
                return

    def close(self) -> None:
        """Let go; who waits returns at once."""
        if os.getpid() == self._process:  # a forked child would end its parent's connection
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the socket back: nobody waits any more."""
        self._socket.close()

    def _authenticate(self, auth: str) -> None:
        self._socket.sendall(f"AUTH {USER} {auth}\r\n".encode())
        answer = b""
        while not answer.endswith(b"\n") and (piece := self._socket.recv(256)):
            answer += piece
        if answer.startswith((b"-WRONGPASS", b"-ERR AUTH", b"-NOAUTH")):
            raise PermissionError("the server has another password")
        if not answer.startswith(b"+OK"):
            raise ConnectionError("what listens there is no redismr server")


class Presence:
    """The same where REDISMR_URL names the Redis: a server is there while it listens to commands.

    Raises:
        ConnectionRefusedError: none is.
        RedismrError: the Redis does not answer.
    """

    def __init__(self, connection: Connection, label: str) -> None:
        self._store = Store(connection, name="mincemeat-line")
        self._channel = self._store.keys.events(self._store.link.db, label)
        self._closed = threading.Event()
        if not self._served():
            raise ConnectionRefusedError(f"no mincemeat server uses {self._store.link.where} now")

    def wait(self, still: Callable[[], bool]) -> None:
        """Return when no server listens any more, ``close`` was called, or ``still()`` is false."""
        with contextlib.suppress(RedismrError):  # the Redis is gone, and the server with it
            while still() and not self._closed.wait(_LOOK_EVERY) and self._served():
                pass

    def close(self) -> None:
        """Who waits returns at once."""
        self._closed.set()

    def release(self) -> None:
        """Close the connections."""
        self._store.link.close()

    def _served(self) -> bool:
        return bool(self._store.link.one("PUBSUB", "NUMSUB", self._channel)[1])
