"""Whole jobs: real servers, real workers, real scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from system.processes import SECRET, Processes

import redismr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import support


@pytest.fixture
def processes(server: support.Server, tmp_path: Path) -> Iterator[Processes]:
    """Starts workers for the server; kills them at the end of the test."""
    processes = Processes(server.url, tmp_path / "processes")
    yield processes
    server.resume()
    processes.close()


@pytest.fixture
def client(server: support.Server) -> Iterator[redismr.Client]:
    """A client of the server."""
    with redismr.Client(server.url, secret=SECRET) as client:
        yield client


@pytest.fixture(scope="module")
def shared_worker(
    session_server: support.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Processes]:
    """One worker with two executors that serves all tests of a module."""
    processes = Processes(session_server.url, tmp_path_factory.mktemp("shared_worker"))
    processes.worker(2)
    yield processes
    processes.close()
    session_server.reset()  # its worker may have said meanwhile that it is there


@pytest.fixture
def client_with_worker(shared_worker: Processes, client: redismr.Client) -> redismr.Client:
    """A client of a server that has a worker."""
    return client


@pytest.fixture(scope="session")
def embedded() -> redismr.Client:
    """A client of this process's own server, with two executors."""
    return redismr.Client(executors=2)
