"""The lease keeper: which jobs it remembers, and how often it checks them."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from redismr.store.replies import ReclaimReply, Stealable
from redismr.workers import leases
from redismr.workers.leases import JOBS_PER_CHECK, TIDIED_PER_CHECK, LeaseKeeper


class FakeStore:
    """A store of jobs with their states, which counts calls."""

    def __init__(self):
        self.jobs = {}
        self.lease_ms = 500
        self.calls = Counter()
        self.checks = 0

    def runnable(self, _limit=512):
        self.checks += 1
        return list(self.jobs)

    def reclaim_all(self, jobs, _limit):
        self.calls.update(jobs)
        return {job: ReclaimReply(self.jobs[job], 0, 1, 0, self.lease_ms) for job in jobs}

    def renew_all(self, held):
        assert not held
        return {}

    def steal(self, job, _worker):
        self.calls["steal", job] += 1
        return Stealable("mapping", 0, 0, 0)

    def server_ms(self):
        return 1

    def drop_jobs(self, *jobs):
        for job in jobs:
            del self.jobs[job]

    def meta(self, _job, *fields):
        return dict.fromkeys(fields, "1")

    def free_bulk(self, job, _n_map, _partitions):
        self.calls["free", job] += 1


@pytest.fixture
def store():
    return FakeStore()


def test_jobs_that_have_ended_are_not_asked_about_at_every_tick(store):
    store.jobs = {"one": "succeeded", "two": "mapping", "three": "failed"}
    keeper = LeaseKeeper(store)
    for _ in range(3):
        keeper.reclaim()
    assert store.calls == {"one": 1, ("free", "one"): 1, "two": 3, "three": 1}


def test_a_job_that_is_gone_is_forgotten(store):
    keeper = LeaseKeeper(store)
    for number in range(1000):
        store.jobs = {f"job{number}": "cancelled"}
        keeper.reclaim()
    store.jobs = {}
    keeper.reclaim()
    assert not keeper._recheck_ended_at


def test_leases_of_other_workers_are_looked_after_as_often(store):
    """A check after more than half a lease takes the pause for an outage and re-arms leases."""
    store.jobs = {"one": "mapping"}  # a lease of 500 ms
    keeper = LeaseKeeper(store)
    keeper.reclaim()
    keeper.renew([])
    assert keeper.tick_seconds < 0.25
    store.jobs = {}
    keeper.reclaim()
    keeper.renew([])
    assert keeper.tick_seconds > 0.25


def test_ended_jobs_are_tidied_a_few_at_a_time(store):
    store.jobs = {f"job{number}": "succeeded" for number in range(3 * TIDIED_PER_CHECK)}
    keeper = LeaseKeeper(store)
    for checks in (1, 2, 3):
        keeper.reclaim()
        freed = [what for what in store.calls if what[0] == "free"]
        assert len(freed) == checks * TIDIED_PER_CHECK
    keeper.reclaim()
    assert {store.calls["free", job] for job in store.jobs} == {1}


class Clock:
    """A clock that advances a little at each call, as real ones do."""

    def __init__(self):
        self.now, self.random = 100.0, random.Random(1)

    def monotonic(self):
        self.now += self.random.uniform(0, 0.001)
        return self.now


@pytest.mark.parametrize("lease_ms", [100, 200, 500, 1000, 2900, 3100, 4600, 8000, 15_000, 60_000])
def test_checks_for_expired_leases_are_never_half_a_lease_apart(store, lease_ms, monkeypatch):
    """Leases of dead workers would never end if each check came after more than half a lease."""
    clock, checks = Clock(), []
    monkeypatch.setattr(leases, "time", clock)
    store.jobs, store.lease_ms = {"one": "mapping"}, lease_ms
    keeper = LeaseKeeper(store)
    while len(checks) < 50:
        began, before = clock.monotonic(), store.calls["one"]
        keeper.renew([])
        keeper.find_work(1)
        if store.calls["one"] > before:
            checks.append(began)
        clock.now = began + keeper.tick_seconds
    pauses = [after - before for before, after in itertools.pairwise(checks)]
    assert max(pauses[1:]) < min(lease_ms, leases.ASSUMED_LEASE_MS) / 2000


def test_idle_workers_check_all_jobs_in_turn(store):
    store.jobs = {f"job{number}": "mapping" for number in range(3 * JOBS_PER_CHECK)}
    keeper = LeaseKeeper(store)
    for _ in range(3):
        keeper.find_work(1)
    assert {store.calls["steal", job] for job in store.jobs} == {1}


def test_a_job_whose_end_was_rewound_is_checked_again(store, monkeypatch):
    monkeypatch.setattr(leases, "RECHECK_ENDED_SECONDS", 0)
    store.jobs = {"one": "succeeded"}
    keeper = LeaseKeeper(store)
    keeper.reclaim()
    store.jobs = {"one": "reducing"}
    keeper.reclaim()
    keeper.find_work(1)
    assert store.calls["steal", "one"] == 1


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances."""
    now = [1000.0]
    monkeypatch.setattr(leases.time, "monotonic", lambda: now[0])
    return now


def checks_in_a_minute(store, keeper, clock):
    store.checks = 0
    for _ in range(60):
        clock[0] += 1
        keeper.find_work(2)
    return store.checks


def test_an_idle_worker_without_jobs_sends_few_commands(store, clock):
    keeper = LeaseKeeper(store)
    keeper.find_work(2)
    assert 10 <= checks_in_a_minute(store, keeper, clock) <= 14  # every 5 s


def test_among_many_workers_each_checks_less_often(store, clock):
    keeper = LeaseKeeper(store)
    assert [keeper.update_rest_factor(n) for n in (0, 1, 100, 200, 500, 10_000)] == [
        1,
        1,
        1,
        2,
        5,
        5,
    ]
    keeper.find_work(2)
    assert checks_in_a_minute(store, keeper, clock) <= 3


def test_among_many_workers_each_still_looks_after_running_jobs(store, clock):
    store.jobs, store.lease_ms = {"one": "mapping"}, 15_000
    keeper = LeaseKeeper(store)
    keeper.update_rest_factor(500)
    keeper.find_work(2)
    assert checks_in_a_minute(store, keeper, clock) >= 60
