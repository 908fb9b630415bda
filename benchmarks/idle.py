"""Supervisors that have nothing to do, many in one process: what they cost the server.

Each is redismr's own ``Supervisor`` with one executor, but for what takes a process: executors are
threads, and nobody listens to signals. ``python -m benchmarks.idle N`` is N of them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import redis

import redismr
from benchmarks.cache import scale
from redismr import settings
from redismr.config import WorkerOptions
from redismr.workers import supervisor
from redismr.workers.fork_server import ExecutorExit, ExecutorMain

SUPERVISORS_PER_PROCESS = 125
WINDOW_SECONDS = 30.0
"""Longer than any of their duties: waiting for work ends after 10 s, and begins again."""

SETTLE_SECONDS = 10.0
FAKE_PIDS = itertools.count(1 << 23)
"""Above every pid that there can be (2^22)."""


class ThreadForkServer:
    """A fork_server that forks nothing."""

    def __init__(self, main: ExecutorMain) -> None:
        self._main = main
        self.socket, self._theirs = socket.socketpair()
        self.pending_exits: list[ExecutorExit] = []

    def spawn(self, index: int) -> tuple[int, socket.socket]:
        """An executor that is a thread."""
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._main, args=(index, theirs), daemon=True).start()
        return next(FAKE_PIDS), ours

    def read_exits(self) -> list[ExecutorExit]:
        """None of them ends."""
        return []


class ThreadSupervisor(supervisor.Supervisor):
    """A supervisor that is a thread."""

    def _register_events(self) -> None:
        self.selector.register(self.waker.pipe, selectors.EVENT_READ, lambda _: self._on_wakeups())


def commands_per_second(number: int) -> float:
    """Of Redis, by so many idle supervisors; those inside scripts included."""
    with redismr.serve() as server, _idle_supervisors(number, server.connection):
        redis_client: Any = redis.Redis.from_url(server.url)
        client = redismr.Client(server.url, secret=server.connection.secret)
        while len(client.workers()) < number:
            time.sleep(0.1)
        client.close()
        time.sleep(SETTLE_SECONDS * scale())
        before, began = _command_count(redis_client), time.perf_counter()
        time.sleep(max(1.0, WINDOW_SECONDS * scale()))
        used, seconds = _command_count(redis_client) - before, time.perf_counter() - began
        redis_client.close()
        return used / seconds


def _command_count(redis_client: Any) -> int:
    return sum(
        row["calls"]
        for name, row in redis_client.info("commandstats").items()
        if "info" not in name
    )


@contextlib.contextmanager
def _idle_supervisors(number: int, connection: Any) -> Iterator[None]:
    environ = os.environ | {
        "REDISMR_URL": connection.url,
        "REDISMR_SECRET": connection.secret,
        "REDISMR_NAMESPACE": connection.namespace,
    }
    command = [sys.executable, "-m", "benchmarks.idle"]
    started = [
        subprocess.Popen([*command, str(min(SUPERVISORS_PER_PROCESS, number - first))], env=environ)
        for first in range(0, number, SUPERVISORS_PER_PROCESS)
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def main(number: int) -> None:
    """Run so many, until killed."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connection = settings.resolve_connection()
    assert connection is not None
    supervisor.ForkServer = ThreadForkServer  # type: ignore[assignment,attr-defined]
    threads = [
        threading.Thread(target=ThreadSupervisor(connection, WorkerOptions(quiet=True)).run)
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]))
