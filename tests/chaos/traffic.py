"""Jobs without a pause: several submitters at once, each checks what it handed in."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import redismr
from chaos.kit import DEADLINE, Case, Outcome, Plan, case, client_of, problems
from redismr.client.collect import Forgotten
from redismr.client.submitter import InputLost
from redismr.store.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator

    import redis

NAMES = Keys("redismr")

SUBMITTERS = 3

FORGOTTEN = (redismr.JobLost, InputLost, Forgotten)
"""What a job may say whose server has lost writes; anything else would be a false alarm."""


class Traffic:
    """Threads that submit and check until told to stop; one is always in the middle of handing in.

    ``own`` is what they found. Errors that ``may_fail`` names are figures under their names.
    """

    def __init__(
        self, url: str, plan: Plan, row: str, *, submitters: int,
        may_fail: tuple[type[Exception], ...], **options: Any,
    ) -> None:  # fmt: skip
        self.own = Outcome()
        self._plan, self._row = plan, row
        self._may_fail, self._options = may_fail, options
        self._lock, self._stop = threading.Lock(), threading.Event()
        # Clients look at the server when they are made: before there is any trouble.
        self._threads = [
            threading.Thread(
                target=self._submitter, args=(n, client_of(url)), name=f"submitter{n}", daemon=True
            )
            for n in range(submitters)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """No new jobs; those that run are checked to their end."""
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE)
            if thread.is_alive():
                self.own.missed.append(f"{thread.name} is stuck")

    def _submitter(self, number: int, client: redismr.Client) -> None:
        with client:
            for nth in count():
                if self._stop.is_set():
                    return
                its = case(self._plan.rng(self._row, number, nth), **self._options)
                outcome = Outcome()
                # Every other job comes in a trickle: then the trouble meets it half submitted.
                try:
                    self._one(client, its, outcome, slowly=nth % 2 == 1)
                except Exception as error:  # only our own may come to a user
                    outcome.missed.append(f"{its.name}: {error!r}")
                with self._lock:
                    self._take(outcome)

    def _one(self, client: redismr.Client, its: Case, outcome: Outcome, *, slowly: bool) -> None:
        items = Trickle(its.items) if slowly else its.items
        outcome.add("jobs")
        try:
            job = client.submit(items, **its.functions, **its.options)
            results = job.result(timeout=DEADLINE)
            wrong = problems(its, results, results.counters)
            outcome.wrong += [f"job {job.id}: {text}" for text in wrong]
            charged = client._store.link.one("HGETALL", NAMES.control(job.id, "tries"))
            for name, times in charged.items():
                if name.partition(b":")[0] in (b"lost", b"error", b"gone"):
                    outcome.add("charged", int(times))
            job.delete()
        except redismr.RedismrError as error:
            self._failed(error, outcome)

    def _failed(self, error: redismr.RedismrError, outcome: Outcome) -> None:
        outcome.add(type(error).__name__)
        if not isinstance(error, self._may_fail):
            outcome.missed.append(f"{type(error).__name__}: {error}")

    def _take(self, other: Outcome) -> None:
        for name, value in other.figures.items():
            self.own.add(name, value)
        self.own.wrong += other.wrong
        self.own.missed += other.missed


class Trickle:
    """A source that can be read again, and takes its time between two items."""

    def __init__(self, items: list[Any]) -> None:
        self._items = items

    def __iter__(self) -> Iterator[int]:
        pause = threading.Event()
        for index in range(len(self._items)):
            pause.wait(0.008)
            yield index

    def __getitem__(self, index: int) -> Any:
        return self._items[index]


@contextmanager
def traffic(
    url: str, plan: Plan, row: str, outcome: Outcome, *, submitters: int = SUBMITTERS,
    may_fail: tuple[type[Exception], ...] = (), **options: Any,
) -> Iterator[Traffic]:  # fmt: skip
    """Traffic, and what it found added to the row's outcome when its last job has ended."""
    flow = Traffic(url, plan, row, submitters=submitters, may_fail=may_fail, **options)
    flow.start()
    try:
        yield flow
    finally:
        flow.stop()
        for name, value in flow.own.figures.items():
            outcome.add(name, value)
        outcome.wrong += flow.own.wrong
        outcome.missed += flow.own.missed


def few_lost(outcome: Outcome, faults: str) -> None:
    """No more jobs may be lost than were under way when the server lost writes."""
    lost = sum(outcome.figures.get(error.__name__, 0) for error in FORGOTTEN)
    if lost > SUBMITTERS * outcome.figures.get(faults, 0):
        outcome.missed.append(f"{lost:g} jobs lost")


def committed(client: redis.Redis) -> dict[str, tuple[str, frozenset[bytes]]]:
    """Each listed job's state, and what is counted of it: done maps, finished partitions."""
    jobs = [job.decode() for job in client.zrange(NAMES.jobs, 0, -1)]
    pipe = client.pipeline(transaction=False)
    for job in jobs:
        pipe.hget(NAMES.control(job, "meta"), "state")
        pipe.hkeys(NAMES.control(job, "done"))
        pipe.hkeys(NAMES.control(job, "result"))
    replies = iter(pipe.execute())
    return {
        job: (
            (next(replies) or b"").decode(),
            frozenset([b"m" + i for i in next(replies)] + [b"r" + p for p in next(replies)]),
        )
        for job in jobs
    }
