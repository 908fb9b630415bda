"""The server that a script's workers join.

One per process and port, kept until the script ends, so that a hundred runs have one cold start.
With REDISMR_URL set it is that Redis, and neither port nor password mean anything.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from redismr import settings
from redismr.client import Client
from redismr.compat.commands import SERVER, Channel, Commands
from redismr.server import PrivateServer, start
from redismr.ui.errors import say

if TYPE_CHECKING:
    from redismr.config import Connection

DEFAULT_PORT = 11235

NAMESPACE = settings.DEFAULT_NAMESPACE
"""Of a server of our own: nobody else is there, and its workers need not be told."""


class Owner(Protocol):
    """Whose host it is at the moment."""

    def heard(self, chan: Channel, command: str, data: Any, txn: Any) -> None:
        """A client's command."""


class Host:
    """A server at a port, or the Redis of REDISMR_URL, and a client of it."""

    def __init__(self, interface: str, port: int, password: str) -> None:
        self.made_as = (interface, password)
        self.server: PrivateServer | None = None
        self.owner: Owner | None = None
        named = named_server()
        if named is None:
            self.server = _started(interface, port, password)
            named = self.server.connection
        self.port = (self.server and self.server.port) or port
        try:
            self.client = Client(named.url, secret=named.secret, namespace=named.namespace)
        except BaseException:
            if self.server:
                self.server.close()
            raise
        self.commands = Commands(named, self.port, SERVER, self._heard)
        self.commands.ready()

    @property
    def alive(self) -> bool:
        """Whether it still can be used."""
        return self.server is None or self.server.alive

    def how_to_join(self) -> str:
        """The command that adds a worker."""
        if self.server is None:
            return "redismr worker"
        port = "" if self.port == DEFAULT_PORT else f" -P {self.port}"
        password = " -p PASSWORD" if self.made_as[1] else ""
        return f"redismr mincemeat{password}{port} HOST"

    def release(self, *, close: bool) -> None:
        """The owner is done with it; clients of this process end with that, as they did."""
        with _lock:
            self.owner = None
            if close:
                _forget(self)
        for client in list(guests.get(self.port, ())):
            client.close()

    def end(self) -> None:
        """Close the connections, and the port."""
        self.commands.close()
        self.client.close()
        if self.server:
            self.server.close()

    def _heard(self, sender: str, command: str, data: Any, txn: Any) -> None:
        if owner := self.owner:
            owner.heard(Channel(self.commands, sender), command, data, txn)


guests: dict[int, set[Any]] = {}
"""Clients of this process, by the port that they are connected to."""

_hosts: dict[int, Host] = {}
_lock = threading.RLock()


def take(owner: Owner, interface: str, port: int, password: str) -> Host:
    """A host for this owner alone: the port's own one if it is free, else a new one.

    Raises:
        OSError: EADDRINUSE, the port is taken, by this process or another.
        ConfigError: there is no server binary. StoreUnavailable: the server did not start.
    """
    with _lock:
        host = _hosts.get(port)
        busy = host is not None and host.owner is not None
        if busy and host is not None and host.server is not None:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), _place(interface, port))
        if busy:  # on a Redis there is room for several
            host = Host(interface, port, password)
        elif host is None or not host.alive or host.made_as != (interface, password):
            if host is not None:
                _forget(host)
            host = _hosts[port] = Host(interface, port, password)
        host.owner = owner
        return host


def named_server() -> Connection | None:
    """The server that the environment names; a server that a task starts is the task's own."""
    # Executors have dropped the secret; the URL in their environment is their worker's.
    in_task = "redismr.workers.executor" in sys.modules and settings.find_secret() is None
    return None if in_task else settings.resolve()


def as_text(password: str | bytes | None) -> str:
    """A password of either kind."""
    if isinstance(password, bytes):
        return password.decode(errors="backslashreplace")
    return password or ""


def _started(interface: str, port: int, password: str) -> PrivateServer:
    bind = interface
    if not password and interface not in {"localhost", "127.0.0.1", "::1"}:
        say(
            f"no password: only this machine can join port {port}. Give run_server a password to "
            "let others in",
            sys.stderr,
        )
        bind = "127.0.0.1"
    return start(bind=bind, port=port, password=password, namespace=NAMESPACE)


def _forget(host: Host) -> None:
    for port, known in list(_hosts.items()):
        if known is host:
            del _hosts[port]
    host.end()


def _place(interface: str, port: int) -> str:
    return f"{interface or '*'}:{port}"


def _leave_to_parent() -> None:
    """A forked child has none of its parent's servers."""
    global _lock  # noqa: PLW0603  another thread of the parent may have held it
    _lock = threading.RLock()
    _hosts.clear()
    guests.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
