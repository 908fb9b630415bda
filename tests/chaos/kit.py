"""Tools of every row: plan, outcome, jobs whose answer is known, workers."""

from __future__ import annotations

import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from system.processes import SECRET, Processes, Worker, shell_env

import redismr
from redismr.store.keys import KeyNames

LEASE = 0.5
DEADLINE = 60.0
"""Seconds after which a job that has not ended counts as stuck."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The share of a row to run, and the seed of its random numbers."""

    seed: int
    scale: float
    folder: Path

    def amount(self, full: int) -> int:
        """Return the scaled figure, at least 1."""
        return max(1, round(full * self.scale))

    def rng(self, *what: object) -> random.Random:
        """Return a generator for one use, so that no row shifts the numbers of another."""
        return random.Random(f"{self.seed}.{what}")


@dataclass(slots=True)
class Outcome:
    """The findings of a row: figures for the table, wrong results, and missed targets."""

    figures: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def add(self, figure: str, by: float = 1) -> None:
        """Add to a figure."""
        self.figures[figure] = self.figures.get(figure, 0) + by

    def floor(self, figure: str, least: float) -> None:
        """Miss a target if the figure is lower: the row would prove nothing."""
        if self.figures.get(figure, 0) < least:
            self.missed.append(f"{figure}: {self.figures.get(figure, 0):g}, wanted {least:g}")

    def ceiling(self, figure: str, most: float) -> None:
        """Miss a target if the figure is higher."""
        if self.figures.get(figure, 0) > most:
            self.missed.append(f"{figure}: {self.figures.get(figure, 0):g}, allowed {most:g}")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table; ``promise`` is the sentence of docs/reliability.md that it tests."""

    name: str
    fault: str
    target: str
    promise: str
    run: Callable[[Plan], Outcome]


@dataclass(frozen=True, slots=True)
class Case:
    """A job and its only right answer: per key, with the values in order, and with each count.

    ``bad`` is the number of records that must be skipped, each counted once as skipped.
    """

    name: str
    items: list[Any]
    functions: Mapping[str, Any]
    options: Mapping[str, Any]
    expected: Mapping[Any, Any]
    bad: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Counters of the job: each record and key counts once, however often it ran."""
        return {"mapped": len(self.items) - self.bad, "reduced": len(self.expected)}


def _emit_pairs(item: tuple[int, float, list[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
    import time

    import redismr

    _number, seconds, pairs = item
    redismr.count("mapped")
    if seconds:
        time.sleep(seconds)
    yield from pairs


def _keep_list(key: str, values: list[Any]) -> Any:
    import redismr

    redismr.count("reduced")
    return list(values)


def _add_up(key: str, values: list[Any]) -> Any:
    import redismr

    redismr.count("reduced")
    return sum(values)


def make_case(
    rng: random.Random, *, tasks: int = 24, seconds: float = 0.004, **options: Any
) -> Case:
    """Make a small job of one of four shapes: order of values, combiner, big segments, few keys.

    Unless the row gives ``on_error``, some have bad records: pairs before the error must not count.
    """
    shape = rng.choice(["list", "sum", "big", "few"])
    bad_share = 0.1 if "on_error" not in options and rng.random() < 0.4 else 0
    bad = 0
    keys = {"list": 40, "sum": 60, "big": 30, "few": 2}[shape]
    items: list[Any] = []
    grouped: dict[str, list[Any]] = defaultdict(list)
    for number in range(tasks * 2):
        pairs: list[tuple[str, Any]] = []
        for nth in range(rng.randrange(8)):
            value: Any = number * 100 + nth
            if shape == "big":  # large enough to be staged instead of travelling in the manifest
                value = f"{value}:{rng.randbytes(1500).hex()}"
            pairs.append((f"k{rng.randrange(keys)}", value))
        if rng.random() < bad_share:
            bad += 1
            pairs.append(("no pair",))  # type: ignore[arg-type]
        else:
            for key, value in pairs:
                grouped[key].append(value)
        items.append((number, rng.uniform(0, 2 * seconds), pairs))
    functions: dict[str, Any] = {"mapfn": _emit_pairs, "reducefn": _keep_list}
    expected: dict[str, Any] = dict(grouped)
    if shape == "sum":
        functions = {"mapfn": _emit_pairs, "reducefn": _add_up, "combinefn": sum}
        expected = {key: sum(values) for key, values in grouped.items()}
    chosen = {"lease": LEASE, "partitions": rng.choice([1, 3, 5]), "chunk": 2, **options}
    if bad_share:
        chosen["on_error"] = rng.choice(["skip", bad, 0.5])
    return Case(shape, items, functions, chosen, expected, bad)


def problems(case: Case, results: redismr.Results, counters: Mapping[str, int]) -> list[str]:
    """Return how a result returned as success differs from the sequential run."""
    found, wrong = dict(results), []
    if results.skipped.total != case.bad:
        wrong.append(f"{case.name}: {results.skipped.total} skipped, not {case.bad}")
    for key in sorted({*found, *case.expected}):
        if found.get(key) != case.expected.get(key):
            wrong.append(
                f"{case.name}: key {key!r}: {str(found.get(key))[:80]} instead of"
                f" {str(case.expected.get(key))[:80]}"
            )
    for name, count in case.counts.items():
        if counters.get(name, 0) != count:
            wrong.append(f"{case.name}: {name} {counters.get(name, 0)}, not {count}")
    return wrong


def submit(client: redismr.Client, case: Case) -> redismr.Job:
    """Submit the job; its map tasks can be claimed when this returns."""
    return client.submit(case.items, **case.functions, **case.options)


def check(job: redismr.Job, case: Case, outcome: Outcome, *, may_fail: bool = False) -> bool:
    """Wait for the job and check its result; return True if it is right.

    A wrong result goes to ``outcome.wrong``. An error counts as "failed". It misses the target
    unless the row allows it. So do maps that ran again because segments were missing: where no data
    is lost, a manifest named a segment before it was written, or a segment was freed too early. A
    job that does not end always misses the target: no job may be silently stuck.
    """
    outcome.add("jobs")
    try:
        results = job.result(timeout=DEADLINE)
        wrong = problems(case, results, results.counters)
    except TimeoutError:
        outcome.missed.append(f"{case.name} job {job.id}: stuck, {job.progress()}")
        return False
    except redismr.RedismrError as error:
        outcome.add("failed")
        if not may_fail:
            outcome.missed.append(f"{case.name} job {job.id}: {type(error).__name__}: {error}")
        return False
    outcome.wrong += [f"job {job.id}: {text}" for text in wrong]
    if not may_fail and (again := run_again(job)):
        outcome.missed.append(f"{case.name} job {job.id}: segments were not there: {again}")
    return not wrong


def run_again(job: redismr.Job) -> list[str]:
    """Return the maps of a job that were sent to run again."""
    budgets = job._store.server.command("HKEYS", KeyNames("redismr").control(job.id, "budgets"))
    return sorted(name[12:].decode() for name in budgets if name.startswith(b"invalidated:"))


class Fleet(Processes):
    """Workers of a row: each a ``chaos.worker``, the real one, which may kill itself at a point."""

    def join(self, executors: int = 2, *, ready: bool = True, **env: str) -> Worker:
        """Start one more worker."""
        command = [sys.executable, "-m", "chaos.worker", "-n", str(executors)]
        log = self.folder / f"worker{len(self.started)}.log"
        paths = str(Path(__file__).parent.parent)
        variables = shell_env(self.url, SECRET, **env)
        variables["PYTHONPATH"] += f":{paths}"
        worker = Worker(command, variables, self.folder, log)
        self.started.append(worker)
        if ready:
            worker.wait_for_output("waiting for jobs")
        return worker

    def ended_early(self) -> list[str]:
        """Return workers that ended by themselves: they must survive the faults of the row."""
        ended = [worker for worker in self.started if worker.popen.poll() is not None]
        return [f"{worker.log_path.name} ended by itself" for worker in ended]


@contextmanager
def fleet(url: str, plan: Plan, name: str) -> Iterator[Fleet]:
    """Yield a fleet, and end it in any case."""
    folder = plan.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    workers = Fleet(url, folder)
    try:
        yield workers
    finally:
        workers.close()


def client_of(url: str) -> redismr.Client:
    """Return a client of the row's server."""
    return redismr.Client(url, secret=SECRET)


def time_left(deadline: float) -> Callable[[], bool]:
    """Return a function that is True until so many seconds are over."""
    return partial(lambda at: time.monotonic() < at, time.monotonic() + deadline)
