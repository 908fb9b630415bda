"""Run one side of a row in a fresh process, in the same way for every tool."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks import peers, proc
from benchmarks.measure import Measured
from redismr.server.binary import find_binary

SIDE_TIMEOUT_SECONDS = 3600
LEFTOVER_GRACE_SECONDS = 20
SHOWN_ERROR_LINES = 20


class SideFailed(Exception):
    """A side has ended with an error; the text is its last line."""


def environment() -> dict[str, str]:
    """Return the environment without a server of the user's, and equally fast for all tools.

    Byte code of modules is cached, as in an installation. Hashes of strings are the same in every
    process, because shuffles written by hand depend on that.
    """
    variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("REDISMR_BENCH_") or not name.startswith(("REDISMR_", "REDIS_URL"))
    }
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables | {
        "PYTHONPATH": str(peers.ROOT),
        "PYTHONHASHSEED": "0",
        "REDISMR_BENCH_SERVER": str(find_binary()),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def run_side(side: str) -> Measured:
    """Run one side; all processes that it started have ended when this returns.

    Raises:
        SideFailed: The side has no result.
    """
    tool = side.partition(".")[0]
    return Measured(**run_module(peers.python_for(tool), "benchmarks.side", side))


def run_module(python: str, module: str, *words: str) -> dict[str, Any]:
    """Run a module, and return the JSON of its last line.

    Raises:
        SideFailed: The module ends with an error, or takes too long.
    """
    proc.become_subreaper()
    command = [python, "-m", module, *words]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as error_file:
        try:
            done = subprocess.run(
                command, env=environment(), cwd=peers.ROOT, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=error_file, timeout=SIDE_TIMEOUT_SECONDS, check=False,  # noqa: E501
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise SideFailed(f"not done after {SIDE_TIMEOUT_SECONDS} s") from None
        finally:
            _reap_leftovers()
        error_file.seek(0)
        error_lines = [line for line in error_file.read().splitlines() if line.strip()][
            -SHOWN_ERROR_LINES:
        ]
    if done.returncode:
        print(*error_lines, sep="\n", file=sys.stderr)
        last_line = "".join(error_lines[-1:])[:200]
        raise SideFailed(f"{' '.join(words)}: exit code {done.returncode}: {last_line}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _reap_leftovers() -> None:
    """Wait for processes that the run has left behind, and kill those that do not end."""
    deadline = time.monotonic() + LEFTOVER_GRACE_SECONDS
    with contextlib.suppress(ChildProcessError):
        while True:
            if os.waitpid(-1, os.WNOHANG)[0]:
                continue
            if time.monotonic() > deadline:
                for pid in proc.descendants():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
