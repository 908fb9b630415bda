"""Why nothing happens: nobody waits mute."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from redismr.config import DAYS_366, seconds
from redismr.core.events import decode
from redismr.core.model import ENDED_STATES, PROTOCOL, RUNNING_STATES, Progress
from redismr.core.words import plural
from redismr.core.work import UNITS, Extent, Work
from redismr.errors import KeysAltered, StoreError
from redismr.store import number
from redismr.ui.errors import say

if TYPE_CHECKING:
    from redismr.core.model import JobSpec
    from redismr.core.seal import Keyring
    from redismr.store import Look, Store
    from redismr.store.channel import Subscription

EXPLAIN_AFTER = 5.0
"""Seconds without any work on a job after which the reason is said."""

TELL_AGAIN = 60.0
"""Seconds after which the same trouble is said once more: it may be another one."""

ASKED_SECONDS = 1.0
"""Who has asked for the progress so lately shows the reason in it: it need not be said as well."""
_TIMEOUT = seconds(
    -math.inf, DAYS_366, "a number of seconds, at most 366 days; None waits for ever"
)

_REFRESH = 2.0
_MOST_NAMED = 3


def deadline_of(timeout: float | None) -> float | None:
    """When so many seconds are over, of time.monotonic(); None for never.

    Raises:
        ConfigError: the timeout is no such number.
    """
    if timeout is None:
        return None
    return time.monotonic() + float(_TIMEOUT.check("timeout", timeout))


def tell_long_wait(text: str, waited: float) -> None:
    """Say on stderr what a command waits for, once it has waited long enough to make one wonder."""
    now = time.monotonic()
    if waited > EXPLAIN_AFTER and now > _TOLD.get(text, 0.0):
        _TOLD[text] = now + TELL_AGAIN
        say(text, sys.stderr)


_TOLD: dict[str, float] = {}


class Waiting:
    """Watches one job for idleness and explains it from the rows of the workers."""

    def __init__(self, store: Store, keyring: Keyring, spec: JobSpec) -> None:
        self._store, self._keyring, self._spec = store, keyring, spec
        self._since = self._moved = time.monotonic()
        self._done = -1
        self._full = False
        self._told = ""
        self._asked_at = -ASKED_SECONDS
        self._read_at = 0.0
        self._rows: list[dict[str, object]] = []  # of living workers
        self._lost: list[str] = []
        #: Tasks that are leased to nobody but lost workers: their leases run on for a while.
        self._orphans = 0
        self._running = 0

    @property
    def idle_seconds(self) -> float:
        """For how long nobody has worked on the job."""
        return time.monotonic() - self._since

    def running(self, look: Look) -> int:
        """Tasks that living workers hold."""
        return max(0, look.leased - self._orphans)

    @property
    def workers(self) -> int:
        """Living workers that may take the job."""
        return len(self._eligible())

    @property
    def slots(self) -> int:
        """Their executors."""
        return sum(int(str(row.get("executors", 0))) for row in self._eligible())

    def watch(self, look: Look, *, silent: bool) -> None:
        """Take note of one look; explain idleness on stderr, once per reason, unless ``silent``."""
        done, now = look.maps_done + look.reduces_done, time.monotonic()
        if done != self._done:
            self._moved = now
        self._running = self.running(look)
        if self._running or done != self._done:
            self._since, self._done = now, done
        if silent or now - self._asked_at < ASKED_SECONDS:
            return
        if (why := self._explanation()) and why != self._told:
            self._told = why
            say(f"waiting: {why}", sys.stderr)

    def reason_if_idle(self, look: Look) -> str:
        """The reason, if the job is idle for long; for progress rows."""
        self.watch(look, silent=True)
        self._asked_at = time.monotonic()
        return self._explanation()

    def _explanation(self) -> str:
        """Why nobody works on the job, or why those who do get nowhere, once it lasts too long."""
        now = time.monotonic()
        if now - self._moved > EXPLAIN_AFTER and self._read() is not None and self._full:
            return (
                f"Redis at {self._store.link.where} is full (maxmemory): the job goes on when "
                "there is room. Give it more memory, or delete finished jobs"
            )
        orphaned = self._orphans and not self._running
        return self.reason() if orphaned or now - self._since > EXPLAIN_AFTER else ""

    def reason(self) -> str:
        """Why nobody takes the job, and what to do; empty if somebody could."""
        rows = self._read()
        where = self._store.link.where
        if not rows:
            lost = f"; lost: {self._named_lost()}" if self._lost else ""
            return (
                f"no workers are connected to {where} ({self._store.scope}{lost}). "
                "Start one: redismr worker"
            )
        if self._eligible():
            return self._orphaned()
        ours = self._keyring.key_id
        strangers = sorted({str(r.get("key_id")) for r in rows if r.get("key_id") != ours})
        if len([r for r in rows if r.get("key_id") != ours]) == len(rows):
            return (
                f"every worker at {where} has another secret than this job (fingerprint "
                f"{', '.join(strangers)}; the job's is {ours}). Set the same REDISMR_SECRET on "
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

    def _eligible(self) -> list[dict[str, object]]:
        return [
            row
            for row in self._read()
            if row.get("key_id") == self._keyring.key_id
            and row.get("python") == self._spec.python
            and row.get("protocol") == PROTOCOL
        ]

    def _read(self) -> list[dict[str, object]]:
        now = time.monotonic()
        if now - self._read_at > _REFRESH:
            _, rows = self._store.worker_rows()
            self._rows = [row for row in rows.values() if not row["lost"]]
            self._lost = [f"{r.get('host')}:{r.get('pid')}" for r in rows.values() if r["lost"]]
            # Who was killed long ago has no row any more, but its leases may be long.
            suspect = self._lost or now - self._moved > EXPLAIN_AFTER
            living = {worker for worker, row in rows.items() if not row["lost"]}
            self._orphans = self._count_orphans(living) if suspect else 0
            self._full = False
            with contextlib.suppress(StoreError):  # some servers tell nobody about their memory
                self._full = self._store.link.full()
            self._read_at = now
        return self._rows

    def _count_orphans(self, living: set[str]) -> int:
        with contextlib.suppress(KeysAltered):
            return sum(not its & living for its in self._store.holders(self._spec.job_id) if its)
        return 0

    def _orphaned(self) -> str:
        """That tasks wait for the leases of lost workers to run out; empty if none do."""
        if not self._orphans:
            return ""
        who = f" ({self._named_lost()})" if self._lost else ""
        return (
            f"{plural(self._orphans, 'task')} of lost workers{who} can run again when their leases "
            f"have run out, in {self._spec.lease_ms / 1000:g} s at most"
        )

    def _named_lost(self) -> str:
        """``host:pid`` of the lost workers, the first few of many."""
        named = ", ".join(self._lost[:_MOST_NAMED])
        more = len(self._lost) - _MOST_NAMED
        return f"{named} and {more} more" if more > 0 else named


_ENDS = [state.encode() for state in ENDED_STATES]
"""As they stand in a message: none of the others need be authenticated."""


def until_end(channel: Subscription, keyring: Keyring, job: str, seconds: float) -> None:
    """Wait until it is said that the job has ended, or the channel was cut, or for ``seconds``.

    To look at the job for every message that says less would slow down the workers that send them.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if (message := channel.get(left)) is None:
            return
        if not any(state in message for state in _ENDS):  # most: 30 us each, of a small job six
            continue
        event = decode(message, keyring)
        if event is not None and event.job == job and event.kind in ENDED_STATES:
            return


def _work(look: Look, stage: str) -> Work:
    """What executors are at, in the stage that runs."""
    meta = look.meta
    spent = number(meta.get("spent_" + stage)) / 1000
    if look.state not in RUNNING_STATES or (stage == "r") != (look.state == "reducing"):
        return Work(spent=spent)
    busy, ms, least = look.at_work
    done = look.maps_done if stage == "m" else look.reduces_done
    return Work(
        spent=spent, busy=busy, since=ms / 1000, least=least / 1000,
        tasks_done=done, tasks_begun=done + look.leased,
    )  # fmt: skip


def _maps(look: Look, done: int, total: int | None) -> Work:
    """How much of the input is read; ``done`` and ``total`` count tasks."""
    meta, work = look.meta, replace(_work(look, "m"), tasks=total)
    extent, expected = Extent.read(meta.get("input", "")), number(meta.get("expected"))
    if not extent.total and not expected:  # of nothing but empty files, or of an older submitter
        return replace(work, done=done, total=total)
    whole = extent.total if total is not None else max(extent.total, expected) if expected else None
    read = number(meta.get("read"))
    if total is not None and done >= total:
        read = extent.total
    unit = meta.get("unit", "")
    return replace(
        work, unit=unit if unit in UNITS else "tasks", total=whole,
        done=max(0, read if whole is None else min(read, whole)),
        heaviest=extent.heaviest, index=extent.index, ahead=extent.ahead,
    )  # fmt: skip


def progress_of(look: Look, spec: JobSpec, waiting: Waiting) -> Progress:
    """How far a job is, for people."""
    meta = look.meta
    n_map = number(meta["n_map"]) if meta.get("n_map") else None
    ended = look.state == "succeeded"
    reducing = look.state == "reducing"
    end_ms = number(meta.get("ended_at"), look.now_ms)
    maps_done = (n_map or 0) if ended else look.maps_done
    partitions = spec.partitions if n_map != 0 else 0
    why = "" if look.state in ENDED_STATES else waiting.reason_if_idle(look)
    running = waiting.running(look)
    return Progress(
        job_id=spec.job_id,
        state=look.state,
        maps_done=maps_done,
        maps_running=0 if reducing else running,
        maps_total=n_map,
        reduces_done=look.reduces_done,
        reduces_running=running if reducing else 0,
        reduces_total=partitions,
        shuffle_bytes=number(meta.get("shuffled")),
        elapsed=(end_ms - number(meta.get("created_at"), end_ms)) / 1000,
        retries=number(meta.get("retried")),
        workers=0 if ended else waiting.workers,  # a small job is over before they are known
        slots=0 if ended else waiting.slots,
        waiting=why,
        maps=_maps(look, maps_done, n_map),
        reduces=replace(
            _work(look, "r"), done=look.reduces_done, total=partitions, tasks=partitions
        ),
    )
