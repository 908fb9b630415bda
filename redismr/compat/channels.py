"""Who speaks over the line of commands, and the server's end of it for each of its clients."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from redismr.compat import timers

if TYPE_CHECKING:
    from redismr.compat.user_commands import CommandBus


class CommandSender:
    """What all can do who have ``send_command`` and a ``name``."""

    def name(self) -> str:
        """Who it is, for people."""
        raise NotImplementedError

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send the other end a command. From any thread."""
        raise NotImplementedError

    def send_command_backchannel(
        self, command: str, data: Any = None, txn: Any = None, timeout: float | None = None
    ) -> None:
        """The same: here every thread may send."""
        del timeout
        self.send_command(command, data, txn)

    def ping(
        self, message: Any = None, payload: Any = None, now: float | None = None, **_: Any
    ) -> None:
        """Have the other end answer; ``pong`` hears it."""
        ping_data = message or f"from {socket.getfqdn()}", payload or self.name()
        self.send_command("ping", ping_data, f"{now or timers.timer():.6f}")

    @staticmethod
    def ping_delay(txn: Any, now: float | None = None) -> tuple[float, str]:
        """How long ago the ping was sent that a pong's txn tells of, in seconds and for people."""
        try:
            delay = (timers.timer() if now is None else now) - float(txn)
        except (TypeError, ValueError):
            return 0.0, "?"
        return delay, f"{delay:.3f} s" if delay >= 0 else "?"


class Channel(CommandSender):
    """The server's end of the line to one client. Those of the same client are equal."""

    def __init__(self, command_bus: CommandBus, client_name: str) -> None:
        self.client_name, self._command_bus = client_name, command_bus
        host, _, process = client_name.partition(":")
        self.addr = host, process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and self.client_name == other.client_name

    def __hash__(self) -> int:
        return hash(self.client_name)

    def name(self) -> str:
        """Who it is, for people."""
        return f"SvrChn>{self.client_name}"

    @property
    def closed(self) -> bool:
        """Whether the client is gone."""
        return self.client_name not in self._command_bus.connected_clients()

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send the client a command. From any thread."""
        self._command_bus.send(self.client_name, command, data, txn)

    def handle_close(self) -> None:
        """Have the client leave."""
        self.send_command("disconnect")

    close = handle_close


def connected_channels(command_bus: CommandBus) -> dict[Channel, None]:
    """The channels of those clients that are there now: a server's ``taskmanager.channels``.

    Made at each look, so that it may be walked while clients come and go. The values are None, as
    the fork's are for idle clients: what each is doing is not known here.
    """
    return {Channel(command_bus, name): None for name in command_bus.connected_clients()}
