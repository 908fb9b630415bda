"""A plain connection to the server, which tells of its end: nothing is asked over it but AUTH."""

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
"""A server that is started at the same moment is still tried; and a port is handed over in less
than a millisecond, in which who comes is turned away."""

_REFUSED_ERRORS = (ConnectionRefusedError, ConnectionResetError, BrokenPipeError)
_KEEPALIVE = (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4))


class ConnectionLiveness:
    """An authenticated connection.

    Raises:
        ConnectionRefusedError, OSError: nobody listens there.
        PermissionError: the password is not the server's.
        ConnectionError: what listens there is no server of ours.
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
        for option, seconds in _KEEPALIVE:  # a host that vanished is missed after 40 s
            if hasattr(socket, option):
                self._socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), seconds)

    def is_port_open(self) -> bool:
        """Whether the port is open to others at the moment."""
        try:
            socket.create_connection(self._address, _CHECK_SECONDS).close()
        except OSError:
            return False
        return True

    def wait(self, keep_waiting: Callable[[], bool]) -> None:
        """Return when the server ended, ``stop_waiting`` was called, or ``keep_waiting()`` is false."""  # noqa: E501
        while keep_waiting():
            try:
                ready, _, _ = select.select([self._socket], [], [], _CHECK_SECONDS)
                if ready and not self._socket.recv(4096):
                    return
            except (OSError, ValueError):  # reset, or closed by another thread
                return

    def stop_waiting(self) -> None:
        """Let go; who waits returns at once."""
        if os.getpid() == self._process:  # a forked child would end its parent's connection
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the socket back: nobody waits any more."""
        self._socket.close()

    def _open(self, password: str) -> socket.socket:
        sock = socket.create_connection(self._address, _CONNECT_TIMEOUT_SECONDS)
        try:
            self._authenticate(sock, derived_credentials(password).auth)
        except BaseException:
            sock.close()
            raise
        return sock

    @staticmethod
    def _authenticate(sock: socket.socket, auth: str) -> None:
        sock.sendall(f"AUTH {JOIN_USER} {auth}\r\n".encode())
        answer = b""
        while not answer.endswith(b"\n") and (piece := sock.recv(256)):
            answer += piece
        if answer.startswith((b"-WRONGPASS", b"-ERR AUTH", b"-NOAUTH")):
            raise PermissionError("the server has another password")
        if not answer.startswith(b"+OK"):
            raise ConnectionError("what listens there is no redismr server")


class ListenerLiveness:
    """The same where REDISMR_URL names the Redis: a server is there while it listens to commands.

    A client that ``waits_for_next_run`` needs none but at first, as any server of that Redis will
    do.

    Raises:
        ConnectionRefusedError: none is.
        RedismrError: the Redis does not answer.
    """

    def __init__(self, connection: Connection, label: str, *, waits_for_next_run: bool) -> None:
        self._waits_for_next_run = waits_for_next_run
        self._store = Store(connection, name="mincemeat-line")
        self._label = label
        self._closed = threading.Event()
        if not self._has_listener():
            raise ConnectionRefusedError(
                f"no mincemeat server uses {self._store.server.shown_address} now"
            )

    def wait(self, keep_waiting: Callable[[], bool]) -> None:
        """Return when no server listens any more, ``stop_waiting`` was called, or ``keep_waiting()`` is false."""  # noqa: E501
        with contextlib.suppress(RedismrError):  # the Redis is gone, and the server with it
            while keep_waiting() and not self._closed.wait(_CHECK_SECONDS):
                if not (self._has_listener() or self._waits_for_next_run):
                    break

    def stop_waiting(self) -> None:
        """Who waits returns at once."""
        self._closed.set()

    def close(self) -> None:
        """Close the connections."""
        self._store.server.close()

    def _has_listener(self) -> bool:
        return self._store.has_listener(self._label)
