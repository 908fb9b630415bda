"""Real worker processes and scripts, always killed at the end of a test."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import REPOSITORY, eventually, is_running

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "d29ab04e7713c85f06e1a98b43f7c25d"
OTHER_SECRET = "5b80f1c3e964a72d8f15d03c7ea2946b"
ONE_SERVER_KIND = pytest.mark.parametrize("server_kind", ["valkey"], indirect=True)
"""Mark for tests that do not depend on the kind of server: each runs once."""


def shell_env(url: str | None = None, secret: str | None = SECRET, **more: str) -> dict[str, str]:
    """Return the environment of a shell in which redismr is installed, with this server."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("REDISMR_")
    }
    for name in ("COLUMNS", "LINES"):  # readline sets them where pytest-xdist starts its processes
        environment.pop(name, None)
    environment |= {"PYTHONPATH": str(REPOSITORY), **more}
    if url is not None:
        environment["REDISMR_URL"] = url
    if secret is not None:
        environment["REDISMR_SECRET"] = secret
    return environment


def descendants_of(pid: int) -> list[int]:
    """Return the pids of all processes below this one."""
    listing = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
    )
    pairs = [tuple(map(int, line.split())) for line in listing.stdout.splitlines()]
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        found_children = [child for child, ppid in pairs if ppid == parent]
        found += found_children
        todo += found_children
    return found


class Process:
    """A child process in a session of its own, whose output goes to a file."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: Path, log: Path) -> None:
        self.log_path = log
        self.seen_pids: set[int] = set()
        with log.open("wb") as file:
            self.popen = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def wait_for_output(self, text: str, timeout: float = 20) -> str:
        """Wait until the output holds the text; return the output."""
        eventually(
            lambda: text in self.log or self.popen.poll() is not None,
            timeout,
            lambda: f"{text!r} not printed: {self.log}",
        )
        assert text in self.log, self.log
        return self.log

    def descendants(self) -> list[int]:
        """Return the pids of all descendants; they are killed at the end of the test."""
        found = descendants_of(self.pid)
        self.seen_pids.update(found)
        return found

    def send(self, number: int) -> None:
        self.popen.send_signal(number)

    def wait(self, timeout: float = 20) -> int:
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running: {self.log}") from None

    def kill(self) -> None:
        """Kill the process and all its descendants (SIGKILL)."""
        self.descendants()
        self.popen.kill()
        self.popen.wait()
        for pid in self.seen_pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if is_running(pid):
                    os.kill(pid, signal.SIGKILL)


class Worker(Process):
    """A ``python -m redismr worker``."""

    def executors(self, count: int = 1) -> list[int]:
        """Wait for so many executors; return their pids."""

        def found() -> list[int]:
            fork_servers = [pid for pid in self.descendants() if parent_of(pid) == self.pid]
            return [pid for pid in self.descendants() if parent_of(pid) in fork_servers]

        eventually(lambda: len(found()) >= count)
        return found()


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return -1


class Processes:
    """Starts processes against one server, and ends them."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.started: list[Process] = []
        folder.mkdir(exist_ok=True)

    def worker(
        self, executors: int = 1, *options: str, url: str | None = None,
        secret: str = SECRET, ready: bool = True, **env: str,
    ) -> Worker:  # fmt: skip
        command = [sys.executable, "-m", "redismr", "worker", "-n", str(executors), *options]
        log = self.folder / f"worker{len(self.started)}.log"
        worker = Worker(command, shell_env(url or self.url, secret, **env), self.folder, log)
        self.started.append(worker)
        if ready:
            worker.wait_for_output("waiting for jobs")
        return worker

    def start(self, *command: str, url: str | None = None, cwd: Path | None = None) -> Process:
        """Start a command in the background."""
        log = self.folder / f"process{len(self.started)}.log"
        process = Process(list(command), shell_env(url or self.url), cwd or self.folder, log)
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self.started):
            process.kill()


CommandResult = subprocess.CompletedProcess[str]


def run_command(
    *command: str | Path, url: str | None = None, cwd: Path | None = None,
    secret: str | None = SECRET, timeout: float = 60, **env: str,
) -> CommandResult:  # fmt: skip
    """Run a command to its end."""
    return subprocess.run(
        [str(word) for word in command], env=shell_env(url, secret, **env), cwd=cwd,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip


def redismr_cli(*words: str | Path, **options: object) -> CommandResult:
    """Run ``python -m redismr WORDS``."""
    return run_command(sys.executable, "-m", "redismr", *words, **options)  # type: ignore[arg-type]


def write_script(folder: Path, body: str, name: str = "script.py") -> Path:
    """Write a user's program; return its path."""
    path = folder / name
    path.write_text(textwrap.dedent(body))
    return path


def file_lines(path: Path) -> Callable[[], list[str]]:
    """Return a function that reads the lines which user functions have appended to a file."""
    return lambda: path.read_text().splitlines() if path.exists() else []
