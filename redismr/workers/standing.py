"""How a worker stands with its server: whether that may be worked for, and whether it answers."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

from redismr.errors import KeysAltered, StoreError, StoreFull, StoreUnavailable, UnfitServer

log = logging.getLogger("redismr.worker")

Duty = Callable[[], Any]

MOST_REFUSED_SECONDS = 30.0
"""How long an executor is not replaced, at most, after the server has refused what it needs."""


class Standing:
    """What became of the duties that need Redis, each said once.

    Some may succeed while others fail: a server that takes no writes still answers reads. So it is
    back only when all that failed have been done.

    Attributes:
        fit: the server may be worked for. False until it was looked at, and after it has refused.
    """

    def __init__(self, *, fit: bool) -> None:
        self.fit = fit
        self._failing = set[Duty]()

    @property
    def away(self) -> bool:
        """Whether a duty failed when it was last done."""
        return bool(self._failing)

    def pause(self, seconds: float) -> float:
        """Until the next tick, at every so many seconds.

        Sooner while Redis is away: a lease bears two ticks that are missed, not three.
        """
        return seconds * (random.uniform(0.2, 0.5) if self.away else 1.0)

    def guarded(self, duty: Duty, made_good_by: Duty) -> None:
        """Do a duty; without Redis, say so once, and again when that which makes it good is done.

        Raises:
            UnfitServer: the server may never be worked for as it is.
        """
        try:
            duty()
        except UnfitServer:
            raise
        except StoreError as exc:
            if not self._failing:
                log.warning("%s; waiting for it", exc)
            self._failing.add(made_good_by)
            if not isinstance(exc, StoreUnavailable | StoreFull | KeysAltered):
                self.fit = False
        else:
            if self._failing == {duty}:
                log.info("Redis is back")
            self._failing.discard(duty)

    def refused(self, crashes: int) -> float:
        """The server has refused an executor, so many times in a row: when to try another one."""
        self.fit = False
        return min(MOST_REFUSED_SECONDS, 0.5 * 2.0 ** min(crashes - 1, 10)) if crashes else 0.5
