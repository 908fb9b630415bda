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
    """Start workers for the server; kill them at the end of the test."""
    processes = Processes(server.url, tmp_path / "processes")
    yield processes
    server.resume()
    processes.close()


@pytest.fixture
def client(server: support.Server) -> Iterator[redismr.Client]:
    """Client of the server."""
    with redismr.Client(server.url, secret=SECRET) as client:
        yield client


@pytest.fixture(scope="module")
def shared_worker(
    session_server: support.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Processes]:
    """Start one worker with two executors for all tests of a module."""
    processes = Processes(session_server.url, tmp_path_factory.mktemp("shared_worker"))
    processes.worker(2)
    yield processes
    processes.close()
    session_server.reset()  # the worker may have written its row again


@pytest.fixture
def client_with_worker(shared_worker: Processes, client: redismr.Client) -> redismr.Client:
    """Client of a server that has a worker."""
    return client


@pytest.fixture(scope="session")
def embedded() -> redismr.Client:
    """Client of a private server, with two executors."""
    return redismr.Client(executors=2)
