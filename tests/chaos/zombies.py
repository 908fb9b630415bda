"""SIGSTOP of supervisors and executors past their leases, then SIGCONT."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import replace

from support import Server
from system.processes import Worker

from chaos.kit import LEASE, Case, Outcome, Plan, Row, client_of, fleet, make_case, time_left
from chaos.worker_pool import JobStream, WorkerLog, WorkerPool, send

SECONDS = 165.0
WORKERS, EXECUTORS = 5, 3
STOPPED = "stopped by their supervisor when renew said that the lease was lost"
AWAKE = 2
"""Workers that are never stopped: with nobody heard of at all there are no zombies."""


def run(plan: Plan) -> Outcome:
    """Run jobs on some workers while others are stopped, lose their leases, and go on."""
    outcome, server, rng = Outcome(), Server("valkey"), plan.rng("zombies")
    zombies, fenced, stopped = plan.amount(300), plan.amount(60), plan.amount(30)
    try:
        with fleet(server.url, plan, "zombies") as workers, client_of(server.url) as client:
            log = WorkerLog(workers)
            pool = WorkerPool(workers, WORKERS, EXECUTORS, CHAOS_LOG=str(log.path))
            at_once = min(8, 2 + plan.amount(30))
            flow = JobStream(client, outcome, lambda n: _case(plan.rng("zombies", n)), at_once)
            parts = _StoppedParts(pool, rng, server)

            def short() -> bool:
                few = parts.zombies < zombies or log.total("fenced") < fenced
                return few or log.kinds("stopped")["lease"] < stopped

            go_on = time_left(SECONDS * plan.scale + 5)
            while go_on() and short():
                flow.step()
                parts.step()
                time.sleep(0.01)
            parts.resume_all()
            flow.finish()
            pool.close(outcome)
            outcome.add("zombies", parts.zombies)
            outcome.add("fenced", log.total("fenced"))
            outcome.add(STOPPED, log.kinds("stopped")["lease"])
    finally:
        server.close()
    outcome.floor("zombies", zombies)
    outcome.floor("fenced", fenced)
    outcome.floor(STOPPED, stopped)
    return outcome


def _case(rng: random.Random) -> Case:
    """Make a job whose tasks are long enough to be stopped; lost leases are not its fault.

    A few outlast their lease: with their supervisor stopped, they finish in vain.
    """
    case = make_case(rng, tasks=24, seconds=0.04, lost_leases=100, backup=rng.random() < 0.5)
    items = [
        (number, rng.uniform(1, 2) * LEASE if rng.random() < 0.1 else seconds, pairs)
        for number, seconds, pairs in case.items
    ]
    return replace(case, items=items)


class _StoppedParts:
    """Stops parts of workers for longer than a lease, several at a time."""

    def __init__(self, pool: WorkerPool, rng: random.Random, server: Server) -> None:
        self.pool, self.rng, self.zombies = pool, rng, 0
        self._redis = server.client()
        self._stopped: dict[Worker, tuple[float, list[int]]] = {}
        #: Fork servers hold nothing, and are no zombies.
        self.fork_servers = set[int]()

    def step(self) -> None:
        """Resume processes whose time is over, and stop others."""
        for worker, (at, pids) in list(self._stopped.items()):
            if time.monotonic() > at:
                del self._stopped[worker]
                self._wake(pids)
        for worker in self.pool.workers[AWAKE:]:
            if worker not in self._stopped and self._holds(worker):
                self._stop(worker)

    def _holds(self, worker: Worker) -> bool:
        """True if the executor holds a task: else its stop would have no effect."""
        mark = b":%d:" % worker.pid
        return any(
            mark in attempt
            for key in self._redis.keys("redismr:*:attempts")
            for attempt in self._redis.hvals(key)
        )

    def resume_all(self) -> None:
        """Resume all processes."""
        for _, pids in self._stopped.values():
            self._wake(pids)

    def _stop(self, worker: Worker) -> None:
        fork_server, executors = self.pool.family(worker)
        if not executors:
            return
        # All of it; the executors only; the supervisor only, so that user code finishes in vain.
        whole = [worker.pid, fork_server, *executors]
        pids = self.rng.choice([whole, executors, [worker.pid], [worker.pid]])
        for pid in pids:
            send(pid, signal.SIGSTOP)
        self.fork_servers.add(fork_server)
        self._stopped[worker] = time.monotonic() + self.rng.uniform(1.1, 2.5) * LEASE, pids

    def _wake(self, pids: list[int]) -> None:
        self.rng.shuffle(pids)
        for pid in pids:
            self.zombies += send(pid, signal.SIGCONT) and pid not in self.fork_servers


ROWS = [
    Row(
        "zombies",
        "SIGSTOP of supervisors and executors past the lease, then SIGCONT",
        ">= 300 zombies of workers that held tasks, >= 60 fenced, >= 30 stopped, 0 wrong",
        "A worker that was given up and comes back commits nothing twice.",
        run,
    )
]
