"""No fault: the standard for the other rows, and a test of the harness itself."""

from __future__ import annotations

import time

from support import Server

from chaos.kit import Outcome, Plan, Row, client_of, fleet, make_case
from chaos.worker_pool import JobStream, WorkerLog

JOBS = 100


def run(plan: Plan) -> Outcome:
    """Run jobs on two workers whose executors pause and repeat calls; nothing else happens."""
    outcome, server = Outcome(), Server("valkey")
    odd = {"CHAOS_PAUSE": "0.04", "CHAOS_TWICE": "0.1"}
    try:
        with fleet(server.url, plan, "control") as workers, client_of(server.url) as client:
            log = WorkerLog(workers)
            for _ in range(2):
                workers.join(2, **odd, CHAOS_LOG=str(log.path))
            # Long leases, no backups: a slow machine must not cost a lease or begin a task twice.
            flow = JobStream(
                client,
                outcome,
                lambda n: make_case(plan.rng("control", n), tasks=12, lease=30, backup=False),
            )
            while flow.begun < plan.amount(JOBS):
                flow.step()
                time.sleep(0.01)
            flow.finish()
            outcome.add("tasks", flow.tasks)
            outcome.add("extra executions", len(log.words("attempt")) - flow.tasks)
            outcome.add("staged", len(log.words("staged")))
            outcome.add("staged too late", log.total("staged"))
            outcome.add("freed too early", log.total("freed"))
    finally:
        server.close()
    outcome.ceiling("extra executions", 0)
    outcome.floor("staged", 1)
    outcome.ceiling("staged too late", 0)
    outcome.ceiling("freed too early", 0)
    return outcome


ROWS = [
    Row(
        "control",
        "none, but executors pause between any two steps, and ask some things twice",
        "every job right, 0 extra executions",
        "A result equals a plain sequential run, key by key and value by value.",
        run,
    )
]
