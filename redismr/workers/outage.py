"""When Redis went away and when it came back, each said once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger("redismr.worker")

Duty = Callable[[], Any]


class Outage:
    """Which of the duties that recur have failed when they were last done. True while one has.

    Some may succeed while others fail: a server that takes no writes still answers reads. So it is
    back only when all that failed have been done.
    """

    def __init__(self) -> None:
        self._failing = set[Duty]()

    def __bool__(self) -> bool:
        """Whether it goes on."""
        return bool(self._failing)

    def met(self, duty: Duty, exc: Exception) -> None:
        """A duty has failed."""
        if not self._failing:
            log.warning("%s; waiting for it", exc)
        self._failing.add(duty)

    def done(self, duty: Duty) -> None:
        """A duty was done."""
        if self._failing == {duty}:
            log.info("Redis is back")
        self._failing.discard(duty)
