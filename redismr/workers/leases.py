"""Leases: renewing those of our executors, taking back those that others let expire.

Decides, and leaves the acting to the supervisor: what it returns are executors to stop, with why.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from redismr.core.model import ENDED_STATES, RUNNING_STATES, token_of
from redismr.core.plurals import pluralize
from redismr.errors import KeysAltered
from redismr.store import ReclaimReply, Store, number
from redismr.workers.shared_slots import Holding, Slot

log = logging.getLogger("redismr.worker")

TICK_SECONDS = 1.0
"""How often leases are renewed at least, which also says which tasks have started; and how often an
idle worker looks for what others are late or slow with."""

RECLAIM_SECONDS = 5.0
JOBS_PER_LOOK = 8
"""Jobs that an idle worker looks at each second, in turn; all, when leases are taken back."""

RELIST_SECONDS = 2.0
"""How often the jobs that executors work on are put into the index again."""

RECLAIMED_PER_STEP, MAX_RECLAIM_STEPS = 100, 10
"""Leases that one step on the server takes back, and how many such steps a look at a job takes: a
host may have died with many."""

TIDIED_PER_LOOK = 16
"""Ended jobs that are tidied in one look: each takes some round trips, and leases must not wait."""

KEEP_ENDED_LISTED_MS = 60_000
"""An ended job stays in the index this long: longer than a failover can rewind."""

RECHECK_ENDED_SECONDS = 1.0
"""How often an ended job is looked at: a rewind may take its end back. There may be hundreds, and a
look at each of 500 takes 50 ms."""

REST_FROM_WORKERS, MAX_REST_FACTOR = 100, 5.0
"""From so many workers on each beats, and looks for work when there is none, more seldom, down to a
fifth: 500 idle workers cost the server 130 commands a second, which were 1,060."""

MIN_LEASE_MS = 100  # the option's floor: what Redis says in clear must not make us spin

MAX_BELIEVED_COUNT = 1_000_000
"""Clear numbers are not believed beyond this."""

ASSUMED_LEASE_MS = 15_000
"""Leases are looked after at least as often as if there were one of this length.

That counts those of every running job in the index, held here or not: reclaim takes a pause of half
a lease for an outage and re-arms what it finds, so one that came by less often would never end any.
"""

LEASE_LOST = "lease lost"
OVERDUE = "ran longer than"
STAYED_STOPPED = "was stopped by a signal and did not go on"


@dataclass(slots=True)
class Child:
    """An executor as its supervisor sees it."""

    slot: Slot
    pid: int
    control: socket.socket
    idle: bool = False
    #: Why its supervisor ends it, and since when.
    kill_reason: str = ""
    killed_at: float = 0.0
    task_since: float = 0.0
    current_task: tuple[str, int] = ("", -1)
    record_since: float = 0.0
    current_record: tuple[str, int, int] = ("", -1, -1)
    stopped_since: float = 0.0
    #: Tasks that were counted in its slot before it.
    counted_before: int = 0
    buffer: bytes = field(default=b"")

    def is_task_to_blame(self, holding: Holding) -> bool:
        """Whether the task that ran is to blame for its death.

        Not if we ended it for another reason, or for being too long in the task before. One that
        stayed stopped is: if its lease ran out meanwhile, that was charged, and this is FENCED.
        """
        if not 0 <= holding.running < len(holding.tasks):
            return False
        if self.kill_reason.startswith(OVERDUE):
            return (holding.nonce, holding.running) == self.current_task
        return self.kill_reason in ("", STAYED_STOPPED)

    def record_to_blame(self, holding: Holding) -> int:
        """The ordinal of the record that it died in; -1 if none is to blame.

        For a task over its time that is a record that alone took more than half of it. A signal
        that stops a process comes from outside.
        """
        if self.kill_reason == STAYED_STOPPED:
            return -1
        if self.kill_reason.startswith(OVERDUE):
            same = (holding.nonce, holding.running, holding.ordinal) == self.current_record
            spent = self.killed_at - self.record_since
            return holding.ordinal if same and spent > holding.timeout_ms / 2000 else -1
        return holding.ordinal


class LeaseKeeper:
    """The duties of a supervisor towards the leases of a namespace."""

    def __init__(
        self,
        store: Store,
        on_altered: Callable[[str, str], object] = lambda _job, _why: None,
        worker: str = "",
    ) -> None:
        self._store, self._on_altered, self._worker = store, on_altered, worker
        self._shortest_lease_ms = self._shortest_listed_lease_ms = ASSUMED_LEASE_MS
        self._next_reclaim = self._next_relist = 0.0
        self._next_job_index = 0
        #: Whether a job in the index may be running.
        self._may_be_running = True
        self._rest_factor = 1.0
        #: Ended jobs that were tidied, each with when it is to be looked at again.
        self._recheck_ended_at: dict[str, float] = {}

    @property
    def tick_seconds(self) -> float:
        """How often ``renew`` is due: a third of the shortest lease in sight, at least."""
        return min(TICK_SECONDS, self._shortest_lease_ms / 3000)

    def expect_lease(self, lease_ms: int) -> None:
        """An executor begins a job whose lease is this short."""
        self._may_be_running = True
        self._shortest_lease_ms = min(self._shortest_lease_ms, max(lease_ms, MIN_LEASE_MS))
        self._next_reclaim = min(self._next_reclaim, time.monotonic() + self.tick_seconds)

    def update_rest_factor(self, workers: int) -> float:
        """So many workers are listed: how many times as long as usual an idle one may rest."""
        self._rest_factor = min(MAX_REST_FACTOR, max(1.0, workers / REST_FROM_WORKERS))
        return self._rest_factor

    def find_overdue(self, children: list[Child]) -> list[tuple[Child, str]]:
        """Executors that are too long in one task, or stopped; asks nothing of Redis."""
        return [
            (child, why)
            for child in children
            if not child.kill_reason
            and (holding := child.slot.read())
            and (why := _overdue_reason(child, holding) or _stopped_too_long_reason(child, holding))
        ]

    def renew(self, children: list[Child]) -> list[tuple[Child, str]]:
        """Renew what these executors hold; returns those that work in vain."""
        held: dict[str, list[tuple[Child, Holding]]] = {}
        to_kill: list[tuple[Child, str]] = []
        for child in children:
            holding = child.slot.read()
            if holding and holding.job and not child.kill_reason and not _is_stopped(child.pid):
                held.setdefault(holding.job, []).append((child, holding))
        self._shortest_lease_ms = min(
            [self._shortest_listed_lease_ms]
            + [max(h.lease_ms, MIN_LEASE_MS) for holders in held.values() for _, h in holders]
            + [h.timeout_ms for holders in held.values() for _, h in holders if h.timeout_ms]
        )
        pairs = {
            job: [
                (task, token_of(task, holding.nonce), index <= holding.running)
                for _, holding in holders
                for index, task in enumerate(holding.tasks)
            ]
            for job, holders in held.items()
        }
        for job, answer in self._store.renew_all(pairs).items():
            if isinstance(answer, KeysAltered):
                self._on_altered(job, str(answer))
                continue
            state, lost = answer.state, answer.lost
            to_kill += [
                (c, LEASE_LOST) for c, h in held[job] if _has_lost_its_task(c, h, state, lost)
            ]
        self._relist(list(held))
        return to_kill

    def find_work(self, idle: int) -> int:
        """How many of so many idle executors have something to do; reclaims when that is due."""
        now = time.monotonic()
        # At the tick nearest to it: the one right before it would leave it to the tick after, and
        # half a lease would be over by then.
        if now >= self._next_reclaim - self.tick_seconds / 2:
            work = self.reclaim()
            rest = min(RECLAIM_SECONDS, self._shortest_lease_ms / 3000)
            self._next_reclaim = now + (
                rest if self._may_be_running else RECLAIM_SECONDS * self._rest_factor
            )
            if work:
                return idle
        found = 0
        for job in self._next_jobs() if idle and self._may_be_running else ():
            try:
                stealable = self._store.steal(job, self._worker)
            except KeysAltered as exc:
                self._on_altered(job, str(exc))
                continue
            found += stealable.ready + stealable.slow
            if stealable.stolen:
                log.info(
                    "job %s: took over %s that another worker had claimed and not begun in time",
                    job,
                    pluralize(stealable.stolen, "task"),
                )
        return min(found, idle)

    def any_running(self) -> bool:
        """Whether a job is listed that has not ended."""
        looks = map(self._store.status, self._store.runnable())
        return any(look is not None and look.state not in ENDED_STATES for look in looks)

    def _next_jobs(self) -> list[str]:
        """Some of the jobs that may be running, in turn: none waits for those before it to end."""
        jobs = [job for job in self._store.runnable() if job not in self._recheck_ended_at]
        self._next_job_index = self._next_job_index % len(jobs) if jobs else 0
        chosen = (jobs[self._next_job_index :] + jobs[: self._next_job_index])[:JOBS_PER_LOOK]
        self._next_job_index += len(chosen)
        return chosen

    def reclaim(self) -> bool:
        """Take back expired leases of every job in the index; True if there is work to claim."""
        work, now, jobs = False, time.monotonic(), self._store.runnable()
        self._shortest_listed_lease_ms, self._may_be_running = ASSUMED_LEASE_MS, False
        self._recheck_ended_at = {
            job: self._recheck_ended_at[job] for job in jobs if job in self._recheck_ended_at
        }
        found = self._reclaim_jobs(
            [job for job in jobs if now >= self._recheck_ended_at.get(job, 0.0)]
        )
        to_forget, ended = list[str](), list[tuple[str, ReclaimReply]]()
        for job, answer in found.items():
            if not answer.state:
                to_forget.append(job)
            elif answer.state in ENDED_STATES:
                ended.append((job, answer))
            else:
                self._recheck_ended_at.pop(job, None)  # a rewind took its end back
                self._shortest_listed_lease_ms = min(
                    self._shortest_listed_lease_ms, max(answer.lease_ms, MIN_LEASE_MS)
                )
                self.expect_lease(answer.lease_ms)
                work |= answer.claimable > 0
        to_forget += self._tidy_ended(ended, now)
        if to_forget:
            self._store.drop_jobs(*to_forget)
        return work

    def _reclaim_jobs(self, jobs: list[str]) -> dict[str, ReclaimReply]:
        """What a look at each of the jobs has found; a second look where one took all it may."""
        found: dict[str, ReclaimReply] = {}
        for _ in range(MAX_RECLAIM_STEPS):
            if not jobs:
                break
            answers = self._store.reclaim_all(jobs, RECLAIMED_PER_STEP)
            jobs = []
            for job, answer in answers.items():
                if isinstance(answer, KeysAltered):
                    self._on_altered(job, str(answer))
                    continue
                found[job] = answer
                if answer.reclaimed:
                    log.info(
                        "job %s: %s taken back, of workers that were not heard of in time",
                        job,
                        pluralize(answer.reclaimed, "task"),
                    )
                if answer.reclaimed == RECLAIMED_PER_STEP:
                    jobs.append(job)
        return found

    def _tidy_ended(self, ended: list[tuple[str, ReclaimReply]], now: float) -> list[str]:
        """Look after ended jobs; returns those that the index can forget."""
        oldest = self._store.server_ms() - KEEP_ENDED_LISTED_MS if ended else 0
        expired, left = list[str](), TIDIED_PER_LOOK
        for job, answer in ended:
            if answer.ended_at_ms < oldest or job not in self._recheck_ended_at:
                if not left:
                    continue  # it is looked at again at the next tick
                left -= 1
                self._free_bulk(job, answer.state)
            if answer.ended_at_ms < oldest:
                expired.append(job)
            self._recheck_ended_at[job] = now + RECHECK_ENDED_SECONDS
        return expired

    def _free_bulk(self, job: str, state: str) -> None:
        """Free an ended job's bulk, in case who ended it died before it did.

        Again when the job is forgotten: attempts that still ran may have staged something since.
        """
        if state in ("succeeded", "cancelled"):
            meta = self._store.meta(job, "added", "partitions")
            added, partitions = number(meta.get("added")), number(meta.get("partitions"))
            self._store.free_bulk(
                job, min(added, MAX_BELIEVED_COUNT), min(partitions, MAX_BELIEVED_COUNT)
            )

    def _relist(self, jobs: list[str]) -> None:
        """The index may lose an entry: whoever works on jobs repeats them now and then."""
        now = time.monotonic()
        if jobs and now >= self._next_relist:
            self._next_relist = now + RELIST_SECONDS
            with suppress(KeysAltered):  # whoever claims of that job meets it, and ends it
                self._store.relist(jobs)


def _has_lost_its_task(child: Child, before: Holding, state: str, lost: frozenset[str]) -> bool:
    """Whether the executor is still in a task whose lease is lost, or whose job has ended."""
    if before.running < 0 or before.tasks[before.running] not in lost:
        return False
    now = child.slot.read()
    # Only if it is still in the same task: else it has committed, which also ends a lease.
    if now is None or (now.nonce, now.running) != (before.nonce, before.running):
        return False
    why = f"its job is over ({state})" if state else "its job is gone"
    if state in RUNNING_STATES:
        why = "another worker has it, or has done it"
    log.info("task %s: stopped: %s", before.tasks[before.running], why)
    return True


def _overdue_reason(child: Child, holding: Holding) -> str:
    """Why the executor must be stopped for being in one task too long, or nothing."""
    what, now = (holding.nonce, holding.running), time.monotonic()
    if what != child.current_task:
        child.current_task, child.task_since = what, now
    if (record := (*what, holding.ordinal)) != child.current_record:
        child.current_record, child.record_since = record, now
    limit = holding.timeout_ms / 1000
    if limit and holding.running >= 0 and now - child.task_since > limit:
        return f"{OVERDUE} task_timeout={limit:g} s"
    return ""


def _stopped_too_long_reason(child: Child, holding: Holding) -> str:
    """Why an executor must be replaced that was stopped, has lost its leases, and stays stopped."""
    if not _is_stopped(child.pid):
        child.stopped_since = 0.0
        return ""
    now = time.monotonic()
    child.stopped_since = child.stopped_since or now
    return STAYED_STOPPED if now - child.stopped_since > 2 * holding.lease_ms / 1000 else ""


def _is_stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal: then its leases are others' to take."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[:1] == [b"T"]
    except OSError:  # gone, or no Linux
        return False
