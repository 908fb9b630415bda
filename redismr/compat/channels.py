"""The two ends of a line of user commands, and the server's end for each of its clients."""

from __future__ import annotations

import socket
from typing import Any

from redismr.compat import timers
from redismr.compat.user_commands import CommandBus


class CommandSender:
    """An object with ``send_command`` and a ``name``: a server, a client, or a channel."""

    def name(self) -> str:
        """Return the name that texts use."""
        raise NotImplementedError

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send the other end a command. Call it from any thread."""
        raise NotImplementedError

    def send_command_backchannel(
        self, command: str, data: Any = None, txn: Any = None, timeout: float | None = None
    ) -> None:
        """Send the other end a command; the same as ``send_command``, which any thread may call."""
        del timeout
        self.send_command(command, data, txn)

    def ping(
        self, message: Any = None, payload: Any = None, now: float | None = None, **_: Any
    ) -> None:
        """Ask the other end to answer; ``pong`` is called with the answer."""
        ping_data = message or f"from {socket.getfqdn()}", payload or self.name()
        self.send_command("ping", ping_data, f"{now or timers.timer():.6f}")

    @staticmethod
    def ping_delay(txn: Any, now: float | None = None) -> tuple[float, str]:
        """Return how long ago the ping of this pong was sent, in seconds and as text."""
        try:
            delay = (timers.timer() if now is None else now) - float(txn)
        except (TypeError, ValueError):
            return 0.0, "?"
        return delay, f"{delay:.3f} s" if delay >= 0 else "?"


class Channel(CommandSender):
    """The server's end of the line to one client. Channels to the same client are equal."""

    def __init__(self, command_bus: CommandBus, client_name: str) -> None:
        self.client_name, self._command_bus = client_name, command_bus
        host, _, process = client_name.partition(":")
        self.addr = host, process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and self.client_name == other.client_name

    def __hash__(self) -> int:
        return hash(self.client_name)

    def name(self) -> str:
        """Return the name that texts use."""
        return f"SvrChn>{self.client_name}"

    @property
    def closed(self) -> bool:
        """True if the client is no longer connected."""
        return self.client_name not in self._command_bus.connected_clients()

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send the client a command. Call it from any thread."""
        self._command_bus.send(self.client_name, command, data, txn)

    def handle_close(self) -> None:
        """Make the client leave."""
        self.send_command("disconnect")

    close = handle_close
