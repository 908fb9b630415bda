"""Who speaks over the line of commands, and the server's end of it for each of its clients."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from redismr.compat import timers

if TYPE_CHECKING:
    from redismr.compat.commands import Commands


class Speaker:
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
        said = message or f"from {socket.getfqdn()}", payload or self.name()
        self.send_command("ping", said, f"{now or timers.timer():.6f}")

    @staticmethod
    def ping_delay(txn: Any, now: float | None = None) -> tuple[float, str]:
        """How long ago the ping was sent that a pong's txn tells of, in seconds and for people."""
        try:
            delay = (timers.timer() if now is None else now) - float(txn)
        except (TypeError, ValueError):
            return 0.0, "?"
        return delay, f"{delay:.3f} s" if delay >= 0 else "?"


class Channel(Speaker):
    """The server's end of the line to one client. Those of the same client are equal."""

    def __init__(self, commands: Commands, to: str) -> None:
        self.to, self._commands = to, commands
        host, _, process = to.partition(":")
        self.addr = host, process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and self.to == other.to

    def __hash__(self) -> int:
        return hash(self.to)

    def name(self) -> str:
        """Who it is, for people."""
        return f"SvrChn>{self.to}"

    @property
    def closed(self) -> bool:
        """Whether the client is gone."""
        return self.to not in self._commands.clients()

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send the client a command. From any thread."""
        self._commands.send(self.to, command, data, txn)

    def handle_close(self) -> None:
        """Have the client leave."""
        self.send_command("disconnect")

    close = handle_close


def channels(commands: Commands) -> dict[Channel, None]:
    """The channels of those clients that are there now: a server's ``taskmanager.channels``.

    Made at each look, so that it may be walked while clients come and go. The values are None, as
    the fork's are for idle clients: what each is doing is not known here.
    """
    return {Channel(commands, name): None for name in commands.clients()}
