"""What ``Server`` and ``Client`` share: a name, hooks, timers, a place in a loop's map, an end."""

from __future__ import annotations

import functools
import logging
import socket
import threading
from collections import deque
from collections.abc import MutableSequence
from multiprocessing.context import get_spawning_popen
from typing import Any

from redismr.compat import command_relay, timers
from redismr.compat.channels import CommandSender

log = logging.getLogger("mincemeat")

_USER_FUNCTIONS = frozenset({"mapfn", "collectfn", "reducefn", "finishfn", "resultfn"})
_NOT_SHIPPED = _USER_FUNCTIONS | {"password", "error", "schedule", "output", "taskmanager"}
"""Attributes that do not go to a worker with a method of an endpoint's: the first least of all."""


class Endpoint(CommandSender):
    """One end of the line.

    A daemon calls ``starting`` with its options, then ``process`` and ``timeout`` in turn, and
    ``stopping`` at the end; they are for subclasses, which call them here as well.
    """

    addr: tuple[Any, Any] | None = None
    """Where the server is."""

    locl: tuple[Any, Any] | None = None
    """Where this end is, if that is not the server's."""

    what: str | None = None

    def __init__(
        self,
        map: dict[int, Any] | None = None,  # noqa: A002  the fork's word
        schedule: MutableSequence[timers.Timer] | None = None,
        shuttout: float | None = None,
    ) -> None:
        del shuttout  # nobody has to wait for sockets
        self.schedule = deque[timers.Timer]() if schedule is None else schedule
        self.error: BaseException | None = None
        self._map = timers.default_map if map is None else map
        self._ended, self._closing = threading.Event(), threading.Event()
        self._relay: command_relay.Relay | None = None

    def __reduce__(self) -> Any:
        """A method of it used as mapfn: only what its subclass and user gave it travels.

        To a process that multiprocessing starts it goes whole, to be a client there.
        """
        spawned = get_spawning_popen() is not None
        not_shipped = _NOT_SHIPPED - _USER_FUNCTIONS - {"password"} if spawned else _NOT_SHIPPED
        names = [name for name in vars(self) if name[0] != "_" and name not in not_shipped]
        state = {name: vars(self)[name] for name in names}
        if spawned:
            return _unconnected_copy, (type(self), state)
        return _copy_on_worker, (type(self), state, self._relay and self._relay.address)

    def name(self, what: str | None = None, peer: Any = None) -> str:
        """Who it is, for people; ``what`` is what to call it from now on."""
        del peer
        self.what = what or self.what or type(self).__name__
        host, port = self.locl or self.addr or (None, None)
        return f"{self.what}@{host}:{port}"

    def authenticated(self, timeout: float | None = 0.0) -> bool:
        """Whether it is, or was, connected, within ``timeout`` seconds; None waits."""
        raise NotImplementedError

    @property
    def auth(self) -> str | None:
        """``authenticated`` in the words of early versions: "Done", or None."""
        return "Done" if self.authenticated() else None

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._ended.is_set()

    @property
    def shutdown(self) -> bool:
        """Whether it is to end, or has."""
        return self._closing.is_set() or self._ended.is_set()

    def ended(self, timeout: float | None = 0.0) -> bool:
        """Whether it does nothing any more, within ``timeout`` seconds, however that came."""
        return self._ended.wait(timeout)

    # -- what a daemon calls ------------------------------------------------------

    def starting(self, *_: Any, interval: float | None = None, **_options: Any) -> None:
        """The daemon begins: ping every ``interval`` seconds."""
        if interval:
            self.schedule.append((timers.timer() + interval, self.ping, interval))

    def process(self, timeout: float | None = None) -> bool:
        """Fire timers until ``timeout`` seconds are over, or all in our map have ended.

        Whether any of them is still open. None waits for their end.
        """
        return timers.process(timeout, self._map, self.schedule)

    def timeout(self) -> float | None:
        """Called regularly; after how many seconds to call it again, if that is sooner."""
        return self.health()

    def health(self) -> float | None:
        """Called by ``timeout``. For subclasses."""
        return None

    def stopping(self) -> None:
        """The daemon ends. For subclasses."""

    # -- the map ------------------------------------------------------------------

    def _reset_state(self) -> None:
        self.error = None
        self._ended.clear()
        self._closing.clear()

    def _add_to_map(self) -> None:
        self._map[id(self)] = self

    def _remove_from_map(self) -> None:
        with timers.endpoint_ended:  # a loop that finds its map empty finds us ended, too
            self._map.pop(id(self), None)
            self._ended.set()
            timers.endpoint_ended.notify_all()


def pong_data(data: Any) -> tuple[str, Any]:
    """What a pong carries: who says so, and the payload of the ping, which may have none."""
    payload = data[1] if isinstance(data, tuple | list) and len(data) > 1 else None
    return socket.getfqdn(), payload


def _unconnected_copy(kind: type[Endpoint], state: dict[str, Any]) -> Endpoint:
    """In another process: one of that class that is not connected, with these attributes."""
    endpoint = kind.__new__(kind)
    library_class = next(
        base for base in kind.__mro__ if base.__module__.startswith("redismr.compat.")
    )
    library_class.__init__(endpoint)  # type: ignore[misc]  # a subclass's own may need what we do not know
    vars(endpoint).update(state)
    return endpoint


def _copy_on_worker(
    kind: type[Endpoint], state: dict[str, Any], address: command_relay.Address | None
) -> Endpoint:
    """On a worker: what the endpoint's own methods need of it."""
    endpoint = _unconnected_copy(kind, state)
    vars(endpoint)["send_command"] = functools.partial(command_relay.send_through_relay, address)
    return endpoint
