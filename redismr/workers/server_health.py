"""Tells whether a worker's server is fit to work for, and whether it answers."""

import contextlib
import logging
import platform
import random
from collections.abc import Callable
from typing import Any

from redismr import native
from redismr.core.plurals import pluralize
from redismr.core.seal import Keyring
from redismr.errors import KeysAltered, StoreError, StoreFull, StoreUnavailable, UnfitServer
from redismr.store import Store

log = logging.getLogger("redismr.worker")

Duty = Callable[[], Any]
"""A recurring or one-time act of the supervisor that needs Redis."""

MAX_REFUSAL_PAUSE_SECONDS = 30.0  # before an executor is replaced that the server has refused


class ServerHealth:
    """Runs duties that need Redis, and logs an outage and its end once each.

    Some duties may succeed while others fail: a server that takes no writes still answers reads. So
    the outage is over only when every duty that failed has been done.
    """

    def __init__(self, *, is_fit: bool) -> None:
        #: False until the server was checked, and after it has refused a command.
        self.is_fit = self._was_fit = is_fit
        self._failing = set[Duty]()

    def mark_fit(self) -> bool:
        """Note that the server passed the check; return True the first time."""
        self.is_fit = True
        first, self._was_fit = not self._was_fit, True
        return first

    def tick_pause(self, seconds: float) -> float:
        """Return the pause before the next tick, for ticks that are due every ``seconds``.

        The pause is shorter while Redis is away: a lease survives two missed ticks, not three.
        """
        return seconds * (random.uniform(0.2, 0.5) if self._failing else 1.0)

    def run_duty(self, duty: Duty, recovered_by: Duty) -> None:
        """Run a duty; log the start and the end of an outage.

        ``recovered_by`` is the duty whose success shows that this duty works again; the outage ends
        when these duties have succeeded for all that failed.
        """
        try:
            duty()
        except UnfitServer:  # it can never be worked for as it is configured
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
        """Note that the server refused an executor; return the pause, in s, before the next one.

        ``crashes`` is the number of executors that died in a row in this slot, 0 if it was killed.
        """
        self.is_fit = False
        return min(MAX_REFUSAL_PAUSE_SECONDS, 0.5 * 2.0 ** min(crashes - 1, 10)) if crashes else 0.5


def log_ready(store: Store, keyring: Keyring, worker: str, executors: int) -> None:
    """Log that the worker waits for jobs, and where. Call it once the server has let the worker in.

    Warn if all other workers have another secret: this worker's secret may be a mistake.
    """
    log.info(
        "worker %s: %s, secret with fingerprint %s, Python %s %s, waiting for jobs at %s (%s)",
        worker,
        pluralize(executors, "executor"),
        keyring.key_id,
        platform.python_version(),
        native.DESCRIPTION,
        store.redis_client.shown_address,
        store.scope,
    )
    rows: list[dict[str, Any]] = []
    with contextlib.suppress(StoreError):  # the next duty meets the same error
        rows = list(store.worker_rows()[1].values())
    theirs = {str(row.get("key_id")) for row in rows if not row["lost"]}
    if theirs and keyring.key_id not in theirs:
        log.warning(
            "no other worker there has this secret (fingerprints of theirs: %s): this worker takes "
            "only jobs that are signed with its own secret. If you did not intend that, set the "
            "same REDISMR_SECRET everywhere",
            ", ".join(sorted(theirs)),
        )
