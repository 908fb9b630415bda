"""Programs as users write them, drawn at random, against a plain Python loop: nothing is broken."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from fuzz.oracle import differences
from fuzz.programs import (
    RandomFunctions,
    RandomProgram,
    random_functions,
    random_program,
    smaller_programs,
)
from support import Server

import redismr
from chaos.kit import DEADLINE, SECRET, Fleet, Outcome, Plan, Row, fleet

FUNCTIONS = 700
"""Each with so many sets of records as follow, run on two workers and inline."""
RECORDS = 6
INLINE = 20
"""So many sets inline, those of the workers among them: that costs a hundredth."""

SECONDS_TO_SHRINK = 2.0
ENOUGH = 6
"""So many wrong results are looked at, and no more."""

Run = Callable[[], redismr.Results]


def programs(plan: Plan) -> Outcome:
    """Draw programs, run them, and compare the results."""
    outcome = Outcome()
    server = Server("valkey")
    try:
        with fleet(server.url, plan, "programs") as workers, _client(server, workers) as client:
            for number in range(plan.amount(FUNCTIONS)):
                _run(client, random_functions(plan.rng("functions", number)), plan, number, outcome)
                if len(outcome.wrong) >= ENOUGH:
                    break
    finally:
        server.close()
    outcome.floor("programs", plan.amount(FUNCTIONS) * RECORDS)
    return outcome


def _client(server: Server, workers: Fleet) -> redismr.Client:
    for _ in range(2):  # two processes, so that each sees only some of the keys
        workers.join(1)
    return redismr.Client(server.url, secret=SECRET)


def _run(
    client: redismr.Client, functions: RandomFunctions, plan: Plan, number: int, outcome: Outcome
) -> None:
    """Run functions with several sets of records, whose jobs share an executor's process."""
    drawn = [
        random_program(functions, plan.rng("records", number, n), f"program {number}.{n}")
        for n in range(INLINE)
    ]
    jobs = [_submitted(client, one) for one in drawn[:RECORDS]]
    for one, collected in zip(drawn, jobs, strict=False):
        outcome.add("programs")
        if differences(one, collected):
            outcome.wrong.append(_shown("on workers", one, lambda p: _submitted(client, p)))
    for one in drawn:
        if differences(one, partial(_inline, one)):
            outcome.wrong.append(_shown("inline", one, lambda p: partial(_inline, p)))


def _shown(where: str, one: RandomProgram, start: Callable[[RandomProgram], Run]) -> str:
    """Describe the smallest part of a program, found in a few seconds, that is still wrong."""
    until, found = time.monotonic() + SECONDS_TO_SHRINK, ["right when it is run again"]
    smallest = one
    for _ in range(100):
        for part in (smallest, *smaller_programs(smallest)):
            if time.monotonic() > until:
                break
            if again := differences(part, start(part)):
                found = again
                if part is not smallest:
                    smallest = part
                    break
        else:
            break
    return f"{where}: {found[0]} | {smallest}"


def _submitted(client: redismr.Client, one: RandomProgram) -> Run:
    """Submit a job; return a function that returns its results or raises its error."""
    try:
        job = client.submit(one.open_source(), **one.functions.arguments())
    except redismr.RedismrError as error:
        return partial(_raised, error)
    return partial(_collected, job)


def _raised(error: redismr.RedismrError) -> redismr.Results:
    raise error


def _collected(job: redismr.Job) -> redismr.Results:
    return job.result(timeout=DEADLINE)


def _inline(one: RandomProgram) -> redismr.Results:
    return redismr.run(one.open_source(), inline=True, **one.functions.arguments())


ROWS = (
    Row(
        "programs",
        "none: ordinary programs",
        "as a plain loop",
        "What a program gives, or that it fails, is what a plain loop says, however it is cut.",
        programs,
    ),
)
