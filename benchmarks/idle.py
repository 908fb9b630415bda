"""Measure what idle supervisors cost the server. Many supervisors run in one process.

Each is redismr's own ``Supervisor`` with one executor. Only what would need a process is replaced:
executors are threads, and there are no signals. ``python -m benchmarks.idle N`` runs N supervisors.
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
"""Longer than any period of a supervisor: a wait for work ends after 10 s and begins again."""

SETTLE_SECONDS = 10.0
FAKE_PIDS = itertools.count(1 << 23)
"""Pids above the largest that a system can have (2^22)."""


class ThreadForkServer:
    """A fork server whose executors are threads."""

    def __init__(self, main: ExecutorMain) -> None:
        self._main = main
        self.socket, self._executor_end = socket.socketpair()
        self.pending_exits: list[ExecutorExit] = []

    def spawn(self, index: int) -> tuple[int, socket.socket]:
        """Start an executor as a thread; return a pid and the supervisor's end of the socket."""
        supervisor_end, executor_end = socket.socketpair()
        threading.Thread(target=self._main, args=(index, executor_end), daemon=True).start()
        return next(FAKE_PIDS), supervisor_end

    def read_exits(self) -> list[ExecutorExit]:
        """Return no exits: executors do not end."""
        return []


class ThreadSupervisor(supervisor.Supervisor):
    """A supervisor that runs in a thread, without signals."""

    def _register_events(self) -> None:
        self.selector.register(self.waker.pipe, selectors.EVENT_READ, lambda _: self._on_wakeups())


def commands_per_second(number: int) -> float:
    """Return the commands a second, also inside scripts, that so many idle supervisors cause."""
    with redismr.serve() as server, _idle_supervisors(number, server.connection):
        redis_client: Any = redis.Redis.from_url(server.url)
        client = redismr.Client(server.url, secret=server.connection.secret)
        while len(client.workers()) < number:
            time.sleep(0.1)
        client.close()
        time.sleep(SETTLE_SECONDS * scale())
        commands_before, started = _command_count(redis_client), time.perf_counter()
        time.sleep(max(1.0, WINDOW_SECONDS * scale()))
        commands = _command_count(redis_client) - commands_before
        seconds = time.perf_counter() - started
        redis_client.close()
        return commands / seconds


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
    """Run so many supervisors until the process is killed."""
    max_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))
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
