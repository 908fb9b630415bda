"""The part that all task queues share: a server like redismr's private one, and their workers.

The server is the binary that ``$REDISMR_BENCH_SERVER`` names, which is the one that redismr's side
uses. It listens on a unix socket and keeps nothing on disk.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.jobs import tiny
from benchmarks.measure import Side
from benchmarks.workloads import sum_by_key, tasks

QUEUE_SHARE = 0.1
"""Share of the 20,000 tasks that a queue is given: enough to know its speed."""

SOCKET_VARIABLE = "REDISMR_BENCH_SOCKET"


def socket_path() -> str:
    """Return the path of the server's socket, in workers too."""
    return os.environ.get(SOCKET_VARIABLE, "/nowhere")


def many_tasks(
    workers: Sequence[Sequence[str]], run: Callable[[range], Sequence[Sequence[int]]]
) -> Side[Any]:
    """Return the side that runs tasks of one item each; ``run`` hands them in, and returns results.

    A queue returns (key, count), as a tuple or in JSON, and leaves adding up to its user.
    """
    return Side(
        open_tool=lambda: server_and_workers(workers),
        warm=lambda _: run(range(8)),
        work=lambda _: sum_by_key((key, count) for key, count in run(tasks(QUEUE_SHARE))),
        part=QUEUE_SHARE,
        expected=lambda: sum_by_key(map(tiny, tasks(QUEUE_SHARE))),
    )


@contextmanager
def server_and_workers(workers: Sequence[Sequence[str]]) -> Iterator[None]:
    """Start a server, and Python modules as workers; end them after the body."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.environ[SOCKET_VARIABLE] = f"{folder}/s"
        options = ["--port", "0", "--unixsocket", socket_path(), "--save", "", "--appendonly", "no"]
        started = [_start_process(folder, os.environ["REDISMR_BENCH_SERVER"], *options)]
        try:
            while not Path(socket_path()).exists():
                time.sleep(0.01)
            started += [_start_process(folder, sys.executable, "-m", *words) for words in workers]
            yield
        finally:
            for process in reversed(started):
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _start_process(folder: str, *command: str) -> subprocess.Popen[bytes]:
    root = {"PYTHONPATH": str(Path(__file__).parents[1])}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | root, stdin=quiet, stdout=quiet, stderr=quiet
    )
