"""kill -9 of a server that keeps what it has acknowledged."""

from __future__ import annotations

import contextlib
import time

import redis
from support import Server

from chaos.kit import Outcome, Plan, Row, fleet
from chaos.traffic import committed, traffic

RESUME_SECONDS = 2.0


def run(plan: Plan) -> Outcome:
    """Kill and restart the server many times; measure how long until it counts a new commit."""
    outcome, rng = Outcome(), plan.rng("restarts")
    server = Server("valkey", appendfsync="always")
    try:
        with fleet(server.url, plan, "restarts") as workers:
            for _ in range(2):
                workers.join(2)
            with traffic(server.url, plan, "restarts", outcome):
                for nth in range(plan.amount(110)):
                    time.sleep(rng.uniform(0, 0.8))
                    if nth % 10 == 9:  # an ever longer log would measure how fast it is loaded
                        with contextlib.suppress(redis.ResponseError):
                            server.client().bgrewriteaof()
                    server.restart()
                    seconds = seconds_until_resumed(server)
                    outcome.add("restarts")
                    slowest = max(seconds, outcome.figures.get("s until work resumed", 0))
                    outcome.figures["s until work resumed"] = round(slowest, 2)
            outcome.missed += workers.ended_early()
    finally:
        server.close()
    outcome.figures.setdefault("charged", 0)
    outcome.floor("restarts", plan.amount(100))
    outcome.ceiling("s until work resumed", RESUME_SECONDS)
    outcome.ceiling("charged", 0)
    return outcome


def seconds_until_resumed(server: Server) -> float:
    """Return the seconds from a server's first answer until it counts a new commit."""
    began, client = time.monotonic(), server.client()
    before = committed(client)
    while (waited := time.monotonic() - began) < 10 * RESUME_SECONDS:
        now = committed(client)
        if any(
            len(parts) > len(before.get(job, ("", ()))[1]) or state != before.get(job, (state,))[0]
            for job, (state, parts) in now.items()
        ):
            break
        time.sleep(0.01)
    client.close()
    return waited


ROWS = [
    Row(
        "restarts",
        "kill -9 of Redis (appendfsync always) while jobs run and are submitted, started again",
        ">= 100 restarts, 0 wrong, work resumes in 2 s, nobody charged",
        "A restart of the server costs a pause: no task is lost, doubled or charged for it.",
        run,
    )
]
