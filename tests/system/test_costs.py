"""Costs of jobs in counts that do not depend on the machine: round trips, submitted tasks."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from support import eventually

from redismr.client.submitter import (
    BACKGROUND_PATIENCE_SECONDS,
    LINGER_SECONDS,
    SUBMIT_FLUSH_BYTES,
    SUBMIT_FLUSH_SECONDS,
    SUBMIT_FLUSH_TASKS,
    InputRolledBack,
    SplitBuffer,
    Submitter,
)
from redismr.store.retrying_client import RetryingClient

ROUND_TRIPS = 8
"""For a job on a shared server: 5 to submit, 2 to wait and collect, 1 to delete; no channels."""


def tiny(x):
    yield x % 10, 1


@pytest.fixture
def round_trips(monkeypatch):
    """Count the round trips of this process."""
    seen = []

    def counting(self, send, real=RetryingClient.with_retries):
        seen.append(self.client.connection_pool.connection_kwargs.get("client_name"))
        return real(self, send)

    monkeypatch.setattr(RetryingClient, "with_retries", counting)
    return seen


def test_a_small_job_takes_its_submitter_few_round_trips(client_with_worker, round_trips):
    took = []
    for _ in range(5):
        round_trips.clear()
        assert dict(client_with_worker.run([1], tiny, "sum")) == {1: 1}
        took.append(len(round_trips))
    assert min(took) <= ROUND_TRIPS  # a slow machine looks once more while it waits


def test_a_quick_source_fills_a_buffer(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    buffer = SplitBuffer()
    assert buffer.put(0, {"m0.0": b"x"})  # workers should not wait for a full buffer
    buffer.clear()
    assert not any(buffer.put(n, {f"m{n}.0": b"x"}) for n in range(1, SUBMIT_FLUSH_TASKS))
    assert buffer.put(SUBMIT_FLUSH_TASKS, {"m": b"x"})
    buffer.clear()
    assert buffer.put(SUBMIT_FLUSH_TASKS + 1, {"m": bytes(SUBMIT_FLUSH_BYTES)})
    buffer.clear()
    assert not buffer.put(SUBMIT_FLUSH_TASKS + 2, {"m": b"x"})
    assert not buffer.is_overdue()
    now[0] += max(SUBMIT_FLUSH_SECONDS, LINGER_SECONDS)
    assert buffer.is_overdue()
    assert buffer.put(SUBMIT_FLUSH_TASKS + 3, {"m": b"x"})


def test_a_background_flush_that_failed_is_not_repeated_at_once(monkeypatch):
    waits, patiences = iter([False] * 20 + [True]), []

    def flush(store):
        patiences.append(store)
        raise InputRolledBack

    submitter = Submitter(
        SimpleNamespace(with_patience=float), None, 0, None, executors=1, on_step=lambda: None,
        cancel=lambda: None, check_frame=lambda _: None,
    )  # fmt: skip
    submitter._buffer.put(0, {"m0.0": b"x"})
    submitter._buffer.filled_since -= LINGER_SECONDS
    monkeypatch.setattr(submitter, "_flush", flush)
    monkeypatch.setattr(submitter._stop, "wait", lambda _seconds: next(waits))
    submitter._flush_and_renew()
    assert patiences == [BACKGROUND_PATIENCE_SECONDS]  # the submitter flushes next with its lease


def test_items_are_mapped_while_the_source_pauses(client_with_worker, tmp_path):
    def mapfn(x):
        (tmp_path / str(x)).touch()
        return [(x, 1)]

    def source():
        yield from range(20)  # quick: most of these fill a buffer
        eventually(lambda: len(list(tmp_path.iterdir())) == 20)
        yield 20

    assert len(client_with_worker.run(source(), mapfn, "sum", chunk=1)) == 21
