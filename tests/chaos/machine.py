"""The state machine: the scripts and an executable model take the same random steps."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TypeVar

from store.server import ServerJob
from store.steps import RARE, STEPS, RandomJob
from support import Server

from chaos.kit import Outcome, Plan, Row
from redismr.config import Connection
from redismr.store import Store

T = TypeVar("T")
PROCESSES = 2
LENGTH = 150
"""Steps of one job at most."""

WANTED = (
    "commit:OK", "commit:DUP_OK", "commit:FENCED", "commit:RESTAGE", "commit:of two",
    "claim:second", "steal:slow", "invalidate:OK", "invalidate:FENCED", "invalidate:STALE",
    "invalidate:results", "fail:RETRY", "fail:DEAD", "fail:FENCED", "fail:DONE", "fail:forgiven",
    "reclaim:expired", "reclaim: submitting->failed", "extend:OK", "rewind", "add:SHORT",
    "close:SHORT", "close: submitting->reducing", "close: submitting->succeeded",
    "commit: mapping->reducing", "commit: reducing->succeeded",
)  # fmt: skip
"""Events (``steps.coverage_of``) that 20,000 steps must contain, or the row proves nothing."""

SELDOM = (
    "steal:late", "invalidate:DEAD", "invalidate: reducing->failed", "invalidate:of two",
    "fail:of two", "reclaim:of two", "reclaim: mapping->failed", "reclaim: reducing->failed",
    "names:GONE", "fill",
)  # fmt: skip
"""And 100,000 these too."""


@dataclass(frozen=True, slots=True)
class SeededChoices:
    """Choices of a seeded generator."""

    rng: random.Random

    def choose(self, options: Sequence[T]) -> T:
        return options[int(self.rng.random() * len(options))]

    def chance(self, percent: int) -> bool:
        return self.rng.random() * 100 < percent


Script = list[tuple[str, int]]
"""Steps by name, each with the seed of its choices: any part of it can be taken again."""


def script(rng: random.Random) -> Script:
    """Return the steps of one job."""
    names = rng.choices(list(STEPS), list(STEPS.values()), k=LENGTH)
    for at in range(LENGTH):
        if rng.random() * 1000 < sum(RARE.values()):
            names[at] = rng.choices(list(RARE), list(RARE.values()))[0]
    return [(name, rng.getrandbits(32)) for name in names]


def play(subject: ServerJob, job: str, steps: Script, seen: Counter[str]) -> str:
    """Take the steps; return what went wrong, or nothing."""
    number, ended = -1, 0
    try:
        walk = RandomJob(subject, job, SeededChoices(random.Random(steps[0][1])), seen)
        for number, (name, seed) in enumerate(steps):  # noqa: B007 - the except clause tells it
            getattr(walk, name)(SeededChoices(random.Random(seed)))
            seen["steps"] += 1
            ended += walk.over
            if ended > 8:  # a few more, as those who have not heard of it
                break
        seen[walk.model.state or "gone"] += 1
    except Exception as error:
        return f"step {number} ({steps[max(number, 0)][0]}): {type(error).__name__}: {error}"
    finally:
        if hasattr(subject, "keys"):
            subject.store.server.client.delete(*subject.keys)
    return ""


def kind(error: str) -> str:
    """Return an error without its step, numbers and names."""
    return re.sub(r"\d", "", error.partition(": ")[2])[:40]


def shortest(subject: ServerJob, steps: Script, seconds: float = 10) -> Script:
    """Return a shorter list of steps that still goes wrong, by leaving parts out."""
    size, until = len(steps) // 2, time.monotonic() + seconds
    wanted = kind(play(subject, "again", steps, Counter()))
    while size and time.monotonic() < until:
        for at in range(0, len(steps), size):
            fewer = [steps[0], *(steps[1:at] + steps[max(at, 1) + size :])]
            if len(fewer) < len(steps) and kind(play(subject, "again", fewer, Counter())) == wanted:
                steps = fewer
                break
        else:
            size //= 2
    return steps


def drive(url: str, seed: str, total: int, seconds: float) -> tuple[Counter[str], list[str]]:
    """Run jobs in one process until all steps are taken."""
    store = Store(Connection(url=url, secret="x" * 32), patience=5)
    subject, seen, wrong = ServerJob(store), Counter[str](), list[str]()
    until = time.monotonic() + seconds
    number = 0
    while seen["steps"] < total and not wrong and time.monotonic() < until:
        number += 1
        steps = script(random.Random(f"{seed}.{number}"))
        error = play(subject, f"w{seed}.{number}", steps, seen)
        if error:
            few = shortest(subject, steps)
            why = play(subject, "again", few, Counter())
            wrong.append(f"seed {seed}.{number}: {error}; {len(few)} steps do: {why} {few}")
    return seen, wrong


def run(plan: Plan) -> Outcome:
    """Run two processes, each against its own server."""
    outcome, total = Outcome(), plan.amount(200_000)
    servers = [Server("valkey") for _ in range(PROCESSES)]
    seen: Counter[str] = Counter()
    began = time.monotonic()
    try:
        with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
            share = -(-total // PROCESSES)
            runs = [
                pool.submit(drive, server.url, f"{plan.seed}.{i}", share, 900)
                for i, server in enumerate(servers)
            ]
            for one in runs:
                counts, wrong = one.result()
                seen += counts
                outcome.wrong += wrong
    finally:
        for server in servers:
            server.close()
    outcome.figures = {"steps": seen["steps"], "jobs": seen["create:OK"]}
    for name, word in (
        ("succeeded", "succeeded"),
        ("rewinds", "rewind"),
        ("fenced", "commit:FENCED"),
    ):
        outcome.figures[name] = seen[word]
    outcome.figures["steps/s"] = round(seen["steps"] / (time.monotonic() - began))
    outcome.floor("steps", total)
    wanted = (WANTED if total >= 20_000 else ()) + (SELDOM if total >= 100_000 else ())
    outcome.missed += [f"never seen: {word}" for word in wanted if not seen[word]]
    return outcome


ROWS = [
    Row(
        "machine",
        "random steps of the protocol, lost replies, lost data, rewinds; model against scripts",
        "200,000 steps, no disagreement",
        "Every step of a job does what a model in plain Python says, and keeps I1 to I15.",
        run,
    )
]
