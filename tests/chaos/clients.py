"""Every connection cut again and again, and the server's scripts forgotten."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from support import Server

import redismr
from chaos.kit import Case, Outcome, Plan, Row, check, client_of, fleet, make_case, submit

EVERY = 0.1
JOBS_AT_ONCE = 4
LOOK = 0.004
"""How often the watcher looks whether a job has ended: how exact the waits are."""


class Killer(threading.Thread):
    """Cuts all connections but its own, over which it also sees when jobs end."""

    def __init__(self, server: Server, rng: random.Random) -> None:
        super().__init__(daemon=True)
        self.client, self.rng, self.over = server.client(), rng, False
        self.watched: dict[str, float] = {}
        self.killed = self.flushed = 0

    def watch(self, job: str) -> None:
        """Note when this job ends."""
        self.watched[job] = 0.0

    def run(self) -> None:
        """Cut connections until told to stop."""
        due = time.monotonic()
        while not self.over:
            for job, ended in list(self.watched.items()):
                if not ended and self._ended(job):
                    self.watched[job] = time.monotonic()
            if time.monotonic() >= due:
                due += EVERY
                for kind in ("normal", "pubsub"):
                    self.killed += self.client.execute_command(
                        "CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"
                    )
                if self.rng.random() < 0.5:
                    self.client.script_flush("SYNC")
                    self.flushed += 1
            time.sleep(LOOK)

    def stop(self) -> None:
        """Stop; the thread has ended when this returns."""
        self.over = True
        self.join()

    def _ended(self, job: str) -> bool:
        return self.client.hget(f"redismr:{{{job}}}:meta", "state") in (b"succeeded", b"failed")


def run(plan: Plan) -> Outcome:
    """Run several jobs at a time on two workers; a thread waits for each."""
    outcome, server = Outcome(), Server("valkey")
    killer = Killer(server, plan.rng("clients"))
    waits: list[float] = []
    try:
        with fleet(server.url, plan, "clients") as workers, client_of(server.url) as client:
            for _ in range(2):
                workers.join(2)
            killer.start()
            with ThreadPoolExecutor(JOBS_AT_ONCE) as threads:
                cases = [make_case(plan.rng("clients", n)) for n in range(plan.amount(80))]
                for found, wait in threads.map(lambda case: _run_job(client, killer, case), cases):
                    outcome.add("jobs")
                    outcome.wrong += found.wrong
                    outcome.missed += found.missed
                    waits.append(wait)
    finally:
        killer.stop()
        server.close()
    outcome.figures |= {
        "connections killed": killer.killed,
        "script flushes": killer.flushed,
        "s longest wait past the end": round(max(waits), 3),
    }
    outcome.ceiling("s longest wait past the end", 1)
    outcome.floor("connections killed", plan.amount(500))
    outcome.floor("script flushes", plan.amount(15))
    return outcome


def _run_job(client: redismr.Client, killer: Killer, case: Case) -> tuple[Outcome, float]:
    found = Outcome()
    job = submit(client, case)
    killer.watch(job.id)
    job.wait(60)
    returned = time.monotonic()
    check(job, case, found)
    ended = killer.watched.pop(job.id)
    # 0: the waiter knew before the watcher did.
    return found, returned - ended if ended else 0.0


ROWS = [
    Row(
        "clients",
        "CLIENT KILL of everything each 100 ms, SCRIPT FLUSH at random",
        "0 wrong, no wait longer than 1 s past completion",
        "A cut connection is opened again by whoever needs it; nobody sleeps through a job's end.",
        run,
    )
]
