"""A server that restarts as it was some moments ago: acknowledged writes are gone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import redis
from support import Server

from chaos.kit import Outcome, Plan, Row, fleet
from chaos.traffic import Counted, committed, recovered, rolled_back, traffic

MAX_CUT_BYTES = 100_000
"""Most bytes that are cut off: some tens of commits, or the end of a job and the next start."""


def run(plan: Plan) -> Outcome:
    """Kill the server, cut its log at any byte, and start it again, many times."""
    outcome, rng, hurt = Outcome(), plan.rng("cuts"), set[str]()
    server = Server("valkey", aof_load_truncated="yes")
    try:
        with fleet(server.url, plan, "cuts") as workers:
            for _ in range(2):
                workers.join(2)
            with traffic(server.url, plan, "cuts", outcome, forgets=True) as flow:
                for nth in range(plan.amount(110)):
                    time.sleep(rng.uniform(0.2, 1.2))
                    if nth % 3:
                        flow.bad_moment.clear()
                        flow.bad_moment.wait(1)
                    if nth % 10 == 9:
                        rewrite_log(server)
                    before = freeze_writes(server)
                    server.kill()
                    size = cut_log(server.directory, rng.randrange(1, MAX_CUT_BYTES))
                    outcome.add("kB cut", size / 1000)
                    server.restart()
                    outcome.add("cuts")
                    lost = rolled_back(before, server.client())
                    outcome.add("commits rolled back", sum(lost.values()))
                    hurt |= lost.keys()
            outcome.missed += workers.ended_early()
    finally:
        server.close()
    outcome.figures["kB cut"] = round(outcome.figures["kB cut"])
    outcome.floor("cuts", plan.amount(100))
    outcome.floor("commits rolled back", plan.amount(100))
    recovered(outcome, hurt, flow, plan.amount(12))
    return outcome


def freeze_writes(server: Server) -> Counted:
    """Stop all writes until the server is killed; return what is counted then."""
    client = server.client()
    client.execute_command("CLIENT", "PAUSE", 30_000, "WRITE")
    before = committed(client)
    client.close()
    return before


def cut_log(directory: Path, size: int) -> int:
    """Cut at most ``size`` bytes off the end of the log; return how many."""
    logs = (directory / "appendonlydir").glob("*.incr.aof")
    log = max(logs, key=lambda path: int(path.name.split(".")[-3]))
    size = min(size, log.stat().st_size)
    os.truncate(log, log.stat().st_size - size)
    return size


def rewrite_log(server: Server) -> None:
    """Begin a new log, so that loading does not take longer and longer."""
    client = server.client()
    try:
        client.bgrewriteaof()
        while client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.01)
    except redis.ResponseError:
        pass  # one is under way
    client.close()


ROWS = [
    Row(
        "cuts",
        "kill -9 of Redis, and up to 100 kB cut off the end of its log",
        ">= 100 cuts, 0 wrong, commits rolled back and made again, nobody stuck or lost for it",
        "A server may forget acknowledged writes: what is lost is done again, or the job says that "
        "it was lost. A lease that comes back when its attempt is over counts as one lost lease.",
        run,
    )
]
