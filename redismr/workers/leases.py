"""Renews the leases of a worker's executors, and takes back expired leases of other workers.

The lease keeper only says which executors have lost their task: the supervisor kills them.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from redismr.core.model import ENDED_STATES, RUNNING_STATES, token_of
from redismr.core.plurals import pluralize
from redismr.errors import KeysAltered
from redismr.store import ReclaimReply, Store, clear_int
from redismr.workers.child import Child
from redismr.workers.shared_slots import Holding

log = logging.getLogger("redismr.worker")

TICK_SECONDS = 1.0
"""Longest time between two renewals, which also tell which tasks have started. An idle worker looks
as often for tasks that other workers are late or slow with."""

RECLAIM_SECONDS = 5.0  # longest time between two checks for expired leases, of all jobs
JOBS_PER_CHECK = 8  # jobs whose tasks an idle worker checks in one tick, in turn
RELIST_SECONDS = 2.0  # time between two repeats of the jobs in work in the index

RECLAIMED_PER_STEP, MAX_RECLAIM_STEPS = 100, 10
"""Leases that one script call takes back, and calls in one check of a job: a host may have died
with many leases."""

TIDIED_PER_CHECK = 16  # ended jobs; each takes some round trips, and leases must not wait for them
KEEP_ENDED_LISTED_MS = 60_000  # an ended job stays in the index longer than a failover can rewind

RECHECK_ENDED_SECONDS = 1.0
"""Time between two checks of an ended job, because a rewind may take its end back. There may be
hundreds of ended jobs, and a check of 500 takes 50 ms."""

REST_FROM_WORKERS, MAX_REST_FACTOR = 100, 5.0
"""From this many workers on, each worker sends heartbeats and looks for work less often, at least
at a fifth of the usual rate. So 500 idle workers cost the server 130 commands a second, not
1,060."""

MIN_LEASE_MS = 100  # as the option has it; a smaller value in Redis must not make the loop spin
MAX_BELIEVED_COUNT = 1_000_000  # unsealed numbers in Redis are believed up to this value

ASSUMED_LEASE_MS = 15_000
"""The lease keeper works as if a job with a lease of this length always existed.

It checks often enough for the shortest lease of all running jobs, also of jobs for which this
worker does nothing: ``reclaim`` takes a pause of half a lease for an outage and re-arms the leases,
so rarer checks would never end a lease.
"""


class LeaseKeeper:
    """Looks after the leases of a namespace for one supervisor."""

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
        self._may_be_running = True  #: A job in the index may be running.
        self._rest_factor = 1.0
        self._recheck_ended_at: dict[str, float] = {}  #: When to check jobs that were tidied again.

    @property
    def tick_seconds(self) -> float:
        """Time between two calls of ``renew``: at most a third of the shortest known lease."""
        return min(TICK_SECONDS, self._shortest_lease_ms / 3000)

    def expect_lease(self, lease_ms: int) -> None:
        """Note that an executor begins a job with a lease of this length."""
        self._may_be_running = True
        self._shortest_lease_ms = min(self._shortest_lease_ms, max(lease_ms, MIN_LEASE_MS))
        self._next_reclaim = min(self._next_reclaim, time.monotonic() + self.tick_seconds)

    def update_rest_factor(self, workers: int) -> float:
        """Return how many times longer than usual an idle worker rests among so many workers."""
        self._rest_factor = min(MAX_REST_FACTOR, max(1.0, workers / REST_FROM_WORKERS))
        return self._rest_factor

    def renew(self, children: list[Child]) -> list[Child]:
        """Renew what these executors hold; return those that have lost their task."""
        held, to_kill = dict[str, list[tuple[Child, Holding]]](), list[Child]()
        for child in children:
            holding = child.slot.read()
            if holding and holding.job and not child.kill_reason and not child.is_stopped():
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
            to_kill += [c for c, h in held[job] if _has_lost_its_task(c, h, state, lost)]
        self._relist(list(held))
        return to_kill

    def find_work(self, idle: int) -> int:
        """Return how many of the idle executors have something to do; reclaim when it is due."""
        now = time.monotonic()
        # 1. Reclaim at the tick nearest to the due time: the next tick may come after half a lease.
        if now >= self._next_reclaim - self.tick_seconds / 2:
            work = self.reclaim()
            rest = min(RECLAIM_SECONDS, self._shortest_lease_ms / 3000)
            idle_rest = RECLAIM_SECONDS * self._rest_factor
            self._next_reclaim = now + (rest if self._may_be_running else idle_rest)
            if work:
                return idle
        # 2. Check some jobs for tasks that are ready, late or slow.
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
                    "job %s: took over %s that another worker claimed and did not begin in time",
                    job,
                    pluralize(stealable.stolen, "task"),
                )
        return min(found, idle)

    def any_running(self) -> bool:
        """True if a listed job has not ended."""
        statuses = map(self._store.status, self._store.runnable())
        return any(status is not None and status.state not in ENDED_STATES for status in statuses)

    def _next_jobs(self) -> list[str]:
        """Return some of the jobs that may be running, in turn, so that each gets its check."""
        jobs = [job for job in self._store.runnable() if job not in self._recheck_ended_at]
        self._next_job_index = self._next_job_index % len(jobs) if jobs else 0
        chosen = (jobs[self._next_job_index :] + jobs[: self._next_job_index])[:JOBS_PER_CHECK]
        self._next_job_index += len(chosen)
        return chosen

    def reclaim(self) -> bool:
        """Take back expired leases of all listed jobs; return True if tasks can be claimed."""
        work, now, jobs = False, time.monotonic(), self._store.runnable()
        self._shortest_listed_lease_ms, self._may_be_running = ASSUMED_LEASE_MS, False
        known = self._recheck_ended_at
        self._recheck_ended_at = {job: known[job] for job in jobs if job in known}
        found = self._reclaim_jobs([job for job in jobs if now >= known.get(job, 0.0)])
        to_forget, ended = list[str](), list[tuple[str, ReclaimReply]]()
        for job, answer in found.items():
            # 1. The job is gone.
            if not answer.state:
                to_forget.append(job)
            # 2. It has ended.
            elif answer.state in ENDED_STATES:
                ended.append((job, answer))
            # 3. It runs.
            else:
                self._recheck_ended_at.pop(job, None)  # if a rewind took its end back
                lease_ms = max(answer.lease_ms, MIN_LEASE_MS)
                self._shortest_listed_lease_ms = min(self._shortest_listed_lease_ms, lease_ms)
                self.expect_lease(lease_ms)
                work |= answer.claimable > 0
        to_forget += self._tidy_ended(ended, now)
        if to_forget:
            self._store.drop_jobs(*to_forget)
        return work

    def _reclaim_jobs(self, jobs: list[str]) -> dict[str, ReclaimReply]:
        """Reclaim in each job until no expired lease is left, or the steps are used up."""
        found, steps = dict[str, ReclaimReply](), 0
        while jobs and steps < MAX_RECLAIM_STEPS:
            answers, jobs = self._store.reclaim_all(jobs, RECLAIMED_PER_STEP), []
            steps += 1
            for job, answer in answers.items():
                # 1. Something else wrote to the job's keys.
                if isinstance(answer, KeysAltered):
                    self._on_altered(job, str(answer))
                    continue
                # 2. Some of its leases have expired, or none.
                found[job] = answer
                if answer.reclaimed:
                    log.info(
                        "job %s: %s taken back from workers that did not renew in time",
                        job,
                        pluralize(answer.reclaimed, "task"),
                    )
                # 3. More may have expired: the next step tries again.
                if answer.reclaimed == RECLAIMED_PER_STEP:
                    jobs.append(job)
        return found

    def _tidy_ended(self, ended: list[tuple[str, ReclaimReply]], now: float) -> list[str]:
        """Tidy ended jobs; return those that the index can forget."""
        oldest = self._store.server_ms() - KEEP_ENDED_LISTED_MS if ended else 0
        expired, left = list[str](), TIDIED_PER_CHECK
        for job, answer in ended:
            if answer.ended_at_ms < oldest or job not in self._recheck_ended_at:
                if not left:
                    continue  # the next check tidies it
                left -= 1
                self._free_bulk(job, answer.state)
            if answer.ended_at_ms < oldest:
                expired.append(job)
            self._recheck_ended_at[job] = now + RECHECK_ENDED_SECONDS
        return expired

    def _free_bulk(self, job: str, state: str) -> None:
        """Free an ended job's bulk data, in case the process that ended it died before that.

        Called again when the job is forgotten: running attempts may have staged more since.
        """
        if state in ("succeeded", "cancelled"):
            meta, most = self._store.meta(job, "maps_added", "partitions"), MAX_BELIEVED_COUNT
            maps, partitions = clear_int(meta.get("maps_added")), clear_int(meta.get("partitions"))
            self._store.free_bulk(job, min(maps, most), min(partitions, most))

    def _relist(self, jobs: list[str]) -> None:
        """Repeat the jobs in work now and then, because the index may lose entries."""
        now = time.monotonic()
        if jobs and now >= self._next_relist:
            self._next_relist = now + RELIST_SECONDS
            with suppress(KeysAltered):  # the executor that claims next meets it, and ends the job
                self._store.relist(jobs)


def _has_lost_its_task(child: Child, before: Holding, state: str, lost: frozenset[str]) -> bool:
    """True if the executor is still in a task whose lease is lost or whose job has ended."""
    if before.running < 0 or before.tasks[before.running] not in lost:
        return False
    now = child.slot.read()
    # In another task it has committed the first one, which also ends a lease.
    if now is None or (now.nonce, now.running) != (before.nonce, before.running):
        return False
    why = f"its job is over ({state})" if state else "its job is gone"
    if state in RUNNING_STATES:
        why = "another worker has it, or has done it"
    log.info("task %s: stopped: %s", before.tasks[before.running], why)
    return True
