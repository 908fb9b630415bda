"""Whole jobs: real servers, real workers, real scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from system.crew import SECRET, Crew

import redismr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import support


@pytest.fixture
def crew(server: support.Server, tmp_path: Path) -> Iterator[Crew]:
    """Starts workers for the server; kills them at the end of the test."""
    crew = Crew(server.url, tmp_path / "crew")
    yield crew
    server.resume()
    crew.close()


@pytest.fixture
def client(server: support.Server) -> Iterator[redismr.Client]:
    """A client of the server."""
    with redismr.Client(server.url, secret=SECRET) as client:
        yield client


@pytest.fixture(scope="module")
def farm(engine_server: support.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """One worker with two executors that serves all tests of a module."""
    crew = Crew(engine_server.url, tmp_path_factory.mktemp("farm"))
    crew.worker(2)
    yield crew
    crew.close()
    engine_server.reset()  # its worker may have said meanwhile that it is there


@pytest.fixture
def shared(farm: Crew, client: redismr.Client) -> redismr.Client:
    """A client of a server that has a worker."""
    return client


@pytest.fixture(scope="session")
def embedded() -> redismr.Client:
    """A client of this process's own server, with two executors."""
    return redismr.Client(executors=2)
