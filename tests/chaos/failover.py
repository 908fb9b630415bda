"""Sentinel makes another server the master, while the old one is alive or dead."""

from __future__ import annotations

import random
import time

import redis
from sentinel_group import SentinelGroup
from support import eventually

from chaos.kit import Outcome, Plan, Row, fleet
from chaos.traffic import Counted, committed, recovered, rolled_back, traffic

SECONDS = 0.04
"""Time of each record: jobs must run longer than a failover takes."""

KINDS = ("by kill -9", "on request", "with two masters for 10 s")


def run(plan: Plan) -> Outcome:
    """Fail over on request and after kill -9, while jobs run and are submitted."""
    outcome, rng, hurt = Outcome(), plan.rng("failover"), set[str]()
    servers = SentinelGroup("valkey")
    try:
        with fleet(servers.url, plan, "failover") as workers:
            for _ in range(2):
                workers.join(2)
            jobs = traffic(servers.url, plan, "failover", outcome, forgets=True, seconds=SECONDS)
            with jobs as flow:
                for nth in range(plan.amount(24)):
                    eventually(servers.is_settled, 40, "the old master does not follow the new one")
                    time.sleep(rng.uniform(0.1, 1))
                    kind = rng.choices(KINDS, (5, 4, 1))[0] if nth else "by kill -9"
                    before = _failover(servers, kind, rng)
                    lost = rolled_back(before, _client(servers, servers.master))
                    outcome.add("failovers")
                    outcome.add(kind)
                    outcome.add("commits rolled back", sum(lost.values()))
                    hurt |= lost.keys()
            outcome.missed += workers.ended_early()
    finally:
        servers.close()
    outcome.floor("failovers", plan.amount(20))
    # One failover alone may meet nobody.
    outcome.floor("commits rolled back", plan.amount(25) - 1)
    recovered(outcome, hurt, flow, plan.amount(6) - 1)
    return outcome


def _failover(servers: SentinelGroup, kind: str, rng: random.Random) -> Counted:
    """Fail over in one of ``KINDS``; return what the old master had counted at its end."""
    if kind == "by kill -9":
        before = committed(_client(servers, servers.master))
        servers.crash()
        return before
    old = servers.fail_over()
    time.sleep(rng.uniform(0, 0.5))  # who is connected to it goes on
    before = committed(_client(servers, old))
    if kind == "on request":
        servers.demote(old)
    return before


def _client(servers: SentinelGroup, port: int) -> redis.Redis:
    return servers.servers[port].client()


ROWS = [
    Row(
        "failover",
        "Sentinel failover, on request and after kill -9 of the master",
        ">= 20 failovers, 0 wrong, commits rolled back and made again, nobody stuck or lost for it",
        "Programs and workers follow a failover by themselves; writes that it lost are done again, "
        "or the job says that it was lost.",
        run,
    )
]
