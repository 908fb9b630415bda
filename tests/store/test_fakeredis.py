"""The state machine on fakeredis: no server, and another implementation of Redis.

Only where the fake is true to the server: scripts and data types. It knows no ``#!lua`` line, does
not block, and has no memory limit, so wake-ups, outages and full servers are not tested on it.
"""

from __future__ import annotations

from dataclasses import replace

import fakeredis
import pytest
from jobs import make_job
from test_state_machine import explore

from redismr.config import Connection
from redismr.store import Commit, Store, retrying_client, scripts
from redismr.store.replies import CloseReply


@pytest.fixture
def fake_store(monkeypatch):
    def without_shebang(name):
        its = scripts.script(name)
        source = its.source.split("\n", 1)[1]
        return replace(its, source=source, sha="0" * 40)

    monkeypatch.setattr(retrying_client, "script", without_shebang)
    store = Store(Connection(url="redis://fake", secret="x" * 16), patience=0)
    store.redis_client.client = fakeredis.FakeRedis()
    store.now_ms = store.server_ms()
    return store


def test_a_job_from_create_to_success(fake_store):
    job = make_job(fake_store, "fake")
    fake_store.add(job, 0, 2)
    assert fake_store.close(job, 2, "close", b"end") == CloseReply("OK", "mapping", 2, 0)
    for i in range(4):
        claim = fake_store.claim(job, "e", f"n{i}", 1)
        done = Commit(claim.tasks[0], f"{claim.tasks[0]}.n{i}", b"record", basis=claim.basis)
        committed = fake_store.commit(job, "e", [done], "", 0)
        assert committed.statuses == ("OK",)
    assert committed.claim.state == "succeeded"
    assert fake_store.committed_results(job) == {0: b"r0.n2 record", 1: b"r1.n3 record"}


def test_scripts_and_model_agree_after_every_step(fake_store):
    explore(fake_store, 12, 40)
