"""A thousand jobs with every kind of end: once their ttl is over, nothing is left."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support import Server, eventually
from system.processes import Worker, file_lines, write_script

import redismr
from chaos.kit import Fleet, Outcome, Plan, Row, client_of, fleet
from chaos.worker_pool import children

TTL = 15.0
"""Seconds; long enough that no job of the row is over before somebody has seen its end.

Beside a row that computes, the scheduler was seen to leave workers runnable without a core for up
to 6 s (the run delay of /proc/PID/schedstat), so 6 s was too short.
"""

JOBS_AT_ONCE = 16
SPARE_BYTES = 1 << 20
SPARE_RSS_KB = 4096

INDEXES = ("redismr:jobs", "redismr:recent", "redismr:deleted", "redismr:workers")
FATES = ["kept"] * 8 + ["deleted"] * 4 + ["failed"] * 3 + ["cancelled"] * 3 + ["crashed"]
"""Each job draws one of these; ``crashed`` jobs take an executor with them."""

BAD = ("failed", "crashed")


def run(plan: Plan) -> Outcome:
    """Run jobs of every fate; measure keys, memory and files before and after."""
    outcome, server = Outcome(), Server("valkey")
    try:
        with fleet(server.url, plan, "leaks") as workers, client_of(server.url) as client:
            processes = [workers.join(2, ready=False) for _ in range(2)]
            for worker in processes:
                worker.wait_for_output("waiting for jobs")
            pilot = _background_job(client, workers.folder)
            scene = _MeasuredProcesses(server, client, processes, pilot)
            _run_jobs(client, plan.rng("warm"), 2 * JOBS_AT_ONCE, outcome)
            for row in client.jobs():  # their ttl is not what is to be seen
                with contextlib.suppress(redismr.JobNotFound):
                    if row.job_id != pilot.id:
                        client.attach(row.job_id).delete()
            eventually(lambda: scene.is_quiet(None), 60, scene.describe_leftovers)
            before = scene.measure()
            _run_jobs(client, plan.rng("leaks"), plan.amount(1000), outcome)
            _dying_submitters(workers, plan.amount(4), outcome)
            _run_job(client, "kept")  # whoever submits tidies the listing
            try:
                eventually(lambda: scene.is_quiet(before), 60, scene.describe_leftovers)
            except AssertionError as late:
                outcome.missed.append(str(late))
            _compare(before, scene, outcome)
            (workers.folder / "gate").touch()
            pilot.wait(10)
    finally:
        server.close()
    outcome.floor("jobs", plan.amount(1000))
    return outcome


@dataclass(frozen=True, slots=True)
class Measures:
    """Figures that could grow. Memory is compared with some room, the others exactly."""

    keys: int
    memory: int
    threads: int
    fds: int
    worker_fds: int
    worker_rss_kb: int


class _MeasuredProcesses:
    """Measures the server, this process and the workers."""

    def __init__(
        self, server: Server, client: redismr.Client, processes: list[Worker], pilot: redismr.Job
    ) -> None:
        self.redis, self.client, self.processes, self.pilot = (
            server.client(),
            client,
            processes,
            pilot,
        )

    def is_quiet(self, before: Measures | None) -> bool:
        """True if only the pilot's keys are left, and memory is as it was."""
        if self.redis.zcard("redismr:jobs") > 1 or any(
            self.pilot.id not in k for k in self.leftover_keys()
        ):
            return False
        return before is None or self._memory() <= before.memory + SPARE_BYTES

    def leftover_keys(self) -> list[str]:
        """Return every key of a job, and wake-ups that nobody took."""
        keys = sorted(key.decode() for key in self.redis.scan_iter(count=1000))
        return [k for k in keys if k not in INDEXES]

    def describe_leftovers(self) -> str:
        """Describe what is left, to find the cause."""
        keys = [k for k in self.leftover_keys() if self.pilot.id not in k]
        lists = {k: self.redis.lrange(k, 0, 3) for k in keys if self.redis.type(k) == b"list"}
        listed = self.redis.zrange("redismr:jobs", 0, -1)
        return f"left behind: {keys[:20]}, {lists}, {listed}, {self.client.jobs()}"

    def measure(self) -> Measures:
        """Measure everything now."""
        gc.collect()
        pids = [pid for worker in self.processes for pid in (worker.pid, *children(worker.pid)[:1])]
        return Measures(
            # Without the pilot's: a lease that it loses on a busy machine leaves a key, rightly.
            sum(self.pilot.id.encode() not in key for key in self.redis.scan_iter(count=1000)),
            self._memory(),
            threading.active_count(),
            _fds("self"),
            sum(map(_fds, pids)),
            sum(map(_rss_kb, pids)),
        )

    def _memory(self) -> int:
        return int(self.redis.info("memory")["used_memory"])


SPARE = {
    "keys": 0,
    "memory": SPARE_BYTES,
    "threads": 0,
    "fds": 2,  # how many connections a pool keeps depends on what met in it
    "worker_fds": 1,
    "worker_rss_kb": SPARE_RSS_KB,
}


def _compare(before: Measures, scene: _MeasuredProcesses, outcome: Outcome) -> None:
    """Report figures that stay above their measure for a while."""

    def grown() -> dict[str, int]:
        after = scene.measure()
        return {name: getattr(after, name) - getattr(before, name) for name in SPARE}

    with contextlib.suppress(AssertionError):
        eventually(lambda: all(more <= SPARE[name] for name, more in grown().items()), 10)
    for name, more in grown().items():
        outcome.figures[f"{name.replace('_', ' ')} more"] = more
        outcome.ceiling(f"{name.replace('_', ' ')} more", SPARE[name])


def _background_job(client: redismr.Client, folder: Path) -> redismr.Job:
    """Submit a job with a short lease that runs all the time, so that workers reclaim often."""
    gate, begun = str(folder / "gate"), folder / "begun"

    def mapfn(x: Any) -> Any:
        begun.touch()
        while not os.path.exists(gate):
            time.sleep(0.02)
        return [(x, x)]

    job = client.submit([1], mapfn, "sum", lease=0.5, ttl=3600, partitions=1, backup=False)
    eventually(begun.exists)
    return job


def _behave(item: tuple[str, int]) -> Iterator[tuple[int, Any]]:
    """One function for all fates, so that executors need not change code."""
    fate, number = item
    if fate == "failed" and number == 3:
        raise ValueError("as it should")
    if fate == "crashed" and number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "cancelled":
        time.sleep(0.02)
    yield number % 5, b"x" * 400 * number


def _begin(client: redismr.Client, fate: str) -> redismr.Job:
    return client.submit(
        [(fate, number) for number in range(12)],
        _behave,
        "list",
        chunk=4,
        partitions=2,
        lease=0.5,
        ttl=TTL,
        retries=0,
        lost_leases=0 if fate == "crashed" else 5,
    )


def _end(job: redismr.Job, fate: str) -> str:
    """Wait for the end of a job; return what is wrong about it, or nothing."""
    if fate == "cancelled":
        job.cancel()
        return "" if job.state in ("cancelled", "succeeded") else f"{job.id}: {job.state}"
    try:
        found = dict(job.result(30))
    except redismr.JobError as error:
        return "" if fate in BAD else f"{job.id} ({fate}): {error}"
    finally:
        if fate == "deleted":
            job.delete()
    expected = {k: [b"x" * 400 * n for n in range(12) if n % 5 == k] for k in range(5)}
    return "" if found == expected else f"{job.id} ({fate}): {str(found)[:100]}"


def _run_job(client: redismr.Client, fate: str) -> None:
    assert not _end(_begin(client, fate), fate)


def _run_jobs(client: redismr.Client, rng: random.Random, count: int, outcome: Outcome) -> None:
    """Run so many jobs, several at a time, each to its end."""
    fates = [rng.choice(FATES) for _ in range(count)]
    while fates:
        begun = []
        for fate in fates[:JOBS_AT_ONCE]:
            outcome.add("jobs")
            outcome.add(fate)
            try:
                begun.append((_begin(client, fate), fate))
            except redismr.MapError as error:  # before it was handed in
                if fate not in BAD:
                    outcome.wrong.append(f"{fate}: {error}")
        del fates[:JOBS_AT_ONCE]
        begun.sort(key=lambda one: one[1] != "cancelled")  # seen last, they might be gone
        outcome.wrong += [told for job, fate in begun if (told := _end(job, fate))]


_SUBMITTER = f"""
    import redismr, threading, time
    def source():
        for number in range(5):
            yield ("kept", number)
        print("given", flush=True)
        time.sleep(60)
    client = redismr.Client()
    for _ in range({JOBS_AT_ONCE}):
        threading.Thread(
            target=lambda: client.submit(
                source(), lambda x: [(x, x)], "list", chunk=1, lease=0.5, ttl={TTL}
            )
        ).start()
"""


def _dying_submitters(workers: Fleet, count: int, outcome: Outcome) -> None:
    """Kill submitters in the middle of their sources."""
    program = write_script(workers.folder, _SUBMITTER)
    for _ in range(count):
        process = workers.start(sys.executable, str(program))
        lines = file_lines(process.log_path)
        eventually(lambda lines=lines: len(lines()) >= JOBS_AT_ONCE, 30, process.log)
        process.kill()
        outcome.add("killed while submitted", JOBS_AT_ONCE)


def _fds(pid: int | str) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def _rss_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


ROWS = [
    Row(
        "leaks",
        "1,000 jobs: kept, deleted, failed, cancelled, crashed, their submitters killed",
        "keys, memory, threads, descriptors and workers as before, once the ttl is over",
        "Nothing is left behind.",
        run,
    )
]
