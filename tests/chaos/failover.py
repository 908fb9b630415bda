"""Sentinel makes another server the master, with the old one alive or dead."""

from __future__ import annotations

import time

from support import eventually
from watched import Watched

from chaos.kit import Outcome, Plan, Row, fleet
from chaos.traffic import FORGOTTEN, few_lost, traffic

KINDS = ("by kill -9", "on request", "with two masters for 10 s")


def run(plan: Plan) -> Outcome:
    """Failovers on request and after kill -9, while jobs run and are submitted."""
    outcome, rng = Outcome(), plan.rng("failover")
    servers = Watched("valkey")
    try:
        with fleet(servers.url, plan, "failover") as workers:
            for _ in range(2):
                workers.join(2)
            with traffic(servers.url, plan, "failover", outcome, may_fail=FORGOTTEN):
                for nth in range(plan.amount(24)):
                    eventually(servers.settled, 40, "the old master does not follow the new one")
                    time.sleep(rng.uniform(0.1, 1))
                    kind = rng.choices(KINDS, (5, 4, 1))[0] if nth else "by kill -9"
                    if kind == "by kill -9":
                        servers.crash()
                    else:
                        old = servers.switch()
                        if kind == "on request":
                            time.sleep(rng.uniform(0, 1.5))
                            servers.demote(old)
                    outcome.add("failovers")
                    outcome.add(kind)
            outcome.missed += [
                f"{worker.log_path.name} ended by itself"
                for worker in workers.started
                if worker.popen.poll() is not None
            ]
    finally:
        servers.close()
    outcome.floor("failovers", plan.amount(20))
    few_lost(outcome, "failovers")
    return outcome


ROWS = [
    Row(
        "failover",
        "Sentinel failover, on request and after kill -9 of the master",
        ">= 20 failovers, 0 wrong, nobody stuck",
        "Programs and workers follow a failover by themselves; writes that it lost are done again, "
        "or the job says that it was lost.",
        run,
    )
]
