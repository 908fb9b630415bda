"""Why nothing happens: nobody waits mute."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from redismr.config import LEAP_YEAR_SECONDS, seconds_rule
from redismr.core.events import decode_event
from redismr.core.model import ENDED_STATES, PROTOCOL, RUNNING_STATES
from redismr.core.plurals import pluralize
from redismr.core.status_rows import Progress
from redismr.core.work_amount import WORK_UNITS, InputAmount, StageProgress
from redismr.errors import KeysAltered, StoreError
from redismr.store import number
from redismr.ui.error_screens import print_message

if TYPE_CHECKING:
    from redismr.core.model import JobSpec
    from redismr.core.seal import Keyring
    from redismr.store import JobStatus, Store
    from redismr.store.channel import Subscription

EXPLAIN_AFTER_SECONDS = 5.0
"""Seconds without any work on a job after which the reason is said."""

REPORT_AGAIN_SECONDS = 60.0
"""Seconds after which the same trouble is said once more: it may be another one."""

PROGRESS_ASKED_SECONDS = 1.0
"""Who has asked for the progress so lately shows the reason in it: it need not be said as well."""
_TIMEOUT_RULE = seconds_rule(
    -math.inf, LEAP_YEAR_SECONDS, "a number of seconds, at most 366 days; None waits for ever"
)

_REFRESH_SECONDS = 2.0
_MAX_NAMED_WORKERS = 3


def deadline_of(timeout: float | None) -> float | None:
    """When so many seconds are over, of time.monotonic(); None for never.

    Raises:
        ConfigError: the timeout is no such number.
    """
    if timeout is None:
        return None
    return time.monotonic() + float(_TIMEOUT_RULE.check("timeout", timeout))


def report_long_wait(text: str, waited: float) -> None:
    """Say on stderr what a command waits for, once it has waited long enough to make one wonder."""
    now = time.monotonic()
    if waited > EXPLAIN_AFTER_SECONDS and now > _REPORT_AGAIN_AT.get(text, 0.0):
        _REPORT_AGAIN_AT[text] = now + REPORT_AGAIN_SECONDS
        print_message(text, sys.stderr)


_REPORT_AGAIN_AT: dict[str, float] = {}


class IdleExplainer:
    """Watches one job for idleness and explains it from the rows of the workers."""

    def __init__(self, store: Store, keyring: Keyring, spec: JobSpec) -> None:
        self._store, self._keyring, self._spec = store, keyring, spec
        self._idle_since = self._progressed_at = time.monotonic()
        self._tasks_done = -1
        self._server_is_full = False
        self._last_reason = ""
        self._progress_asked_at = -PROGRESS_ASKED_SECONDS
        self._rows_read_at = 0.0
        self._living_rows: list[dict[str, object]] = []  # of living workers
        self._lost_workers: list[str] = []
        #: Tasks that are leased to nobody but lost workers: their leases run on for a while.
        self._orphaned_tasks = 0
        self._running_tasks = 0

    @property
    def idle_seconds(self) -> float:
        """For how long nobody has worked on the job."""
        return time.monotonic() - self._idle_since

    def running_tasks(self, status: JobStatus) -> int:
        """Tasks that living workers hold."""
        return max(0, status.leased - self._orphaned_tasks)

    @property
    def workers(self) -> int:
        """Living workers that may take the job."""
        return len(self._eligible_rows())

    @property
    def slots(self) -> int:
        """Their executors."""
        return sum(int(str(row.get("executors", 0))) for row in self._eligible_rows())

    def observe(self, status: JobStatus, *, silent: bool) -> None:
        """Take note of one look; explain idleness on stderr, once per reason, unless ``silent``."""
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
        """The reason, if the job is idle for long; for progress rows."""
        self.observe(status, silent=True)
        self._progress_asked_at = time.monotonic()
        return self._idle_explanation()

    def _idle_explanation(self) -> str:
        """Why nobody works on the job, or why those who do get nowhere, once it lasts too long."""
        now = time.monotonic()
        if (
            now - self._progressed_at > EXPLAIN_AFTER_SECONDS
            and self._refresh_rows() is not None
            and self._server_is_full
        ):
            return (
                f"Redis at {self._store.server.shown_address} is full (maxmemory): the job goes on when "  # noqa: E501
                "there is room. Give it more memory, or delete finished jobs"
            )
        orphaned = self._orphaned_tasks and not self._running_tasks
        return self.reason() if orphaned or now - self._idle_since > EXPLAIN_AFTER_SECONDS else ""

    def reason(self) -> str:
        """Why nobody takes the job, and what to do; empty if somebody could."""
        rows = self._refresh_rows()
        where = self._store.server.shown_address
        if not rows:
            lost = f"; lost: {self._name_lost_workers()}" if self._lost_workers else ""
            return (
                f"no workers are connected to {where} ({self._store.scope}{lost}). "
                "Start one: redismr worker"
            )
        if self._eligible_rows():
            return self._orphaned_reason()
        ours = self._keyring.key_id
        other_key_ids = sorted({str(r.get("key_id")) for r in rows if r.get("key_id") != ours})
        if len([r for r in rows if r.get("key_id") != ours]) == len(rows):
            return (
                f"every worker at {where} has another secret than this job (fingerprint "
                f"{', '.join(other_key_ids)}; the job's is {ours}). Set the same REDISMR_SECRET on "
                "both sides"
            )
        pythons = sorted({str(r.get("python")) for r in rows if r.get("key_id") == ours})
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
        return [
            row
            for row in self._refresh_rows()
            if row.get("key_id") == self._keyring.key_id
            and row.get("python") == self._spec.python
            and row.get("protocol") == PROTOCOL
        ]

    def _refresh_rows(self) -> list[dict[str, object]]:
        now = time.monotonic()
        if now - self._rows_read_at > _REFRESH_SECONDS:
            _, rows = self._store.worker_rows()
            self._living_rows = [row for row in rows.values() if not row["lost"]]
            self._lost_workers = [
                f"{r.get('host')}:{r.get('pid')}" for r in rows.values() if r["lost"]
            ]
            # Who was killed long ago has no row any more, but its leases may be long.
            may_have_orphans = (
                self._lost_workers or now - self._progressed_at > EXPLAIN_AFTER_SECONDS
            )
            living = {worker for worker, row in rows.items() if not row["lost"]}
            self._orphaned_tasks = self._count_orphaned_tasks(living) if may_have_orphans else 0
            self._server_is_full = False
            with contextlib.suppress(StoreError):  # some servers tell nobody about their memory
                self._server_is_full = self._store.server.is_full()
            self._rows_read_at = now
        return self._living_rows

    def _count_orphaned_tasks(self, living: set[str]) -> int:
        with contextlib.suppress(KeysAltered):
            return sum(
                not holders & living
                for holders in self._store.workers_holding(self._spec.job_id)
                if holders
            )
        return 0

    def _orphaned_reason(self) -> str:
        """That tasks wait for the leases of lost workers to run out; empty if none do."""
        if not self._orphaned_tasks:
            return ""
        named = f" ({self._name_lost_workers()})" if self._lost_workers else ""
        return (
            f"{pluralize(self._orphaned_tasks, 'task')} of lost workers{named} can run again when their leases "  # noqa: E501
            f"have run out, in {self._spec.lease_ms / 1000:g} s at most"
        )

    def _name_lost_workers(self) -> str:
        """``host:pid`` of the lost workers, the first few of many."""
        named = ", ".join(self._lost_workers[:_MAX_NAMED_WORKERS])
        more = len(self._lost_workers) - _MAX_NAMED_WORKERS
        return f"{named} and {more} more" if more > 0 else named


_END_STATE_BYTES = [state.encode() for state in ENDED_STATES]
"""As they stand in a message: none of the others need be authenticated."""


def wait_until_end(channel: Subscription, keyring: Keyring, job: str, seconds: float) -> None:
    """Wait until it is said that the job has ended, or the channel was cut, or for ``seconds``.

    To look at the job for every message that says less would slow down the workers that send them.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if (message := channel.get(left)) is None:
            return
        if not any(
            state in message for state in _END_STATE_BYTES
        ):  # most: 30 us each, of a small job six
            continue
        event = decode_event(message, keyring)
        if event is not None and event.job == job and event.kind in ENDED_STATES:
            return


def _stage_work(status: JobStatus, stage: str) -> StageProgress:
    """What executors are at, in the stage that runs."""
    meta = status.meta
    spent = number(meta.get("spent_" + stage)) / 1000
    if status.state not in RUNNING_STATES or (stage == "r") != (status.state == "reducing"):
        return StageProgress(spent=spent)
    busy, ms, least = status.executors_at_work
    done = status.maps_done if stage == "m" else status.reduces_done
    return StageProgress(
        spent=spent, busy=busy, since=ms / 1000, least=least / 1000,
        tasks_done=done, tasks_begun=done + status.leased,
    )  # fmt: skip


def _map_work(status: JobStatus, done: int, total: int | None) -> StageProgress:
    """How much of the input is read; ``done`` and ``total`` count tasks."""
    meta, work = status.meta, replace(_stage_work(status, "m"), tasks=total)
    input_amount, expected = InputAmount.parse(meta.get("input", "")), number(meta.get("expected"))
    if (
        not input_amount.total and not expected
    ):  # of nothing but empty files, or of an older submitter
        return replace(work, done=done, total=total)
    total_units = (
        input_amount.total
        if total is not None
        else max(input_amount.total, expected)
        if expected
        else None
    )
    read = number(meta.get("read"))
    if total is not None and done >= total:
        read = input_amount.total
    unit = meta.get("unit", "")
    return replace(
        work, unit=unit if unit in WORK_UNITS else "tasks", total=total_units,
        done=max(0, read if total_units is None else min(read, total_units)),
        heaviest=input_amount.heaviest, index=input_amount.index, ahead=input_amount.ahead,
    )  # fmt: skip


def progress_of(status: JobStatus, spec: JobSpec, idle_explainer: IdleExplainer) -> Progress:
    """How far a job is, for people."""
    meta = status.meta
    n_map = number(meta["n_map"]) if meta.get("n_map") else None
    succeeded = status.state == "succeeded"
    reducing = status.state == "reducing"
    end_ms = number(meta.get("ended_at"), status.now_ms)
    maps_done = (n_map or 0) if succeeded else status.maps_done
    partitions = spec.partitions if n_map != 0 else 0
    why = "" if status.state in ENDED_STATES else idle_explainer.reason_if_idle(status)
    running = idle_explainer.running_tasks(status)
    return Progress(
        job_id=spec.job_id,
        state=status.state,
        maps_done=maps_done,
        maps_running=0 if reducing else running,
        maps_total=n_map,
        reduces_done=status.reduces_done,
        reduces_running=running if reducing else 0,
        reduces_total=partitions,
        shuffle_bytes=number(meta.get("shuffled")),
        elapsed=(end_ms - number(meta.get("created_at"), end_ms)) / 1000,
        retries=number(meta.get("retried")),
        workers=0
        if succeeded
        else idle_explainer.workers,  # a small job is over before they are known
        slots=0 if succeeded else idle_explainer.slots,
        waiting=why,
        maps=_map_work(status, maps_done, n_map),
        reduces=replace(
            _stage_work(status, "r"), done=status.reduces_done, total=partitions, tasks=partitions
        ),
    )
