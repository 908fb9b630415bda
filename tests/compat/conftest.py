"""Run scripts and workers of the ancestors, on loopback ports of their own."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from system.processes import CommandResult, Process, shell_env, write_script

from redismr.compat import hosting, mincemeat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "changeme"


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sandbox:
    """A folder, a port, and the processes that use them; ``close`` kills the processes."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.started: list[Process] = []
        folder.mkdir(exist_ok=True)

    def start(self, *command: object, cwd: Path | None = None, **env: str) -> Process:
        """Start Python in the background."""
        log = self.folder / f"process{len(self.started)}.log"
        words = [sys.executable, *map(str, command)]
        process = Process(words, shell_env(None, None, **env), cwd or self.folder, log)
        self.started.append(process)
        return process

    def run(self, *command: object, cwd: Path | None = None, **env: str) -> CommandResult:
        """Run Python to its end; standard output and standard error are kept apart."""
        return subprocess.run(
            [sys.executable, *map(str, command)], env=shell_env(None, None, **env),
            cwd=cwd or self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    def worker(
        self, *options: str, password: str = PASSWORD, loop: bool = True, cwd: Path | None = None,
        **env: str,
    ) -> Process:  # fmt: skip
        """Start the worker command; with ``loop`` it may be started before its server."""
        words = ["-m", "redismr.compat.mincemeat", "-p", password, "-P", str(self.port)]
        return self.start(*words, *["-l"] * loop, *options, cwd=cwd, **env)

    def write_script(self, body: str, name: str = "script.py") -> Path:
        """Write a user's program, in which PORT stands for the port."""
        return write_script(self.folder, re.sub(r"\bPORT\b", str(self.port), body), name)

    def close(self) -> None:
        for process in reversed(self.started):
            process.kill()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path / "sandbox")
    yield sandbox
    sandbox.close()


class ServerRunner(Sandbox):
    """A port for servers in this process, and one worker for all tests of a module."""

    def run_server(self, server: Any = None, /, **attributes: Any) -> Any:
        """Return what run_server returns for a Server with these attributes."""
        server = server or mincemeat.Server()
        for name, value in attributes.items():
            setattr(server, name, value)
        return server.run_server(password=PASSWORD, port=self.port)


@pytest.fixture(scope="module")
def server_runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerRunner]:
    server_runner = ServerRunner(tmp_path_factory.mktemp("server_runner"))
    server_runner.worker()
    yield server_runner
    server_runner.close()
    for hosted_server in {
        id(server): server for server in hosting._hosted_servers.values()
    }.values():
        hosting._discard(hosted_server)
