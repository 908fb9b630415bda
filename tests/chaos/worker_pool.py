"""A stream of jobs, and workers that are replaced when they end, for rows that disturb both."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from pathlib import Path

from support import eventually, is_running
from system.processes import Worker

import redismr
from chaos.kit import DEADLINE, Case, Fleet, Outcome, check, submit, time_left

KEPT_SECONDS = 3.0
"""How long an ended job is kept: attempts that come too late must find it and be refused."""


class JobStream:
    """Keeps ``at_once`` jobs running, and checks each one that has ended."""

    def __init__(
        self,
        client: redismr.Client,
        outcome: Outcome,
        make: Callable[[int], Case],
        at_once: int = 4,
    ) -> None:
        self.client, self.outcome, self.make, self.at_once = client, outcome, make, at_once
        self.begun = self.tasks = 0
        self._running: list[tuple[redismr.Job, Case]] = []
        self._ended: deque[tuple[float, redismr.Job]] = deque()

    def step(self, *, more: bool = True) -> None:
        """Check jobs that have ended, and begin others in their place."""
        for job, case in list(self._running):
            if job.wait(0):
                self._end(job, case)
        while self._ended and self._ended[0][0] < time.monotonic() - KEPT_SECONDS:
            self._ended.popleft()[1].delete()
        while more and len(self._running) < self.at_once:
            case = self.make(self.begun)
            self.begun += 1
            self._running.append((submit(self.client, case), case))

    def finish(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Check all jobs that still run; call ``meanwhile`` until they have ended."""
        go_on = time_left(DEADLINE)
        while self._running and go_on():
            self.step(more=False)
            meanwhile()
            time.sleep(0.02)
        for job, case in list(self._running):
            self._end(job, case)

    def _end(self, job: redismr.Job, case: Case) -> None:
        self._running.remove((job, case))
        if check(job, case, self.outcome):
            progress = job.progress()
            self.tasks += progress.maps_done + progress.reduces_done
        self._ended.append((time.monotonic(), job))


class WorkerLog:
    """Reads what the workers of a row have logged: ``chaos.worker.LOGGED``."""

    def __init__(self, fleet: Fleet) -> None:
        self.path = fleet.folder / "chaos.log"
        self.path.touch()
        self._read = 0
        self._words = defaultdict[str, list[list[str]]](list)

    def words(self, word: str) -> list[list[str]]:
        """Return the other words of each line that begins with ``word``."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            whole, end, _ = file.read().rpartition(b"\n")
        self._read += len(whole + end)
        for line in whole.decode().splitlines():
            first, *rest = line.split()
            self._words[first].append(rest)
        return self._words[word]

    def total(self, word: str) -> int:
        """Return the sum of the numbers after the word; a line without a number counts 1."""
        return sum(int(rest[0]) if rest else 1 for rest in self.words(word))

    def kinds(self, word: str) -> Counter[str]:
        """Return how often each second word follows ``word``."""
        return Counter(rest[0] for rest in self.words(word))


class WorkerPool:
    """Workers that are replaced when they end. No process of an ended worker may be left."""

    def __init__(self, fleet: Fleet, count: int, executors: int, **env: str) -> None:
        self.fleet, self.executors, self.env = fleet, executors, env
        self.left: set[int] = set()
        self.workers = [fleet.join(executors, ready=False, **env) for _ in range(count)]
        for worker in self.workers:
            worker.wait_for_output("waiting for jobs")

    def family(self, worker: Worker) -> tuple[int, list[int]]:
        """Return the pid of a worker's fork server (0: not yet), and those of its executors."""
        fork_server = children(worker.pid)[:1]
        executors = children(fork_server[0]) if fork_server else []
        self.left.update(fork_server, executors)
        return (fork_server or [0])[0], executors

    def replace(self) -> int:
        """Start workers in the place of ended ones; return how many had ended."""
        for worker in self.workers:
            self.family(worker)
        ended = [worker for worker in self.workers if worker.popen.poll() is not None]
        for worker in ended:
            self.workers.remove(worker)
            self.workers.append(self.fleet.join(self.executors, ready=False, **self.env))
        return len(ended)

    def close(self, outcome: Outcome) -> None:
        """Kill all workers; an executor that outlives its supervisor misses the target."""
        self.replace()
        for worker in self.workers:
            send(worker.pid, signal.SIGKILL)
        try:
            eventually(lambda: not any(map(is_running, self.left)))
        except AssertionError:
            outcome.missed.append(f"outlived their supervisors: {[*filter(is_running, self.left)]}")


def children(pid: int) -> list[int]:
    """Return the direct children of a process; none if it has ended."""
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def send(pid: int, number: int) -> bool:
    """Signal a process; False if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False
