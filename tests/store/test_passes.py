"""The round trips of a supervisor that renews and reclaims leases."""

from __future__ import annotations

import os
import socket

from jobs import LEASE_MS, make_job

from redismr.errors import KeysAltered
from redismr.store.replies import RenewReply
from redismr.workers.child import Child
from redismr.workers.leases import LeaseKeeper
from redismr.workers.shared_slots import Holding, Slots


def test_a_pass_asks_as_often_for_many_jobs_as_for_one(store, monkeypatch):
    asked, safely = [], store.redis_client.with_retries
    monkeypatch.setattr(
        store.redis_client, "with_retries", lambda send: asked.append(send) or safely(send)
    )

    def trips(jobs):
        """Count the round trips of renewing, relisting and reclaiming; each job has a held task."""
        children, slots = [], Slots(len(jobs)).all
        for job, slot in zip(jobs, slots, strict=True):
            make_job(store, job)
            store.add(job, 0, 1)
            store.announce(job, 0, 0)
            store.claim(job, f"w:{slot.index}", "n", 1)
            slot.set_holding(Holding(job, "n", tasks=("m0",)))
            children.append(Child(slot, os.getpid(), socket.socket()))
        keeper = LeaseKeeper(store)
        del asked[:]
        assert keeper.renew(children) == []
        keeper.find_work(0)
        for child in children:
            child.control.close()
        return len(asked)

    few = trips(["one"])
    assert trips([f"job{number}" for number in range(40)]) == few
    assert few <= 5


def test_a_pass_takes_back_all_that_a_dead_host_held(store, job):
    store.add(job, 0, 2000)
    store.announce(job, 0, 0)
    for number in range(8):
        assert len(store.claim(job, f"w:{number}", f"n{number}", 64).tasks) == 64
    for _ in range(3):
        store.now_ms += LEASE_MS // 3
        store.reclaim(job, 0)  # somebody is heard of
    store.now_ms += LEASE_MS // 3
    LeaseKeeper(store).reclaim()
    assert store.status(job).leased == 0


def test_a_script_that_the_server_forgot_is_no_trouble_for_a_pass(server, store, job):
    store.add(job, 0, 1)
    store.claim(job, "e", "n", 1)
    server.client().script_flush("SYNC")
    assert store.renew_all({job: [("m0", "m0.n", True)]}) == {
        job: RenewReply("submitting", frozenset())
    }
    assert store.renew_all({}) == {}


def test_a_job_whose_keys_were_altered_is_no_trouble_for_others_of_a_pass(server, store, job):
    make_job(store, "j2")
    server.client().set(store.keys.control("j2", "meta"), "not ours", keepttl=True)
    make_job(store, "j3")
    found = store.reclaim_all(["j1", "j2", "j3", "gone"])
    assert isinstance(found.pop("j2"), KeysAltered)
    assert {job: seen.state for job, seen in found.items()} == {
        "j1": "submitting", "j3": "submitting", "gone": "",
    }  # fmt: skip
