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
from redismr.workers.nursery import Exit, Main

IN_ONE = 125
WINDOW_SECONDS = 30.0
"""Longer than any of their duties: waiting for work ends after 10 s, and begins again."""

SETTLE_SECONDS = 10.0
NO_PID = itertools.count(1 << 23)
"""Above every pid that there can be (2^22)."""


class Threads:
    """A nursery that forks nothing."""

    def __init__(self, main: Main) -> None:
        self._main = main
        self.socket, self._theirs = socket.socketpair()
        self.early: list[Exit] = []

    def spawn(self, index: int) -> tuple[int, socket.socket]:
        """An executor that is a thread."""
        ours, theirs = socket.socketpair()
        threading.Thread(target=self._main, args=(index, theirs), daemon=True).start()
        return next(NO_PID), ours

    def exits(self) -> list[Exit]:
        """None of them ends."""
        return []


class Idle(supervisor.Supervisor):
    """A supervisor that is a thread."""

    def _listen(self) -> None:
        self.selector.register(self.waker.line, selectors.EVENT_READ, lambda _: self._on_wake())


def commands_a_second(number: int) -> float:
    """Of Redis, by so many idle supervisors; those inside scripts included."""
    with redismr.serve() as server, _crowd(number, server.connection):
        link: Any = redis.Redis.from_url(server.url)
        client = redismr.Client(server.url, secret=server.connection.secret)
        while len(client.workers()) < number:
            time.sleep(0.1)
        client.close()
        time.sleep(SETTLE_SECONDS * scale())
        before, began = _commands(link), time.perf_counter()
        time.sleep(max(1.0, WINDOW_SECONDS * scale()))
        used, seconds = _commands(link) - before, time.perf_counter() - began
        link.close()
        return used / seconds


def _commands(link: Any) -> int:
    return sum(
        row["calls"] for name, row in link.info("commandstats").items() if "info" not in name
    )


@contextlib.contextmanager
def _crowd(number: int, connection: Any) -> Iterator[None]:
    environ = os.environ | {
        "REDISMR_URL": connection.url,
        "REDISMR_SECRET": connection.secret,
        "REDISMR_NAMESPACE": connection.namespace,
    }
    command = [sys.executable, "-m", "benchmarks.idle"]
    started = [
        subprocess.Popen([*command, str(min(IN_ONE, number - first))], env=environ)
        for first in range(0, number, IN_ONE)
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
    connection = settings.resolve()
    assert connection is not None
    supervisor.Nursery = Threads  # type: ignore[assignment,attr-defined]
    threads = [
        threading.Thread(target=Idle(connection, WorkerOptions(quiet=True)).run)
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]))
