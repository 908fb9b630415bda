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

_firing = threading.Lock()


endpoints: dict[int, Any] = {}
"""The map of whoever names none of its own."""

happened = threading.Condition()
"""Notified when an endpoint opens or ends, or when ``trigger`` is called."""


def trigger() -> None:
    """Have waiting loops look at their maps and timers now."""
    with happened:
        happened.notify_all()


def minimum_time(*times: float | None) -> float | None:
    """The least of several times, of which None is never."""
    return min((t for t in times if t is not None), default=None)


def next_future_time(expiry: float, repeat: float, now: float | None = None) -> float:
    """When a repeated timer is due next; what was missed is skipped."""
    late = (timer() if now is None else now) - expiry
    return expiry + repeat * (max(0, late // repeat) + 1)


def fire(schedule: MutableSequence[Timer], now: float | None = None) -> float | None:
    """Call what is due, once each; seconds until the next one, None if there is none.

    A timer that raises is logged and no reason to stop; one that repeats is set again.
    """
    now = timer() if now is None else now
    with _firing:  # loops of several threads may share a schedule
        due = [entry for entry in list(schedule) if entry[0] <= now]
        for entry in due:
            schedule.remove(entry)
            if entry[2]:
                at = next_future_time(entry[0], entry[2], now)
                if missed := round((at - entry[0]) / entry[2]) - 1:
                    log.info("%d calls of %r came too late", missed, entry[1])
                schedule.append((at, entry[1], entry[2]))
    for _, call, _ in due:
        try:
            call()
        except Exception:
            log.exception("a scheduled %r failed", call)
    upcoming = [expiry for expiry, *_ in list(schedule)]
    return max(0.0, min(upcoming) - timer()) if upcoming else None


def process(
    timeout: float | None = None,
    map: dict[int, Any] | None = None,  # noqa: A002  the ancestors' word
    schedule: MutableSequence[Timer] | None = None,
) -> None:
    """Fire what is due, then wait until the next timer, an endpoint's end, or ``timeout``.

    The work itself is done by threads of the endpoints: this may return sooner, and does at once
    if no endpoint is open and no timer is set.
    """
    entries = globals()["schedule"] if schedule is None else schedule
    until_next = fire(entries)
    if (endpoints if map is None else map) or until_next is not None:
        with happened:
            happened.wait(minimum_time(timeout, until_next, 1.0))
        fire(entries)


def close_all(map: dict[int, Any] | None = None, ignore_all: bool = False) -> None:  # noqa: A002, FBT001, FBT002
    """Close every endpoint of a map."""
    for endpoint in list((endpoints if map is None else map).values()):
        try:
            endpoint.close()
        except Exception:
            if not ignore_all:
                raise
