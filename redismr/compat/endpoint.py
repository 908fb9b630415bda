"""The base of ``Server`` and ``Client``: a name, hooks, timers, a place in a loop's map, an end."""

from __future__ import annotations

import functools
import logging
import socket
import threading
from collections import deque
from collections.abc import MutableSequence
from multiprocessing.context import get_spawning_popen
from typing import Any

from redismr.compat import timers
from redismr.compat.user_commands import CommandSender, Relay, send_through_relay

log = logging.getLogger("mincemeat")

_USER_FUNCTIONS = frozenset({"mapfn", "collectfn", "reducefn", "finishfn", "resultfn"})
_NOT_SHIPPED = _USER_FUNCTIONS | {"password", "error", "schedule", "output", "taskmanager"}
"""Attributes that do not travel to a worker with an endpoint's method: above all the password."""


class Endpoint(CommandSender):
    """One end of the line: a server or a client.

    A daemon calls ``starting`` with its options, then ``process`` and ``timeout`` in turn, and
    ``stopping`` at the end. Subclasses may override these, and call these methods as well.
    """

    addr: tuple[Any, Any] | None = None  #: of the server
    locl: tuple[Any, Any] | None = None  #: of this end, if it is not the server
    what: str | None = None

    def __init__(
        self,
        map: dict[int, Any] | None = None,  # noqa: A002  the name in the fork
        schedule: MutableSequence[timers.Timer] | None = None,
        shuttout: float | None = None,
    ) -> None:
        del shuttout  # nothing here waits for sockets
        self.schedule = deque[timers.Timer]() if schedule is None else schedule
        self.error: BaseException | None = None
        self._map = timers.default_map if map is None else map
        self._ended, self._closing = threading.Event(), threading.Event()
        self._relay: Relay | None = None

    def __reduce__(self) -> Any:
        """Pickle only what the subclass and the user set, for a method that is used as mapfn.

        An endpoint goes whole to a process that multiprocessing starts, to be a client there.
        """
        spawned = get_spawning_popen() is not None
        not_shipped = _NOT_SHIPPED - _USER_FUNCTIONS - {"password"} if spawned else _NOT_SHIPPED
        state = {n: v for n, v in vars(self).items() if n[0] != "_" and n not in not_shipped}
        if not spawned:  # on a worker, commands go through the client
            address = self._relay.address if self._relay else None
            state["send_command"] = functools.partial(send_through_relay, address)
        return _unconnected_copy, (type(self), state)

    def name(self, what: str | None = None, peer: Any = None) -> str:
        """Return the name that texts use; ``what`` is its first part from now on."""
        del peer
        self.what = what or self.what or type(self).__name__
        host, port = self.locl or self.addr or (None, None)
        return f"{self.what}@{host}:{port}"

    def authenticated(self, timeout: float | None = 0.0) -> bool:
        """True if this endpoint is or was connected, within ``timeout`` seconds; None waits."""
        raise NotImplementedError

    @property
    def auth(self) -> str | None:
        """``authenticated`` as early versions had it: "Done", or None."""
        return "Done" if self.authenticated() else None

    @property
    def closed(self) -> bool:
        """True if this endpoint has ended."""
        return self._ended.is_set()

    @property
    def shutdown(self) -> bool:
        """True if this endpoint is ending, or has ended."""
        return self._closing.is_set() or self._ended.is_set()

    def ended(self, timeout: float | None = 0.0) -> bool:
        """True if this endpoint ends, in success or not, within ``timeout`` seconds."""
        return self._ended.wait(timeout)

    # -- what a daemon calls ------------------------------------------------------

    def starting(self, *_: Any, interval: float | None = None, **_options: Any) -> None:
        """Prepare for a daemon: ping every ``interval`` seconds."""
        if interval:
            self.schedule.append((timers.timer() + interval, self.ping, interval))

    def process(self, timeout: float | None = None) -> bool:
        """Fire timers for ``timeout`` seconds, or until all endpoints of the map have ended.

        Return True if one of them is still open. None waits for their end.
        """
        return timers.process(timeout, self._map, self.schedule)

    def timeout(self) -> float | None:
        """Return after how many seconds to call this again, if that is sooner. Called regularly."""
        return self.health()

    def health(self) -> float | None:
        """Called by ``timeout``. For subclasses."""
        return None

    def stopping(self) -> None:
        """Called when the daemon ends. For subclasses."""

    # -- the map ------------------------------------------------------------------

    def _reset_state(self) -> None:
        self.error = None
        self._ended.clear()
        self._closing.clear()

    def _remove_from_map(self) -> None:
        with timers.endpoint_ended:  # so a loop that finds its map empty finds this endpoint ended
            self._map.pop(id(self), None)
            self._ended.set()
            timers.endpoint_ended.notify_all()


def pong_data(data: Any) -> tuple[str, Any]:
    """Return the data of a pong: the name of this host, and the payload of the ping, if any."""
    payload = data[1] if isinstance(data, tuple | list) and len(data) > 1 else None
    return socket.getfqdn(), payload


def _unconnected_copy(kind: type[Endpoint], state: dict[str, Any]) -> Endpoint:
    """Make an endpoint of this class, not connected, with these attributes, in another process."""
    endpoint = kind.__new__(kind)
    library_class = next(
        base for base in kind.__mro__ if base.__module__.startswith("redismr.compat.")
    )
    library_class.__init__(endpoint)  # type: ignore[misc]  # the __init__ of a subclass may need unknown arguments
    vars(endpoint).update(state)
    return endpoint
