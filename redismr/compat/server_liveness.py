"""Tells a client when its server has ended."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable

from redismr.compat.doorway import JOIN_USER, Connection, Store, derived_credentials
from redismr.errors import RedismrError

_CHECK_SECONDS = 0.5
_CONNECT_TIMEOUT_SECONDS = 10.0
_CONNECT_RETRY_SECONDS, _CONNECT_PAUSE_SECONDS = 0.3, 0.02
"""A refused client tries again for so long: its server may be starting at the same moment, and for
less than a millisecond nothing listens, when the early listener hands its port to the server."""

_REFUSED_ERRORS = (ConnectionRefusedError, ConnectionResetError, BrokenPipeError)
_KEEPALIVE = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))


class ConnectionLiveness:
    """A connection to a private server, which sends AUTH only; it ends when the server ends.

    Raises:
        ConnectionRefusedError, OSError: nothing listens there.
        PermissionError: the server has another password.
        ConnectionError: the listener is not a redismr server.
    """

    def __init__(self, host: str, port: int, password: str) -> None:
        self._process, self._address = os.getpid(), (host, port)
        deadline = time.monotonic() + _CONNECT_RETRY_SECONDS
        while True:
            try:
                self._socket = self._open(password)
                break
            except _REFUSED_ERRORS:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_CONNECT_PAUSE_SECONDS)
        self._socket.settimeout(None)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in _KEEPALIVE:  # a host that vanished is noticed after 40 s
            if hasattr(socket, option):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)

    def is_port_open(self) -> bool:
        """True if others can connect to the port now."""
        try:
            socket.create_connection(self._address, _CHECK_SECONDS).close()
        except OSError:
            return False
        return True

    def wait(self, keep_waiting: Callable[[], bool]) -> None:
        """Wait until the connection ends, ``keep_waiting()`` is false, or a thread stops it."""
        while keep_waiting():
            try:
                ready, _, _ = select.select([self._socket], [], [], _CHECK_SECONDS)
                if ready and not self._socket.recv(4096):
                    return
            except (OSError, ValueError):  # reset, or closed by another thread
                return

    def stop_waiting(self) -> None:
        """Make ``wait`` return at once. Call it from any thread."""
        if os.getpid() == self._process:  # a forked child would end the parent's connection
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket, once no thread waits."""
        self._socket.close()

    def _open(self, password: str) -> socket.socket:
        with contextlib.ExitStack() as closed_on_error:
            sock = socket.create_connection(self._address, _CONNECT_TIMEOUT_SECONDS)
            closed_on_error.enter_context(sock)
            sock.sendall(f"AUTH {JOIN_USER} {derived_credentials(password).auth}\r\n".encode())
            answer = b""
            while not answer.endswith(b"\n") and (piece := sock.recv(256)):
                answer += piece
            if answer.startswith((b"-WRONGPASS", b"-ERR AUTH", b"-NOAUTH")):
                raise PermissionError("the server has another password")
            if not answer.startswith(b"+OK"):
                raise ConnectionError("the listener is no redismr server")
            closed_on_error.pop_all()
        return sock


class ListenerLiveness:
    """A server's subscription on the Redis that the environment names; it ends with the server.

    A client that ``waits_for_next_run`` needs a server at first only: any later server of that
    Redis will do.

    Raises:
        ConnectionRefusedError: no server listens to commands.
        RedismrError: the Redis does not answer.
    """

    def __init__(self, connection: Connection, label: str, *, waits_for_next_run: bool) -> None:
        self._waits_for_next_run = waits_for_next_run
        self._store, self._label = Store(connection, name="mincemeat-line"), label
        self._closed = threading.Event()
        if not self._store.has_listener(label):
            raise ConnectionRefusedError(
                f"no mincemeat server uses {self._store.redis_client.shown_address} now"
            )

    def is_port_open(self) -> bool:
        """Return False: no port belongs to this server."""
        return False

    def wait(self, keep_waiting: Callable[[], bool]) -> None:
        """Wait until no server listens, ``keep_waiting()`` is false, or a thread stops it."""
        with contextlib.suppress(RedismrError):  # the Redis has ended, and the server with it
            while keep_waiting() and not self._closed.wait(_CHECK_SECONDS):
                if not (self._store.has_listener(self._label) or self._waits_for_next_run):
                    break

    def stop_waiting(self) -> None:
        """Make ``wait`` return at once. Call it from any thread."""
        self._closed.set()

    def close(self) -> None:
        """Close the connections."""
        self._store.redis_client.close()
