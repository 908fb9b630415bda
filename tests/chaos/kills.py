"""SIGKILL of executors and supervisors, at any moment and at each point of an attempt's life."""

from __future__ import annotations

import json
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from support import Server, is_running

from chaos.kit import Case, Outcome, Plan, Row, client_of, fleet, make_case, time_left
from chaos.worker import OF_SUPERVISORS
from chaos.worker_pool import JobStream, WorkerLog, WorkerPool, send

SECONDS = 240.0
POINTS = {
    "claimed": 0.03,
    "staged": 0.07,
    "named": 0.05,
    "read": 0.08,
    "written": 0.1,
    "uncommitted": 0.025,
    "committed": 0.025,
    "freed": 0.06,
    "failed": 0.2,
    "released": 0.5,
    "renewed": 0.002,
    "reclaimed": 0.003,
    "reported": 0.03,
    "returned": 0.03,
}
NAMED = ("claimed", "staged", "uncommitted", "committed")
"""After the claim, after staging, before the commit, after it: each is to be hit often."""

MEDIAN = "ms from an executor's death until its tasks were claimable or failed (median)"
P95, DEATHS = "ms in 19 of 20 cases", "of so many deaths"
WORKERS, EXECUTORS = 3, 3


def run(plan: Plan) -> Outcome:
    """Run jobs while executors, fork servers, supervisors and whole workers are killed."""
    outcome, server, rng = Outcome(), Server("valkey"), plan.rng("kills")
    least = {"kills": plan.amount(1000), "jobs": plan.amount(100)}
    least |= {f"at {point}": int(20 * plan.scale) for point in NAMED}
    least |= {"supervisors": int(50 * plan.scale)}
    try:
        with fleet(server.url, plan, "kills") as workers, client_of(server.url) as client:
            log = WorkerLog(workers)
            pool = WorkerPool(
                workers,
                WORKERS,
                EXECUTORS,
                CHAOS_LOG=str(log.path),
                CHAOS_POINTS=json.dumps(POINTS),
            )
            at_once = min(4, 1 + least["jobs"])
            flow = JobStream(client, outcome, lambda n: _case(plan.rng("kills", n)), at_once)
            killer = _Killer(pool, rng)
            go_on, pause = time_left(SECONDS * plan.scale + 5), 0.0
            while go_on() and _short_of(least, outcome, log, killer):
                flow.step()
                pool.replace()
                if time.monotonic() > pause:
                    killer.strike()
                    pause = time.monotonic() + rng.uniform(0.1, 0.3)
                time.sleep(0.02)
            flow.finish(pool.replace)
            pool.close(outcome)
            outcome.figures.update(_killed(log, killer))
            _count(outcome, log, killer, flow)
    finally:
        server.close()
    for figure, amount in least.items():
        outcome.floor(figure, amount)
    outcome.ceiling("re-executed", outcome.figures["kills"] * outcome.figures["largest batch"])
    outcome.floor(DEATHS, int(300 * plan.scale))
    for delay in (MEDIAN, P95):
        outcome.ceiling(delay, 250)
    return outcome


def _short_of(least: dict[str, int], outcome: Outcome, log: WorkerLog, killer: _Killer) -> bool:
    figures = outcome.figures | _killed(log, killer)
    return any(figures.get(figure, 0) < amount for figure, amount in least.items())


def _killed(log: WorkerLog, killer: _Killer) -> dict[str, float]:
    """Count processes that we killed, without those that ended with them."""
    lines = log.words("kill")
    points = Counter(point for point, _, _ in lines)
    supervisors = {int(pid) for point, pid, _ in lines if point in OF_SUPERVISORS}
    executors = {int(pid) for point, pid, _ in lines if point not in OF_SUPERVISORS}
    supervisors |= killer.supervisors
    executors |= killer.executors
    return {
        "kills": len(supervisors) + len(executors) + len(killer.fork_servers),
        "executors": len(executors),
        "supervisors": len(supervisors),
        **{f"at {point}": points[point] for point in POINTS},
    }


def _case(rng: random.Random) -> Case:
    """Make a job whose mapfn sometimes raises, so that kills must not be charged to it.

    None may be skipped: a record in which two executors were killed would be.
    """
    tasks, seconds = rng.choice([(24, 0.004), (24, 0.004), (80, 0.0005)])
    case = make_case(
        rng, tasks=tasks, seconds=seconds, lost_leases=100, retries=100, on_error="fail",
        backup=rng.random() < 0.5,
    )  # fmt: skip
    return replace(case, functions={**case.functions, "mapfn": _flaky})


def _flaky(item: Any) -> Iterator[tuple[str, Any]]:
    import random

    from chaos.kit import _emit_pairs

    chance = random.SystemRandom()
    if chance.random() < 0.02:  # never twice the same error: that would be the record's fault
        raise RuntimeError(chance.randbytes(8).hex())
    return _emit_pairs(item)


class _Killer:
    """Kills something of a pool from outside, now and then gently."""

    def __init__(self, pool: WorkerPool, rng: random.Random) -> None:
        self.pool, self.rng = pool, rng
        self.executors, self.fork_servers, self.supervisors = set[int](), set[int](), set[int]()
        #: When each executor was killed whose supervisor was left to tell of it.
        self.at: dict[int, float] = {}

    def strike(self) -> None:
        """Kill one process, or signal it."""
        worker = self.rng.choice(self.pool.workers)
        fork_server, executors = self.pool.family(worker)
        if not executors:
            return  # it is still starting
        dice = self.rng.random()
        if dice < 0.80:
            executor = self.rng.choice(executors)
            at = time.monotonic()
            if self._kill(executor, self.executors):
                self.at[executor] = at
        elif dice < 0.84:
            for _ in range(self.rng.choice([1, 1, 2])):
                send(worker.pid, signal.SIGTERM)
        else:
            # Alone, or with all its processes: each of them must be able to be the last one.
            one = (worker.pid, self.supervisors)
            root = (fork_server, self.fork_servers)
            whole = [one, root, *((pid, self.executors) for pid in executors)]
            self.rng.shuffle(whole)
            for pid, kind in self.rng.choice([[one], [root], whole]):
                self._kill(pid, kind)

    def _kill(self, pid: int, kind: set[int]) -> bool:
        if alive := is_running(pid) and send(pid, signal.SIGKILL):
            kind.add(pid)
        return alive


def _count(outcome: Outcome, log: WorkerLog, killer: _Killer, flow: JobStream) -> None:
    """Count what the kills cost: executions beyond one of each task, and time."""
    outcome.add("largest batch", max(int(rest[0]) for rest in log.words("grant")))
    begun, erred = len(log.words("attempt")), len(log.words("erred"))
    outcome.add("re-executed", max(0, begun - flow.tasks - erred))
    died = killer.at | {int(pid): float(at) for _, pid, at in log.words("kill")}
    delays = [
        1000 * (float(at) - died[int(pid)]) for pid, at in log.words("settled") if int(pid) in died
    ]
    outcome.add(DEATHS, len(delays))
    if len(delays) > 1:
        outcome.figures[MEDIAN] = round(statistics.median(delays), 1)
        outcome.figures[P95] = round(statistics.quantiles(delays, n=20, method="inclusive")[-1], 1)
        outcome.figures["ms at most"] = round(max(delays), 1)


ROWS = [
    Row(
        "kills",
        "SIGKILL of executors and supervisors, at random and at named points",
        ">= 1,000 kills over >= 100 jobs, 0 wrong, re-executed tasks <= kills x batch,"
        " a dead executor's tasks claimable within 250 ms in 19 of 20 cases",
        "A worker may die at any instruction: each task is counted exactly once.",
        run,
    )
]
