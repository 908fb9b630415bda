"""The server that a script's workers join.

One per process and port, kept until the script ends, so that a hundred runs have one cold start;
its port is open while a run is on, as it was. With REDISMR_URL set it is that Redis; the password
means nothing then, and the port is but a name.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import multiprocessing.util  # noqa: F401  its exit handler joins children: ours must come first
import os
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any, Protocol

from redismr import settings
from redismr.client import Client
from redismr.compat.channels import Channel
from redismr.compat.commands import EVERYBODY, SERVER, Commands
from redismr.config import DEFAULT_NAMESPACE
from redismr.errors import StoreUnavailable
from redismr.server import PrivateServer, start
from redismr.ui.errors import say

if TYPE_CHECKING:
    from redismr.config import Connection

DEFAULT_PORT = 11235

NAMESPACE = DEFAULT_NAMESPACE
"""Of a server of our own: nobody else is there, and its workers need not be told."""


HELLO, SERVING, RELEASED = ":hello", ":serving", ":released"
"""What a new client says, and what clients hear: a run is on, or it is over."""


class Owner(Protocol):
    """Whose host it is at the moment."""

    def heard(self, chan: Channel, command: str, data: Any, txn: Any) -> None:
        """A client's command."""


class Host:
    """A server at a port, or the Redis of REDISMR_URL, and a client of it."""

    def __init__(
        self, owner: Owner, interface: str, port: int, password: str, opening: str
    ) -> None:
        self.asked, self.made_as = port, (interface, password)
        self.resumed = False
        self.server: PrivateServer | None = None
        self.owner: Owner | None = owner
        named = named_server()
        if named is None:
            self.server = _started(interface, port, password, opening)
            named = self.server.connection
        self._connection = named
        self.port = (self.server and self.server.port) or port
        try:
            self.client = Client(named.url, secret=named.secret, namespace=named.namespace)
        except BaseException:
            if self.server:
                self.server.close()
            raise
        self.commands = self._listening()

    @property
    def alive(self) -> bool:
        """Whether it still can be used."""
        return self.server is None or self.server.alive

    def how_to_join(self, command: str, default_port: int) -> str:
        """How to type the command that adds a worker."""
        if self.server is None:
            return "redismr worker"
        port = "" if self.port == default_port else f" -P {self.port}"
        password = " -p PASSWORD" if self.made_as[1] else ""
        return f"{command}{password}{port} HOST"

    def resume(self, owner: Owner) -> None:
        """It is this owner's from now on, and clients may join again.

        Raises:
            OSError: EADDRINUSE, another process has the port now.
        """
        if self.server:
            self.server.listen()
            self.commands.send(EVERYBODY, SERVING)
        else:
            self.commands = self._listening()
        self.owner, self.resumed = owner, True

    def release(self, *, close: bool) -> None:
        """The owner is done with it: nobody can join, and clients end, but for those that stay."""
        with _lock(self.asked):
            self.owner = None
            if close or not self.alive or self not in _hosts.values():
                _forget(self)
            elif self.server:
                with contextlib.suppress(StoreUnavailable):  # it has just ended, and all with it
                    self.server.listen(on=False)
                self.commands.send(EVERYBODY, RELEASED)
            else:
                self.commands.close()  # clients of a named server look whether one listens

    def end(self) -> None:
        """Close the connections, and the port."""
        self.commands.close()
        self.client.close()
        if self.server:
            self.server.close()

    def _listening(self) -> Commands:
        commands = Commands(self._connection, self.port, SERVER, self._heard)
        commands.ready()
        return commands

    def _heard(self, sender: str, command: str, data: Any, txn: Any) -> None:
        if command == HELLO:
            with _lock(self.asked):  # else what ``release`` tells might come before this
                self.commands.send(sender, SERVING if self.owner else RELEASED)
        elif owner := self.owner:
            owner.heard(Channel(self.commands, sender), command, data, txn)


_hosts: dict[int, Host] = {}
_locks: dict[int, threading.Lock] = {}
"""For each port: a server takes a while to start, and other ports need not wait for that."""


def take(owner: Owner, interface: str, port: int, password: str, *, opening: str) -> Host:
    """A host for this owner alone: the port's own one if it is free, else a new one.

    ``opening`` says what the user has to do to let others in, where there is no password.

    Raises:
        OSError: EADDRINUSE, the port is taken, by this process or another; or no such interface.
        ConfigError: there is no server binary. StoreUnavailable: the server did not start.
    """
    with _lock(port):
        host = _hosts.get(port)
        if host is not None and host.owner is not None:
            if host.server is None:  # on a Redis there is room for several
                return Host(owner, interface, port, password, opening)
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), _place(interface, port))
        if host is not None and host.alive and host.made_as == (interface, password):
            host.resume(owner)
            return host
        if host is not None:
            _forget(host)
        host = _hosts[port] = Host(owner, interface, port, password, opening)
        return host


def named_server() -> Connection | None:
    """The server that the environment names. Executors name none: a task's server is its own."""
    return settings.resolve()


def as_text(password: str | bytes | None) -> str:
    """A password of either kind. One from the command line may hold bytes that are no text.

    Raises:
        ValueError: it holds what is no character.
    """
    try:
        given = password.encode(errors="surrogateescape") if isinstance(password, str) else password
    except UnicodeEncodeError:  # which shows the password
        raise ValueError("the password holds half of a surrogate pair: no character") from None
    return (given or b"").decode(errors="backslashreplace")


def _lock(port: int) -> threading.Lock:
    return _locks.setdefault(port, threading.Lock())


def _started(interface: str, port: int, password: str, opening: str) -> PrivateServer:
    bind = interface
    if not password and interface not in {"localhost", "127.0.0.1", "::1"}:
        say(
            f"no password: only this machine can join port {port}. {opening} to let others in",
            sys.stderr,
        )
        bind = "127.0.0.1"
    if bind:
        socket.getaddrinfo(bind, None)  # raises OSError for a name that is none
    return start(bind=bind, port=port, password=password, namespace=NAMESPACE)


def _forget(host: Host) -> None:
    for port, known in list(_hosts.items()):
        if known is host:
            del _hosts[port]
    host.end()


def _place(interface: str, port: int) -> str:
    return f"{interface or '*'}:{port}"


@atexit.register
def _close_all() -> None:
    """Children that work for us are joined at exit: they end with their server."""
    while _hosts:
        _hosts.popitem()[1].end()


def _leave_to_parent() -> None:
    """A forked child has none of its parent's servers, and none of the locks of its threads."""
    _locks.clear()
    _hosts.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
