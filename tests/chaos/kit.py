"""What every row of the campaign uses: plan, outcome, jobs whose answer is known, workers."""

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

from system.processes import SECRET, Processes, Worker, environ

import redismr
from redismr.store.keys import KeyNames

LEASE = 0.5
DEADLINE = 60.0
"""Seconds after which a job that has not ended counts as stuck."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of a row is to be run, and where its random numbers come from."""

    seed: int
    scale: float
    folder: Path

    def amount(self, full: int) -> int:
        """This much of the full figure; at least one."""
        return max(1, round(full * self.scale))

    def rng(self, *what: object) -> random.Random:
        """Random numbers of their own for each use, so that one row does not shift another's."""
        return random.Random(f"{self.seed}.{what}")


@dataclass(slots=True)
class Outcome:
    """What a row found: figures for the table, wrong results, and what else fell short."""

    figures: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def add(self, figure: str, by: float = 1) -> None:
        """Count something."""
        self.figures[figure] = self.figures.get(figure, 0) + by

    def floor(self, figure: str, least: float) -> None:
        """A figure that must be reached, or the row proves nothing."""
        if self.figures.get(figure, 0) < least:
            self.missed.append(f"{figure}: {self.figures.get(figure, 0):g}, wanted {least:g}")

    def ceiling(self, figure: str, most: float) -> None:
        """A figure that must not be passed."""
        if self.figures.get(figure, 0) > most:
            self.missed.append(f"{figure}: {self.figures.get(figure, 0):g}, allowed {most:g}")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. ``promise`` is the sentence of docs/reliability.md it stands for."""

    name: str
    fault: str
    target: str
    promise: str
    run: Callable[[Plan], Outcome]


@dataclass(frozen=True, slots=True)
class Case:
    """A job and the only right answer: per key, with the values in order, and with each count.

    ``bad`` of its records are to be skipped, and counted as that once each.
    """

    name: str
    items: list[Any]
    functions: Mapping[str, Any]
    options: Mapping[str, Any]
    expected: Mapping[Any, Any]
    bad: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Every record and every key counted once, whatever ran how often."""
        return {"mapped": len(self.items) - self.bad, "reduced": len(self.expected)}


def _mapped(item: tuple[int, float, list[tuple[str, Any]]]) -> Iterator[tuple[str, Any]]:
    import time

    import redismr

    _number, seconds, pairs = item
    redismr.count("mapped")
    if seconds:
        time.sleep(seconds)
    yield from pairs


def _listed(key: str, values: list[Any]) -> Any:
    import redismr

    redismr.count("reduced")
    return list(values)


def _added(key: str, values: list[Any]) -> Any:
    import redismr

    redismr.count("reduced")
    return sum(values)


def case(rng: random.Random, *, tasks: int = 24, seconds: float = 0.004, **options: Any) -> Case:
    """A small job of one of four shapes: order of values, a combiner, big segments, few keys.

    Unless the row says ``on_error``, some have bad records: what these yield first must not count.
    """
    shape = rng.choice(["list", "sum", "big", "few"])
    spoilt = 0.1 if "on_error" not in options and rng.random() < 0.4 else 0
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
        if rng.random() < spoilt:
            bad += 1
            pairs.append(("no pair",))  # type: ignore[arg-type]
        else:
            for key, value in pairs:
                grouped[key].append(value)
        items.append((number, rng.uniform(0, 2 * seconds), pairs))
    functions: dict[str, Any] = {"mapfn": _mapped, "reducefn": _listed}
    expected: dict[str, Any] = dict(grouped)
    if shape == "sum":
        functions = {"mapfn": _mapped, "reducefn": _added, "combinefn": sum}
        expected = {key: sum(values) for key, values in grouped.items()}
    chosen = {"lease": LEASE, "partitions": rng.choice([1, 3, 5]), "chunk": 2, **options}
    if spoilt:
        chosen["on_error"] = rng.choice(["skip", bad, 0.5])
    return Case(shape, items, functions, chosen, expected, bad)


def problems(case: Case, results: redismr.Results, counters: Mapping[str, int]) -> list[str]:
    """How a result returned as success differs from the sequential run; [] if it does not."""
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
    """Hand the job in; its map tasks can be claimed when this returns."""
    return client.submit(case.items, **case.functions, **case.options)


def check(job: redismr.Job, case: Case, outcome: Outcome, *, may_fail: bool = False) -> bool:
    """Wait for the job and check what it says; True if it succeeded.

    A wrong result goes to ``outcome.wrong``. An error counts as "failed", and is missed unless the
    row allows it, and so are maps that ran again because their segments were not there: where no
    data is lost, that means that something was named before it was written, or freed too early.
    A job that does not end is always missed: nothing may be silently stuck.
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
    """The maps of a job that were sent to run again."""
    budgets = job._store.server.command("HKEYS", KeyNames("redismr").control(job.id, "budgets"))
    return sorted(name[12:].decode() for name in budgets if name.startswith(b"invalidated:"))


class Fleet(Processes):
    """Workers of a row, each a ``chaos.worker``: the real one, which may kill itself at a point."""

    def join(self, executors: int = 2, *, ready: bool = True, **env: str) -> Worker:
        """One more worker."""
        command = [sys.executable, "-m", "chaos.worker", "-n", str(executors)]
        log = self.folder / f"worker{len(self.started)}.log"
        paths = str(Path(__file__).parent.parent)
        variables = environ(self.url, SECRET, **env)
        variables["PYTHONPATH"] += f":{paths}"
        worker = Worker(command, variables, self.folder, log)
        self.started.append(worker)
        if ready:
            worker.wait_for_output("waiting for jobs")
        return worker

    def gone(self) -> list[str]:
        """Workers that ended, where nobody ended them: they are to bear it without a restart."""
        ended = [worker for worker in self.started if worker.popen.poll() is not None]
        return [f"{worker.log_path.name} ended by itself" for worker in ended]


@contextmanager
def fleet(url: str, plan: Plan, name: str) -> Iterator[Fleet]:
    """A fleet that is gone afterwards, whatever happened."""
    folder = plan.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    its = Fleet(url, folder)
    try:
        yield its
    finally:
        its.close()


def client_of(url: str) -> redismr.Client:
    """A client of the row's server."""
    return redismr.Client(url, secret=SECRET)


def until(deadline: float) -> Callable[[], bool]:
    """Whether there is time left."""
    return partial(lambda at: time.monotonic() < at, time.monotonic() + deadline)
