"""The fork's timers and its loop: ``schedule`` holds (expiry, callable, repeat or None)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, MutableSequence
from typing import Any

log = logging.getLogger("mincemeat")

Timer = tuple[float, Callable[[], object], float | None]

timer = time.time
"""The clock of ``expiry``."""

schedule: MutableSequence[Timer] = []
"""The timers of whoever names none of its own."""

_schedule_lock = threading.Lock()

default_map: dict[int, Any] = {}
"""The map of whoever names none of its own."""

endpoint_ended = threading.Condition()
"""Notified when an endpoint has ended."""

_RECHECK_SECONDS = 1.0


def minimum_time(*times: float | None) -> float | None:
    """The least of several times, of which None is never."""
    return min((t for t in times if t is not None), default=None)


def next_future_time(
    expiry: float, repeat: float, now: float | None = None
) -> tuple[float, float, float]:
    """When a repeated timer is due next, how many times were missed, and the time since the last.

    One that is not due yet stays as it is: none missed, and the time since is negative.
    """
    late = (timer() if now is None else now) - expiry
    if late < 0:
        return expiry, 0.0, late
    missed, passed = divmod(late, repeat)
    return expiry + (missed + 1) * repeat, missed, passed


def trigger(schedule: MutableSequence[Timer], now: float | None = None) -> float | None:
    """Call what is due, once each, in order of expiry; when the next one is due, None if never.

    A timer that raises is logged and no reason to stop; one that repeats is set again.
    """
    for _, call, _ in _take_due(schedule, timer() if now is None else now):
        try:
            call()
        except Exception:
            log.exception("a scheduled %r failed", call)
    return minimum_time(*(expiry for expiry, *_ in list(schedule)))


def run_due(schedule: MutableSequence[Timer], now: float | None = None) -> float | None:
    """``trigger``, but what it returns are the seconds until then."""
    upcoming = trigger(schedule, now)
    return None if upcoming is None else max(0.0, upcoming - timer())


def _take_due(schedule: MutableSequence[Timer], now: float) -> list[Timer]:
    """What is due, taken out, and set again where it repeats."""
    due = []
    with _schedule_lock:  # loops of several threads may share a schedule
        for entry in sorted((one for one in list(schedule) if one[0] <= now), key=_expiry):
            try:
                schedule.remove(entry)
            except ValueError:  # its owner took it back meanwhile
                continue
            due.append(entry)
            if entry[2]:
                at, missed, _ = next_future_time(entry[0], entry[2], now)
                if missed:
                    log.info("%d calls of %r came too late", missed, entry[1])
                schedule.append((at, entry[1], entry[2]))
    return due


def _expiry(entry: Timer) -> float:
    return entry[0]


def process(
    timeout: float | None = None,
    map: dict[int, Any] | None = None,  # noqa: A002  the ancestors' word
    schedule: MutableSequence[Timer] | None = None,
) -> bool:
    """Fire timers until ``timeout`` seconds are over or no endpoint is open; whether one still is.

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
            if endpoint_map:  # others set timers without a word, so we look again
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
