"""Jobs without a pause: several submitters at once, each checks its own jobs."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager, nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import redismr
from chaos.kit import DEADLINE, Case, Outcome, Plan, client_of, make_case, problems
from redismr.client import job as handle
from redismr.client import job_waiting, submitter
from redismr.client.collector import ComputedAgain, EndRolledBack
from redismr.client.submitter import InputLost
from redismr.store import clear_int
from redismr.store.keys import KeyNames

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Iterator

    import redis

NAMES = KeyNames("redismr")

SUBMITTERS = 3

DAWDLE = 0.3
"""Seconds that a client at most waits at a point where the server may forget."""

MAY_SAY: dict[str, tuple[type[redismr.RedismrError], ...]] = {
    "submit": (redismr.JobLost, InputLost),
    "iterate": (redismr.JobLost, InputLost, ComputedAgain),
    "wait": (redismr.JobLost, InputLost),
    "read": (redismr.JobLost, EndRolledBack),
}
"""Errors that a client may raise at each step after lost writes; any other is a false alarm."""


class Traffic:
    """Threads that submit and check jobs until told to stop; one is always submitting.

    ``own`` is what they found, ``right`` the jobs that ended well. Where the server ``forgets``,
    errors that ``MAY_SAY`` names are figures.
    """

    def __init__(
        self, url: str, plan: Plan, row: str, *, submitters: int, forgets: bool, **options: Any
    ) -> None:
        self.own, self.right = Outcome(), set[str]()
        self._plan, self._row = plan, row
        self._forgets, self._options = forgets, options
        #: Set when the input of a job was closed right now, or its end was seen, but no result.
        self.bad_moment = threading.Event()
        self._lock, self._stop = threading.Lock(), threading.Event()
        # Clients look at the server when they are made: before there is any trouble.
        self._threads = [
            threading.Thread(
                target=self._submitter, args=(n, client_of(url)), name=f"submitter{n}", daemon=True
            )
            for n in range(submitters)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no new jobs, and check the running ones to their end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE)
            if thread.is_alive():
                self.own.missed.append(f"{thread.name} is stuck")

    def note(self, figure: str) -> None:
        """Count something that a client did."""
        with self._lock:
            self.own.add(figure)

    def _submitter(self, number: int, client: redismr.Client) -> None:
        with client:
            for nth in count():
                if self._stop.is_set():
                    return
                case = make_case(self._plan.rng(self._row, number, nth), **self._options)
                outcome = Outcome()
                # Every other job comes in a trickle: then the trouble meets it half submitted.
                try:
                    self._one(client, case, outcome, nth)
                except Exception as error:  # only our own may come to a user
                    outcome.missed.append(f"{case.name}: {error!r}")
                with self._lock:
                    self._take(outcome)

    def _one(self, client: redismr.Client, case: Case, outcome: Outcome, nth: int) -> None:
        items = Trickle(case.items) if nth % 2 else case.items
        outcome.add("jobs")
        step, job = "submit", None
        try:
            job = client.submit(items, **case.functions, **case.options)
            step = "iterate"
            if nth % 3 == 0 and dict(iter(job)) != case.expected:
                outcome.wrong.append(f"job {job.id}: {case.name} is other pairs when iterated")
            step = "wait"
            results = job.result(timeout=DEADLINE)
            step = "read"
            wrong = problems(case, results, results.counters)
            outcome.wrong += [f"job {job.id}: {text}" for text in wrong]
            if not wrong:
                self.right.add(job.id)
            charged = client._store.redis_client.command(
                "HGETALL", NAMES.control(job.id, "budgets")
            )
            for name, times in charged.items():
                if name.partition(b":")[0] in (b"lost", b"error", b"invalidated"):
                    outcome.add("charged", int(times))
            job.delete()
        except redismr.RedismrError as error:
            outcome.add(type(error).__name__)
            may_say = self._forgets and isinstance(error, MAY_SAY[step])
            if not may_say or (isinstance(error, InputLost) and not _input_lost(error, job)):
                outcome.missed.append(f"{step}: {type(error).__name__}: {error}")

    def _take(self, other: Outcome) -> None:
        for name, value in other.figures.items():
            self.own.add(name, value)
        self.own.wrong += other.wrong
        self.own.missed += other.missed


class Trickle:
    """A source that can be read again, and pauses between two items."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[int]:
        pause = threading.Event()
        for index in range(len(self._items)):
            pause.wait(0.008)
            yield index

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


def _input_lost(error: InputLost, job: redismr.Job | None) -> bool:
    """True if the error says that input was lost: right only after the last attempt to submit."""
    if job is None:
        return "5 times" in str(error)
    meta = job._store.meta(job.id, "maps_added")
    return clear_int(meta.get("maps_added")) < (job._n_map or 0)


@contextmanager
def _watched(flow: Traffic, rng: random.Random) -> Iterator[None]:
    """Count what clients do about lost writes, and delay them where a loss hurts most.

    That is before the input is closed, and between a job's end and the look at its result: so much
    is written meanwhile that a server may forget just the one, and know what came before it.
    """
    close, again = submitter.close_input, handle.Job._close_input_again
    collect = handle.Job._collect

    def close_late(*args: Any) -> None:
        time.sleep(rng.uniform(0, DAWDLE))
        close(*args)
        flow.bad_moment.set()

    def counted_again(*args: Any) -> None:
        flow.note("closed again")
        again(*args)

    def collect_late(*args: Any) -> Any:
        flow.bad_moment.set()
        time.sleep(rng.uniform(0, DAWDLE))
        try:
            return collect(*args)
        except EndRolledBack:
            flow.note("ends forgotten")
            raise

    with (
        patch.object(submitter, "close_input", close_late),
        patch.object(job_waiting, "close_input", close_late),
        patch.object(handle.Job, "_close_input_again", counted_again),
        patch.object(handle.Job, "_collect", collect_late),
    ):
        yield


@contextmanager
def traffic(
    url: str, plan: Plan, row: str, outcome: Outcome, *, submitters: int = SUBMITTERS,
    forgets: bool = False, **options: Any,
) -> Iterator[Traffic]:  # fmt: skip
    """Yield traffic; add its findings to the outcome when its last job has ended."""
    flow = Traffic(url, plan, row, submitters=submitters, forgets=forgets, **options)
    with _watched(flow, plan.rng(row, "pauses")) if forgets else nullcontext():
        flow.start()
        try:
            yield flow
        finally:
            flow.stop()
        for name, value in flow.own.figures.items():
            outcome.add(name, value)
        outcome.wrong += flow.own.wrong
        outcome.missed += flow.own.missed


def recovered(outcome: Outcome, hurt: set[str], flow: Traffic, least: float) -> None:
    """Check that most jobs survive lost writes: only few may be given up."""
    figures = outcome.figures
    figures["jobs right after losing commits"] = len(hurt & flow.right)
    outcome.floor("jobs right after losing commits", least)
    lost = sum(figures.get(e.__name__, 0) for e in {e for step in MAY_SAY.values() for e in step})
    if lost > figures["jobs"] / 4 + SUBMITTERS:
        outcome.missed.append(f"{lost:g} of {figures['jobs']:g} jobs lost")


Counted = dict[str, tuple[str, frozenset[bytes]]]


def committed(client: redis.Redis, jobs: Iterable[str] | None = None) -> Counted:
    """Return job -> (state, tokens that count), of each listed job."""
    if jobs is None:
        jobs = [job.decode() for job in client.zrange(NAMES.jobs, 0, -1)]
    jobs = list(jobs)
    pipe = client.pipeline(transaction=False)
    for job in jobs:
        pipe.hget(NAMES.control(job, "meta"), "state")
        pipe.hvals(NAMES.control(job, "done"))
        pipe.hvals(NAMES.control(job, "result"))
    replies = iter(pipe.execute())
    return {
        job: (
            (next(replies) or b"").decode(),
            frozenset(record.partition(b" ")[0] for _ in "mr" for record in next(replies)),
        )
        for job in jobs
    }


def rolled_back(before: Counted, client: redis.Redis) -> dict[str, int]:
    """Return how many commits the server has forgotten of each job that it still has."""
    lost = {}
    for job, (state, tokens) in committed(client, before).items():
        gone = before[job][1] - tokens
        if state == "succeeded":  # then the maps' records are not needed any more
            gone = {token for token in gone if token.startswith(b"r")}
        if state and gone:
            lost[job] = len(gone)
    return lost
