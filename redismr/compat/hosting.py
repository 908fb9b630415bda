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
from typing import Any, Protocol

import redismr
from redismr.compat.channels import Channel
from redismr.compat.doorway import (
    DEFAULT_NAMESPACE,
    Connection,
    PrivateServer,
    print_message,
    resolve_connection,
    start,
)
from redismr.compat.user_commands import ALL_CLIENTS, SERVER, CommandBus
from redismr.errors import StoreUnavailable

MINCEMEAT_PORT = 11235

NAMESPACE = DEFAULT_NAMESPACE
"""Of a server of our own: nobody else is there, and its workers need not be told."""


HELLO, SERVING, RELEASED = ":hello", ":serving", ":released"
"""What a new client says, and what clients hear: a run is on, or it is over."""


class Owner(Protocol):
    """The user of a hosted server at the moment."""

    def on_client_command(self, chan: Channel, command: str, data: Any, txn: Any) -> None:
        """A client's command."""


class HostedServer:
    """A server at a port, or the Redis of REDISMR_URL, and a client of it."""

    def __init__(
        self, owner: Owner, interface: str, port: int, password: str, how_to_open: str
    ) -> None:
        self.requested_port, self.bind_and_password = port, (interface, password)
        self.was_resumed = False
        self.server: PrivateServer | None = None
        self.owner: Owner | None = owner
        connection = server_from_environment()
        if connection is None:
            self.server = _start_hosted(interface, port, password, how_to_open)
            connection = self.server.connection
        self._connection = connection
        self.port = (self.server and self.server.port) or port
        try:
            self.client = redismr.Client(
                connection.url, secret=connection.secret, namespace=connection.namespace
            )
        except BaseException:
            if self.server:
                self.server.close()
            raise
        self.command_bus = self._open_command_bus()

    @property
    def alive(self) -> bool:
        """Whether it still can be used."""
        return self.server is None or self.server.alive

    def how_to_join(self, command: str, default_port: int) -> str:
        """How to type the command that adds a worker."""
        if self.server is None:
            return "redismr worker"
        port = "" if self.port == default_port else f" -P {self.port}"
        password = " -p PASSWORD" if self.bind_and_password[1] else ""
        return f"{command}{password}{port} HOST"

    def resume(self, owner: Owner) -> None:
        """It is this owner's from now on, and clients may join again.

        Raises:
            OSError: EADDRINUSE, another process has the port now.
        """
        if self.server:
            self.server.listen()
            self.command_bus.send(ALL_CLIENTS, SERVING)
        else:
            self.command_bus = self._open_command_bus()
        self.owner, self.was_resumed = owner, True

    def release(self, *, close: bool) -> None:
        """The owner is done with it: nobody can join, and clients end, but for those that stay."""
        with _lock(self.requested_port):
            self.owner = None
            if close or not self.alive or self not in _hosted_servers.values():
                _discard(self)
            elif self.server:
                with contextlib.suppress(StoreUnavailable):  # it has just ended, and all with it
                    self.server.listen(on=False)
                self.command_bus.send(ALL_CLIENTS, RELEASED)
            else:
                self.command_bus.close()  # clients of a named server look whether one listens

    def close(self) -> None:
        """Close the connections, and the port."""
        self.command_bus.close()
        self.client.close()
        if self.server:
            self.server.close()

    def _open_command_bus(self) -> CommandBus:
        command_bus = CommandBus(self._connection, self.port, SERVER, self._on_command)
        command_bus.wait_until_listening()
        return command_bus

    def _on_command(self, sender: str, command: str, data: Any, txn: Any) -> None:
        if command == HELLO:
            with _lock(self.requested_port):  # else what ``release`` tells might come before this
                self.command_bus.send(sender, SERVING if self.owner else RELEASED)
        elif owner := self.owner:
            owner.on_client_command(Channel(self.command_bus, sender), command, data, txn)


_hosted_servers: dict[int, HostedServer] = {}
_locks: dict[int, threading.Lock] = {}
"""For each port: a server takes a while to start, and other ports need not wait for that."""


def acquire_server(
    owner: Owner, interface: str, port: int, password: str, *, how_to_open: str
) -> HostedServer:
    """A hosted server for this owner alone: the port's own one if it is free, else a new one.

    ``how_to_open`` says what the user has to do to let others in, where there is no password.

    Raises:
        OSError: EADDRINUSE, the port is taken, by this process or another; or no such interface.
        ConfigError: there is no server binary. StoreUnavailable: the server did not start.
    """
    with _lock(port):
        hosted_server = _hosted_servers.get(port)
        if hosted_server is not None and hosted_server.owner is not None:
            if hosted_server.server is None:  # on a Redis there is room for several
                return HostedServer(owner, interface, port, password, how_to_open)
            raise OSError(
                errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), _address_text(interface, port)
            )
        if (
            hosted_server is not None
            and hosted_server.alive
            and hosted_server.bind_and_password == (interface, password)
        ):
            hosted_server.resume(owner)
            return hosted_server
        if hosted_server is not None:
            _discard(hosted_server)
        hosted_server = _hosted_servers[port] = HostedServer(
            owner, interface, port, password, how_to_open
        )
        return hosted_server


def server_from_environment() -> Connection | None:
    """The server that the environment names. Executors name none: a task's server is its own."""
    return resolve_connection()


def password_text(password: str | bytes | None) -> str:
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


def _start_hosted(interface: str, port: int, password: str, how_to_open: str) -> PrivateServer:
    bind = interface
    if not password and interface not in {"localhost", "127.0.0.1", "::1"}:
        print_message(
            f"no password: only this machine can join port {port}. {how_to_open} to let others in",
            sys.stderr,
        )
        bind = "127.0.0.1"
    if bind:
        socket.getaddrinfo(bind, None)  # raises OSError for a name that is none
    return start(bind=bind, port=port, password=password, namespace=NAMESPACE)


def _discard(hosted_server: HostedServer) -> None:
    for port, known in list(_hosted_servers.items()):
        if known is hosted_server:
            del _hosted_servers[port]
    hosted_server.close()


def _address_text(interface: str, port: int) -> str:
    return f"{interface or '*'}:{port}"


@atexit.register
def _close_hosted_servers() -> None:
    """Children that work for us are joined at exit: they end with their server."""
    while _hosted_servers:
        _hosted_servers.popitem()[1].close()


def _forget_in_child() -> None:
    """A forked child has none of its parent's servers, and none of the locks of its threads."""
    _locks.clear()
    _hosted_servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
