"""The timers and the loop of the fork: ``schedule`` holds (expiry, callable, repeat or None)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, MutableSequence
from operator import itemgetter
from typing import Any

log = logging.getLogger("mincemeat")

Timer = tuple[float, Callable[[], object], float | None]

timer = time.time  # the clock of ``expiry``: seconds since 1970
schedule: MutableSequence[Timer] = []  # the timers of ``process`` if the caller passes none
default_map: dict[int, Any] = {}  # the map of endpoints that are given none, and of ``process``
endpoint_ended = threading.Condition()  # notified when an endpoint has ended
_schedule_lock = threading.Lock()
_RECHECK_SECONDS = 1.0


def minimum_time(*times: float | None) -> float | None:
    """Return the least of several times; None means never."""
    return min((t for t in times if t is not None), default=None)


def next_future_time(
    expiry: float, repeat: float, now: float | None = None
) -> tuple[float, float, float]:
    """Return when a repeated timer is due next, how many times it was missed, and how late it is.

    Lateness is counted from the last due time. A timer that is not due yet keeps its expiry: none
    missed, and the lateness is negative.
    """
    late = (timer() if now is None else now) - expiry
    if late < 0:
        return expiry, 0.0, late
    missed, passed = divmod(late, repeat)
    return expiry + (missed + 1) * repeat, missed, passed


def trigger(schedule: MutableSequence[Timer], now: float | None = None) -> float | None:
    """Call what is due, once each, in order of expiry; return when the next timer is due, or None.

    A timer that raises is logged, and the others go on. A timer that repeats is set again.
    """
    for _, call, _ in _take_due(schedule, timer() if now is None else now):
        try:
            call()
        except Exception:
            log.exception("a scheduled %r failed", call)
    return minimum_time(*(expiry for expiry, *_ in list(schedule)))


def run_due(schedule: MutableSequence[Timer], now: float | None = None) -> float | None:
    """Call ``trigger``, and return the seconds until the next timer is due."""
    upcoming = trigger(schedule, now)
    return None if upcoming is None else max(0.0, upcoming - timer())


def _take_due(schedule: MutableSequence[Timer], now: float) -> list[Timer]:
    """Take out and return the timers that are due; set those again that repeat."""
    due = []
    with _schedule_lock:  # loops of several threads may share a schedule
        due_now = [timer for timer in list(schedule) if timer[0] <= now]
        for entry in sorted(due_now, key=itemgetter(0)):
            try:
                schedule.remove(entry)
            except ValueError:  # its owner has removed it meanwhile
                continue
            due.append(entry)
            if entry[2]:
                expiry, missed, _ = next_future_time(entry[0], entry[2], now)
                if missed:
                    log.info("%d calls of %r were missed", missed, entry[1])
                schedule.append((expiry, entry[1], entry[2]))
    return due


def process(
    timeout: float | None = None,
    map: dict[int, Any] | None = None,  # noqa: A002  the name in the fork
    schedule: MutableSequence[Timer] | None = None,
) -> bool:
    """Fire timers for ``timeout`` seconds, or until no endpoint is open; True if one still is.

    The work itself is done by threads of the endpoints.
    """
    entries = globals()["schedule"] if schedule is None else schedule
    endpoint_map = default_map if map is None else map
    end = None if timeout is None else timer() + timeout
    while endpoint_map:
        until_next = run_due(entries)
        left = None if end is None else end - timer()
        if left is not None and left <= 0:
            break
        with endpoint_ended:
            if endpoint_map:  # a new timer wakes nobody, so look again
                endpoint_ended.wait(minimum_time(left, until_next, _RECHECK_SECONDS))
    with endpoint_ended:
        return bool(endpoint_map)


def close_all(map: dict[int, Any] | None = None, ignore_all: bool = False) -> None:  # noqa: A002, FBT001, FBT002
    """Close every endpoint of a map."""
    for endpoint in list((default_map if map is None else map).values()):
        try:
            endpoint.close()
        except Exception:
            if not ignore_all:
                raise
