"""Replies that never arrive, arrive in part, or arrive late and in pieces."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from support import Server, eventually

import redismr
from chaos.kit import (
    LEASE,
    Case,
    Fleet,
    Outcome,
    Plan,
    Row,
    check,
    client_of,
    fleet,
    make_case,
    submit,
)
from chaos.proxy import RunningProxy

EATEN = 5000
JOBS_AT_ONCE = 4
WAITING = 60
TOOK = "s until they were, at most"
_RAN_OUT = re.compile(r"(\d+) tasks? taken back")


def run_with_lost_replies(plan: Plan) -> Outcome:
    """Run jobs until the proxy has lost enough replies to workers and clients."""
    outcome, server = Outcome(), Server("valkey")
    between = RunningProxy(server.directory / "s", server.directory, "eat", f"{plan.seed}.eat")
    wanted = plan.amount(EATEN)
    try:
        with fleet(between.url, plan, "replies") as workers:
            for _ in range(2):
                workers.join(2, ready=False)
            with client_of(between.url) as client:
                number = 0
                while (done := _lost_reply_count(between)) < wanted and not outcome.missed:
                    _run_jobs(plan, client, outcome, "replies", number, chunk=1, seconds=0.0)
                    number += 1
            outcome.figures |= {"eaten": done, "leases run out": _leases_expired(workers)}
            counts = between.counts()
            outcome.figures |= {name: counts[name] for name in ("torn", "refused", "replies")}
    finally:
        between.close()
        server.close()
    outcome.floor("eaten", wanted)
    return outcome


def run_with_slow_replies(plan: Plan) -> Outcome:
    """Run jobs over a slow connection; at the end workers die while many other jobs wait."""
    outcome, server = Outcome(), Server("valkey")
    between = RunningProxy(server.directory / "s", server.directory, "slow", f"{plan.seed}.slow")
    try:
        with (
            fleet(between.url, plan, "slow") as workers,
            client_of(between.url) as client,
        ):
            for _ in range(2):
                workers.join(2)
            for number in range(plan.amount(6)):
                _run_jobs(plan, client, outcome, "slow", number, tasks=12)
            outcome.figures["leases run out"] = _leases_expired(workers)
            with client_of(server.url) as direct:
                for number in range(plan.amount(5)):
                    _kill_one_worker(plan, server, workers, direct, outcome, number)
            outcome.figures["pieces"] = between.counts()["pieces"]
    finally:
        between.close()
        server.close()
    outcome.ceiling("leases run out", 0)
    outcome.floor("tasks of dead workers taken back", plan.amount(5))
    return outcome


def _kill_one_worker(
    plan: Plan, server: Server, workers: Fleet, client: redismr.Client, outcome: Outcome,
    number: int,
) -> None:  # fmt: skip
    """Kill a worker: the other one must reclaim its tasks, although it looks after many jobs."""
    rng, redis = plan.rng("bereave", number), server.client()
    waiting = [submit(client, make_case(rng, tasks=1, priority=0)) for _ in range(WAITING)]
    case = make_case(rng, tasks=4, priority=9, on_error="fail", backup=False)
    case = replace(case, items=[(nth, LEASE, pairs) for nth, _, pairs in case.items])
    job = submit(client, case)
    attempts_key = f"redismr:{{{job.id}}}:attempts"

    def held() -> int:
        return sum(b":%d:" % dead.pid in attempt for attempt in redis.hvals(attempts_key))

    dead = workers.started[-1]
    try:
        tasks = eventually(held)
        dead.kill()
        began = time.monotonic()
        eventually(lambda: not held())
        outcome.add("tasks of dead workers taken back", tasks)
        took = max(outcome.figures.get(TOOK, 0), time.monotonic() - began)
        outcome.figures[TOOK] = round(took, 1)
    except AssertionError as error:
        outcome.missed.append(f"{case.name} job {job.id}: {held()} tasks of a dead worker: {error}")
    for one in waiting:
        one.delete()
    workers.join(2)
    check(job, case, outcome)
    redis.close()


def _run_jobs(
    plan: Plan, client: redismr.Client, outcome: Outcome, row: str, number: int, **options: object
) -> None:
    """Run a few jobs at a time, so that their scripts mix."""
    cases = [make_case(plan.rng(row, number, n), **options) for n in range(JOBS_AT_ONCE)]

    def one(case: Case) -> Outcome:
        found = Outcome()
        check(submit(client, case), case, found)
        return found

    with ThreadPoolExecutor(JOBS_AT_ONCE) as threads:
        for found in threads.map(one, cases):
            outcome.add("jobs", found.figures["jobs"])
            outcome.wrong += found.wrong
            outcome.missed += found.missed


def _lost_reply_count(between: RunningProxy) -> int:
    counts = between.counts()
    return counts["swallowed"] + counts["torn"]


def _leases_expired(workers: Fleet) -> int:
    return sum(int(n) for w in workers.started for n in _RAN_OUT.findall(w.log))


ROWS = [
    Row(
        "replies",
        "3 % of the replies eaten or torn, requests refused",
        f">= {EATEN} eaten, 0 lost, 0 counted twice",
        "A lost reply loses nothing and counts nothing twice: what was asked may be asked again.",
        run_with_lost_replies,
    ),
    Row(
        "slow",
        "a line that delays each message up to 20 ms each way and delivers it in pieces",
        "0 wrong, no lease of 0.5 s lost but those of workers that die, and these are",
        "A slow line costs time and nothing else, as long as a few round trips fit into a lease.",
        run_with_slow_replies,
    ),
]
