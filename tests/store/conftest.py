"""A job on a real server, driven verb by verb under a clock of the test's own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from jobs import make_job
from roles import RoleStore


@pytest.fixture
def store(server):
    store = RoleStore(server, patience=5)
    store.now_ms = store.server_ms()  # TTLs are absolute times on the server's clock
    yield store
    store.end()


@pytest.fixture
def job(store):
    """Return the id of a new job with two partitions that still takes input."""
    return make_job(store, "j1")
