"""The server that the workers of a script join.

There is one per process and port. It is kept until the script ends, so that a hundred runs have one
cold start. Its port is open only while a run is on, as that of mincemeat.py was. If REDISMR_URL is
set, that Redis is the server; the password then means nothing, and the port is only a name.
Executors have no such variable, so a function on a worker gets a server of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import multiprocessing.util  # noqa: F401  our exit handler must run before the one of this module
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import redismr
from redismr.compat import doorway
from redismr.compat.user_commands import ALL_CLIENTS, SERVER, Channel, CommandBus
from redismr.errors import StoreUnavailable

MINCEMEAT_PORT = 11235
NAMESPACE = doorway.DEFAULT_NAMESPACE  # of a private server: clients need not be told

HELLO, SERVING, RELEASED = ":hello", ":serving", ":released"
"""The command of a new client, and the answers to all clients: a run is on, or it is over."""

Owner = Callable[[Channel, str, Any, Any], object]
"""Called with each command of a client, ``(channel, command, data, txn)``, while a run is on."""


class HostedServer:
    """A private server at a port, or the Redis that the environment names, with a client of it."""

    def __init__(
        self, owner: Owner, interface: str, port: int, password: str, how_to_open: str
    ) -> None:
        self.requested_port, self.bind_and_password = port, (interface, password)
        self.was_resumed = False
        self.server: doorway.PrivateServer | None = None
        self.owner: Owner | None = owner
        connection = doorway.resolve_connection()
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
        """True if the server can still be used."""
        return self.server is None or self.server.alive

    def how_to_join(self, command: str, default_port: int) -> str:
        """Return what to type to add a worker."""
        if self.server is None:
            return "redismr worker"
        port = "" if self.port == default_port else f" -P {self.port}"
        password = " -p PASSWORD" if self.bind_and_password[1] else ""
        return f"{command}{password}{port} HOST"

    def resume(self, owner: Owner) -> None:
        """Give the server to this owner, and let clients join again.

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
        """End the run: nobody can join, and clients leave, unless they wait for the next run."""
        with _lock(self.requested_port):
            self.owner = None
            if close or not self.alive or self not in _hosted_servers.values():
                _discard(self)
            elif self.server:
                with contextlib.suppress(StoreUnavailable):  # the server has just ended
                    self.server.listen(on=False)
                self.command_bus.send(ALL_CLIENTS, RELEASED)
            else:
                self.command_bus.close()  # clients of a named server look for a listener

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
            with _lock(self.requested_port):  # or the message of ``release`` might come before this
                self.command_bus.send(sender, SERVING if self.owner else RELEASED)
        elif owner := self.owner:
            owner(Channel(self.command_bus, sender), command, data, txn)


class WaitReporter:
    """Reports on stderr what a job waits for, each reason once; called with the job's progress.

    If there are no workers, it says how to start one: ``command`` uses ``default_port`` by itself.
    """

    def __init__(self, hosted_server: HostedServer, command: str, default_port: int) -> None:
        self._hosted_server, self._last_reason = hosted_server, ""
        self._command, self._default_port = command, default_port

    def __call__(self, progress: doorway.Progress) -> None:
        """Report a new reason to wait."""
        if not progress.waiting or progress.waiting == self._last_reason:
            return
        self._last_reason = reason = progress.waiting
        if all(worker.lost for worker in self._hosted_server.client.workers()):
            how = self._hosted_server.how_to_join(self._command, self._default_port)
            reason = f"no workers yet; to start one: {how}"
        doorway.print_message(f"waiting: {reason}", sys.stderr)


_hosted_servers: dict[int, HostedServer] = {}
_locks: dict[int, threading.Lock] = {}  # for each port: others need not wait for a server's start


def acquire_server(
    owner: Owner, interface: str, port: int, password: str, how_to_open: str
) -> HostedServer:
    """Return a hosted server for this owner alone: the port's own if it is free, else a new one.

    ``how_to_open`` says what the user must do to let others in, if there is no password.

    Raises:
        OSError: EADDRINUSE, the port is taken, by this process or another; or no such interface.
        ConfigError: there is no server binary.
        StoreUnavailable: the server did not start.
    """
    with _lock(port):
        if hosted_server := _hosted_servers.get(port):
            if hosted_server.owner is not None:
                if hosted_server.server is None:  # a Redis serves several at a time
                    return HostedServer(owner, interface, port, password, how_to_open)
                doorway.raise_address_error(errno.EADDRINUSE, interface, port)
            if hosted_server.alive and hosted_server.bind_and_password == (interface, password):
                hosted_server.resume(owner)
                return hosted_server
            _discard(hosted_server)
        hosted_server = _hosted_servers[port] = HostedServer(
            owner, interface, port, password, how_to_open
        )
        return hosted_server


def password_text(password: str | bytes | None) -> str:
    """Return a password as text. Bytes from the command line may be no UTF-8.

    Raises:
        ValueError: the text holds half of a surrogate pair.
    """
    try:
        given = password.encode(errors="surrogateescape") if isinstance(password, str) else password
    except UnicodeEncodeError:  # its text shows the password
        raise ValueError("the password holds half of a surrogate pair: no character") from None
    return (given or b"").decode(errors="backslashreplace")


def _lock(port: int) -> threading.Lock:
    return _locks.setdefault(port, threading.Lock())


def _start_hosted(
    interface: str, port: int, password: str, how_to_open: str
) -> doorway.PrivateServer:
    bind = interface
    if not password and interface not in {"localhost", "127.0.0.1", "::1"}:
        doorway.print_message(
            f"no password: only this machine can join port {port}. {how_to_open} to let others in",
            sys.stderr,
        )
        bind = "127.0.0.1"
    if bind:
        socket.getaddrinfo(bind, None)  # raises OSError for an unknown name
    return doorway.start(bind=bind, port=port, password=password, namespace=NAMESPACE)


def _discard(hosted_server: HostedServer) -> None:
    for port, other in list(_hosted_servers.items()):
        if other is hosted_server:
            del _hosted_servers[port]
    hosted_server.close()


@atexit.register
def _close_hosted_servers() -> None:
    """Close all servers: Python joins child processes next, which work until their server ends."""
    while _hosted_servers:
        _hosted_servers.popitem()[1].close()


def _forget_in_child() -> None:
    """Forget, in a forked child, the parent's servers, and the locks that its threads hold."""
    _locks.clear()
    _hosted_servers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
