"""What ``Server`` and ``Client`` share: a place in a loop's map, timers, commands, an end."""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import MutableSequence
from typing import Any

from redismr.compat import timers

log = logging.getLogger("mincemeat")

_FUNCTIONS = frozenset({"mapfn", "collectfn", "reducefn", "finishfn", "resultfn"})
_STAY = _FUNCTIONS | {"password", "error", "schedule", "output", "taskmanager"}
"""Attributes that do not go to a worker with a method of an endpoint's: the first least of all."""


class Endpoint:
    """One end of the line."""

    def __init__(
        self,
        map: dict[int, Any] | None = None,  # noqa: A002  the fork's word
        schedule: MutableSequence[timers.Timer] | None = None,
        shuttout: float | None = None,
    ) -> None:
        del shuttout  # nobody has to wait for sockets
        self.schedule = deque[timers.Timer]() if schedule is None else schedule
        self.error: BaseException | None = None
        self._map = timers.endpoints if map is None else map
        self._ended, self._closing = threading.Event(), threading.Event()

    def __reduce__(self) -> Any:
        """A method of it used as mapfn: only what its subclass and user gave it travels."""
        names = [name for name in vars(self) if name[0] != "_" and name not in _STAY]
        return _rebuilt, (type(self), {name: vars(self)[name] for name in names})

    def ended(self, timeout: float | None = 0.0) -> bool:
        """Whether it does nothing any more, within ``timeout`` seconds, however that came."""
        return self._ended.wait(timeout)

    def process(self, timeout: float | None = None) -> None:
        """Fire timers, and wait for something to happen: the fork's loop."""
        timers.process(timeout, self._map, self.schedule)

    def ping(
        self, message: Any = None, payload: Any = None, now: float | None = None, **_: Any
    ) -> None:
        """Have the other end answer; ``pong`` hears it."""
        self.send_command("ping", (message, payload), f"{now or timers.timer():.6f}")

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send a command to the server, or to every client. From any thread."""
        raise NotImplementedError

    def send_command_backchannel(
        self, command: str, data: Any = None, txn: Any = None, timeout: float | None = None
    ) -> None:
        """The same: here every thread may send."""
        del timeout
        self.send_command(command, data, txn)

    def _begin(self) -> None:
        self.error = None
        self._ended.clear()
        self._closing.clear()

    def _join_loop(self) -> None:
        self._map[id(self)] = self

    def _leave_loop(self) -> None:
        self._map.pop(id(self), None)
        self._ended.set()
        timers.trigger()


def answer(data: Any) -> tuple[str, Any]:
    """What a pong carries: who says so, and the payload of the ping."""
    return socket.getfqdn(), data[1]


def _rebuilt(kind: type[Endpoint], state: dict[str, Any]) -> Endpoint:
    """On a worker: what the endpoint's own methods need of it."""
    endpoint = kind.__new__(kind)
    vars(endpoint).update(state)
    return endpoint
