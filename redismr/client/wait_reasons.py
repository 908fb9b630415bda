"""Reasons why a caller waits, printed on stderr: no command waits in silence."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

from redismr.client.listings import can_run_job
from redismr.core.plurals import pluralize
from redismr.errors import KeysAltered, StoreError
from redismr.ui.error_screens import print_message

if TYPE_CHECKING:
    from redismr.core.model import JobSpec
    from redismr.core.seal import Keyring
    from redismr.store import JobStatus, Store

EXPLAIN_AFTER_SECONDS = 5.0
"""Seconds without any work on a job, or answer of the server, after which the reason is printed."""

REPORT_AGAIN_SECONDS = 60.0
"""Seconds after which the same text is printed again: it may be about new trouble."""

PROGRESS_ASKED_SECONDS = 1.0
"""A caller that asked for the progress in the last second shows the reason: it is not printed."""

_REFRESH_SECONDS = 2.0
_MAX_NAMED_WORKERS = 3
_report_again_at: dict[str, float] = {}
"""Text -> earliest time at which it may be printed again."""


def report_long_wait(text: str, waited: float) -> None:
    """Print on stderr what the caller waits for, if ``waited`` seconds are long.

    The same text is printed once a minute at most.
    """
    now = time.monotonic()
    if waited > EXPLAIN_AFTER_SECONDS and now > _report_again_at.get(text, 0.0):
        _report_again_at[text] = now + REPORT_AGAIN_SECONDS
        print_message(text, sys.stderr)


class IdleExplainer:
    """Watches one job, and explains from the rows of the workers why nobody works on it."""

    def __init__(self, store: Store, keyring: Keyring, spec: JobSpec) -> None:
        self._store, self._keyring, self._spec = store, keyring, spec
        self._idle_since = self._progressed_at = time.monotonic()
        self._tasks_done = -1
        self._server_is_full = False
        self._last_reason = ""
        self._progress_asked_at = -PROGRESS_ASKED_SECONDS
        self._rows_read_at = 0.0
        self._living_rows: list[dict[str, object]] = []
        self._lost_workers: list[str] = []
        #: Tasks that only lost workers hold: nobody else can claim these before their leases end.
        self._orphaned_tasks = 0
        self._running_tasks = 0

    @property
    def idle_seconds(self) -> float:
        """Seconds for which nobody has worked on the job."""
        return time.monotonic() - self._idle_since

    def running_tasks(self, status: JobStatus) -> int:
        """Return how many tasks living workers hold."""
        return max(0, status.leased - self._orphaned_tasks)

    @property
    def workers(self) -> int:
        """Number of living workers that can run the job."""
        return len(self._eligible_rows())

    @property
    def executors(self) -> int:
        """Number of executors of the living workers that can run the job."""
        return sum(int(str(row.get("executors", 0))) for row in self._eligible_rows())

    def observe(self, status: JobStatus, *, silent: bool) -> None:
        """Record one status; unless ``silent``, print why nobody works, once for each reason."""
        done, now = status.maps_done + status.reduces_done, time.monotonic()
        if done != self._tasks_done:
            self._progressed_at = now
        self._running_tasks = self.running_tasks(status)
        if self._running_tasks or done != self._tasks_done:
            self._idle_since, self._tasks_done = now, done
        if silent or now - self._progress_asked_at < PROGRESS_ASKED_SECONDS:
            return
        if (why := self._idle_explanation()) and why != self._last_reason:
            self._last_reason = why
            print_message(f"waiting: {why}", sys.stderr)

    def reason_if_idle(self, status: JobStatus) -> str:
        """Return why nobody works on the job, for a progress row; empty if the job is not idle."""
        self.observe(status, silent=True)
        self._progress_asked_at = time.monotonic()
        return self._idle_explanation()

    def _idle_explanation(self) -> str:
        """Return why the job makes no progress, if that lasts too long; else an empty text."""
        now = time.monotonic()
        if now - self._progressed_at > EXPLAIN_AFTER_SECONDS and self._is_server_full():
            address = self._store.redis_client.shown_address
            return (
                f"Redis at {address} is full (maxmemory): the job goes on when "
                "there is room. Give it more memory, or delete finished jobs"
            )
        orphaned = self._orphaned_tasks and not self._running_tasks
        return self.reason() if orphaned or now - self._idle_since > EXPLAIN_AFTER_SECONDS else ""

    def reason(self) -> str:
        """Return why no worker can take the job, and what to do; empty if a worker can."""
        rows = self._refresh_rows()
        where = self._store.redis_client.shown_address
        if not rows:
            lost = f"; lost: {self._name_lost_workers()}" if self._lost_workers else ""
            return (
                f"no workers are connected to {where} ({self._store.scope}{lost}). "
                "Start one: redismr worker"
            )
        if self._eligible_rows():
            return self._orphaned_reason()
        key_id = self._keyring.key_id
        key_ids = {str(row.get("key_id")) for row in rows}
        if key_id not in key_ids:
            return (
                f"every worker at {where} has another secret than this job (fingerprint "
                f"{', '.join(sorted(key_ids))}; the job's is {key_id}). Set the same "
                "REDISMR_SECRET on both sides"
            )
        pythons = sorted({str(r.get("python")) for r in rows if r.get("key_id") == key_id})
        if self._spec.python not in pythons:
            return (
                f"the job needs workers with Python {self._spec.python}; those connected run "
                f"{', '.join(pythons)}"
            )
        return (
            "every worker with this secret and Python runs another version of redismr (the job's "
            f"protocol is {self._spec.protocol}): install the submitter's version there"
        )

    def _eligible_rows(self) -> list[dict[str, object]]:
        key_id = self._keyring.key_id
        return [row for row in self._refresh_rows() if can_run_job(row, self._spec, key_id)]

    def _refresh_rows(self) -> list[dict[str, object]]:
        now = time.monotonic()
        if now - self._rows_read_at > _REFRESH_SECONDS:
            _, rows = self._store.worker_rows()
            self._living_rows = [row for row in rows.values() if not row["lost"]]
            self._lost_workers = [
                f"{r.get('host')}:{r.get('pid')}" for r in rows.values() if r["lost"]
            ]
            # A worker that was killed long ago has no row any more, but may still have leases.
            no_progress = now - self._progressed_at > EXPLAIN_AFTER_SECONDS
            may_have_orphans = self._lost_workers or no_progress
            living = {worker for worker, row in rows.items() if not row["lost"]}
            self._orphaned_tasks = self._count_orphaned_tasks(living) if may_have_orphans else 0
            self._server_is_full = False
            with contextlib.suppress(StoreError):  # some servers do not tell
                self._server_is_full = self._store.redis_client.is_full()
            self._rows_read_at = now
        return self._living_rows

    def _is_server_full(self) -> bool:
        self._refresh_rows()
        return self._server_is_full

    def _count_orphaned_tasks(self, living: set[str]) -> int:
        with contextlib.suppress(KeysAltered):
            return sum(
                not holders & living
                for holders in self._store.workers_holding(self._spec.job_id)
                if holders
            )
        return 0

    def _orphaned_reason(self) -> str:
        """Return that tasks wait until the leases of lost workers end; empty if none do."""
        if not self._orphaned_tasks:
            return ""
        named = f" ({self._name_lost_workers()})" if self._lost_workers else ""
        return (
            f"{pluralize(self._orphaned_tasks, 'task')} of lost workers{named} can run again when "
            f"their leases have run out, in {self._spec.lease_ms / 1000:g} s at most"
        )

    def _name_lost_workers(self) -> str:
        """Return ``host:pid`` of the lost workers; of many, the first three and a number."""
        named = ", ".join(self._lost_workers[:_MAX_NAMED_WORKERS])
        more = len(self._lost_workers) - _MAX_NAMED_WORKERS
        return f"{named} and {more} more" if more > 0 else named
