"""A plain connection to the server, which tells of its end: nothing is asked over it but AUTH."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from redismr.errors import RedismrError
from redismr.server.access import USER, derived_credentials
from redismr.store import Store

if TYPE_CHECKING:
    from redismr.config import Connection

_LOOK_EVERY = 0.5
_ANSWER_SECONDS = 10.0
_AGAIN_SECONDS, _AGAIN_EVERY = 0.3, 0.02
"""A server that is started at the same moment is still tried; and a port is handed over in less
than a millisecond, in which who comes is turned away."""

_TURNED_AWAY = (ConnectionRefusedError, ConnectionResetError, BrokenPipeError)
_KEEPALIVE = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))


class Line:
    """An authenticated connection.

    Raises:
        ConnectionRefusedError, OSError: nobody listens there.
        PermissionError: the password is not the server's.
        ConnectionError: what listens there is no server of ours.
    """

    def __init__(self, host: str, port: int, password: str) -> None:
        self._process, self._address = os.getpid(), (host, port)
        until = time.monotonic() + _AGAIN_SECONDS
        while True:
            try:
                self._socket = self._open(password)
                break
            except _TURNED_AWAY:
                if time.monotonic() > until:
                    raise
            time.sleep(_AGAIN_EVERY)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in _KEEPALIVE:  # a host that vanished is missed after 40 s
            if hasattr(socket, option):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)

    def somebody_listens(self) -> bool:
        """Whether the port is open to others at the moment."""
        try:
            socket.create_connection(self._address, _LOOK_EVERY).close()
        except OSError:
            return False
        return True

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

    def _open(self, password: str) -> socket.socket:
        line = socket.create_connection(self._address, _ANSWER_SECONDS)
        try:
            self._authenticate(line, derived_credentials(password).auth)
        except BaseException:
            line.close()
            raise
        return line

    @staticmethod
    def _authenticate(line: socket.socket, auth: str) -> None:
        line.sendall(f"AUTH {USER} {auth}\r\n".encode())
        answer = b""
        while not answer.endswith(b"\n") and (piece := line.recv(256)):
            answer += piece
        if answer.startswith((b"-WRONGPASS", b"-ERR AUTH", b"-NOAUTH")):
            raise PermissionError("the server has another password")
        if not answer.startswith(b"+OK"):
            raise ConnectionError("what listens there is no redismr server")


class Presence:
    """The same where REDISMR_URL names the Redis: a server is there while it listens to commands.

    Who ``stays`` needs none but at first, as any of that Redis is served.

    Raises:
        ConnectionRefusedError: none is.
        RedismrError: the Redis does not answer.
    """

    def __init__(self, connection: Connection, label: str, *, stays: bool) -> None:
        self._stays = stays
        self._store = Store(connection, name="mincemeat-line")
        self._channel = self._store.keys.events(self._store.link.db, label)
        self._closed = threading.Event()
        if not self._served():
            raise ConnectionRefusedError(f"no mincemeat server uses {self._store.link.where} now")

    def wait(self, still: Callable[[], bool]) -> None:
        """Return when no server listens any more, ``close`` was called, or ``still()`` is false."""
        with contextlib.suppress(RedismrError):  # the Redis is gone, and the server with it
            while still() and not self._closed.wait(_LOOK_EVERY):
                if not (self._served() or self._stays):
                    break

    def close(self) -> None:
        """Who waits returns at once."""
        self._closed.set()

    def release(self) -> None:
        """Close the connections."""
        self._store.link.close()

    def _served(self) -> bool:
        return bool(self._store.link.one("PUBSUB", "NUMSUB", self._channel)[1])
