"""Clocks of workers and of the submitter that are an hour off."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from support import Server

from chaos.kit import Outcome, Plan, Row, client_of, fleet, make_case
from chaos.worker_pool import JobStream, WorkerLog

HOUR = 3600.0


def run(plan: Plan) -> Outcome:
    """Run jobs of clients whose clocks are late, right and early, on workers of each kind."""
    outcome, server = Outcome(), Server("valkey")
    try:
        with fleet(server.url, plan, "clock") as workers:
            log = WorkerLog(workers)
            processes = [
                workers.join(2, ready=False, CHAOS_CLOCK=str(shift), CHAOS_LOG=str(log.path))
                for shift in (-HOUR, 0, HOUR)
            ]
            for worker in processes:
                worker.wait_for_output("waiting for jobs")
            tasks = 0
            for shift in (-HOUR, HOUR):
                with _clock(shift), client_of(server.url) as client:
                    # A ttl that is over already, or not for an hour, by the clocks that are off.
                    flow = JobStream(
                        client,
                        outcome,
                        lambda n, shift=shift: make_case(
                            plan.rng("clock", shift, n), lease=30, ttl=60, task_timeout=20
                        ),
                    )
                    while flow.begun < plan.amount(25):
                        flow.step()
                        time.sleep(0.01)
                    flow.finish()
                tasks += flow.tasks
            outcome.add("tasks", tasks)
            outcome.add("extra executions", len(log.words("attempt")) - tasks)
            outcome.ceiling("extra executions", 0)
    finally:
        server.close()
    return outcome


@contextmanager
def _clock(shift: float) -> Iterator[None]:
    real = time.time
    time.time = lambda: real() + shift
    try:
        yield
    finally:
        time.time = real


ROWS = [
    Row(
        "clock",
        "workers and submitters an hour ahead and behind",
        "0 wrong, 0 extra executions",
        "Only the server's clock counts.",
        run,
    )
]
