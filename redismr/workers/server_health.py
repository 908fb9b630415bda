"""How a worker stands with its server: whether that may be worked for, and whether it answers."""

from __future__ import annotations

import contextlib
import logging
import platform
import random
from collections.abc import Callable
from typing import Any

from redismr.core.plurals import pluralize
from redismr.core.seal import Keyring
from redismr.errors import KeysAltered, StoreError, StoreFull, StoreUnavailable, UnfitServer
from redismr.store import Store

log = logging.getLogger("redismr.worker")

Duty = Callable[[], Any]

MAX_REFUSAL_PAUSE_SECONDS = 30.0
"""How long an executor is not replaced, at most, after the server has refused what it needs."""


class ServerHealth:
    """What became of the duties that need Redis, each said once.

    Some may succeed while others fail: a server that takes no writes still answers reads. So it is
    back only when all that failed have been done.

    Attributes:
        is_fit: the server may be worked for. False until it was looked at, and after it has
        refused.
    """

    def __init__(self, *, is_fit: bool) -> None:
        self.is_fit = is_fit
        self._was_fit = is_fit
        self._failing = set[Duty]()

    def mark_fit(self) -> bool:
        """The server was looked at, and may be worked for; True the first time."""
        self.is_fit = True
        first, self._was_fit = not self._was_fit, True
        return first

    @property
    def has_failures(self) -> bool:
        """Whether a duty failed when it was last done."""
        return bool(self._failing)

    def tick_pause(self, seconds: float) -> float:
        """Until the next tick, at every so many seconds.

        Sooner while Redis is away: a lease bears two ticks that are missed, not three.
        """
        return seconds * (random.uniform(0.2, 0.5) if self.has_failures else 1.0)

    def run_duty(self, duty: Duty, recovered_by: Duty) -> None:
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
            self._failing.add(recovered_by)
            if not isinstance(exc, StoreUnavailable | StoreFull | KeysAltered):
                self.is_fit = False
        else:
            if self._failing == {duty}:
                log.info("Redis is back")
            self._failing.discard(duty)

    def on_refusal(self, crashes: int) -> float:
        """The server has refused an executor, so many times in a row: when to try another one."""
        self.is_fit = False
        return min(MAX_REFUSAL_PAUSE_SECONDS, 0.5 * 2.0 ** min(crashes - 1, 10)) if crashes else 0.5


def log_ready(store: Store, keyring: Keyring, worker: str, executors: int) -> None:
    """Say that a worker waits for jobs, and where: once its server has let it in, not before.

    Also that every worker which is there already has another secret, which may be a mistake here.
    """
    log.info(
        "worker %s: %s, secret with fingerprint %s, Python %s, waiting for jobs at %s (%s)",
        worker,
        pluralize(executors, "executor"),
        keyring.key_id,
        platform.python_version(),
        store.server.shown_address,
        store.scope,
    )
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(StoreError):  # its next duty meets the same
        rows = list(store.worker_rows()[1].values())
    theirs = {str(row.get("key_id")) for row in rows if not row["lost"]}
    if theirs and keyring.key_id not in theirs:
        log.warning(
            "no other worker there has this secret (fingerprints of theirs: %s): this one takes "
            "only jobs that are signed with its own. If that is not meant, set the same "
            "REDISMR_SECRET everywhere",
            ", ".join(sorted(theirs)),
        )
