"""Clear text in Redis only schedules: altering it never makes a wrong result or a hang."""

from __future__ import annotations

import pytest
from security.conftest import ESCAPE, sequential, tiny

import redismr
from redismr.core.model import PROTOCOL, PYTHON, RUNNING_STATES

GARBAGE = ["", "x", "-1", "9" * 30, ESCAPE + "x" * 5000]
FIELDS = {
    "state": ["submitting", "mapping", "reducing", "succeeded", "failed", "cancelled"],
    "n_map": ["1", "2", "4", "1000000000000"],
    "partitions": ["1", "3"],
    "basis": ["m0.x"],
    "maps_added": ["1", "1000000000000"],
    "retries": ["100"],
    "lost_leases": ["100"],
    "lease_ms": ["1", "3600000"],
    "python": ["3.10"],
    "protocol": [str(PROTOCOL + 1)],
    "key_id": ["00000000"],
    "code_digest": ["0" * 64],
    "expire_at": ["1", "99999999999999"],
    "supervisor_seen_at": ["99999999999999"],
    "submit_until": ["1"],
    "ended_at": ["1"],
    "created_at": ["1"],
    "cause": ["SubmitterLost"],
    "shuffled": ["1"],
    "retried": ["1"],
    "input_added": ["1 1 9 9"],
    "expected": ["1"],
    "unit": ["bytes"],
    "input_read": ["9" * 15],
    "executor_ms_m": ["-5"],
    "priority": ["1000"],
    "backup": ["0"],
    "each_worker": ["1"],
    "task_times_m": ["9" * 15],
    "txn": ["other"],
    "name": ["other"],
}
FIELDS_THAT_END_THE_JOB = {"python", "protocol", "key_id", "code_digest"}


@pytest.mark.parametrize("phase", ["submitted", "leased", "reducing", "succeeded"])
@pytest.mark.parametrize("field", FIELDS)
def test_a_clear_field_is_altered(testbed, field, phase):
    """Each value gets a job of its own; all share one server, one worker and this test."""
    values = [*FIELDS[field], *GARBAGE, None]
    for value in values[::6] if phase == "leased" else values:  # each takes one lease
        testbed.submit()
        if phase == "leased":
            testbed.store.claim(testbed.job.id, "somebody", "n", 1)
        elif phase != "submitted":
            testbed.run_until(phase)
        meta = testbed.key("meta")
        if value is None:
            testbed.redis.hdel(meta, field)
        else:
            testbed.redis.hset(meta, field, value)
        outcome = testbed.outcome()
        testbed.check(outcome)
        if field in FIELDS_THAT_END_THE_JOB and phase == "submitted":
            assert isinstance(outcome, redismr.JobFailed), (field, value)
            assert field in str(outcome)
        for row in testbed.client.jobs():  # a listing survives any value
            assert isinstance(row.age, float)
        testbed.job.errors()
        testbed.redis.flushall()


STRUCTURES = (
    "ready",
    "processing",
    "lease",
    "attempts",
    "done",
    "result",
    "last_claims",
    "budgets",
    "failures",
)


@pytest.mark.parametrize("phase", ["submitted", "leased", "reducing", "succeeded"])
@pytest.mark.parametrize("name", [*STRUCTURES, "meta", "spec", "end", "out", "code"])
def test_a_key_is_deleted_or_of_another_type(testbed, name, phase):
    for harm in ("delete",) if phase == "leased" else ("delete", "string", "hash"):
        testbed.submit()
        if phase == "leased":
            testbed.store.claim(testbed.job.id, "somebody", "n", 1)
        elif phase != "submitted":
            testbed.run_until(phase)
        key = testbed.key(name)
        testbed.redis.delete(key)
        if harm == "string":
            testbed.redis.set(key, testbed.bomb)
        elif harm == "hash":
            testbed.redis.hset(key, mapping={ESCAPE: testbed.bomb, "0": testbed.bomb})
        testbed.check(testbed.outcome())
        testbed.redis.flushall()


BOGUS = ["m3", "m0", "m2", "r0", "r7", "", "m²", ESCAPE, "m" + "9" * 99]


@pytest.mark.parametrize("phase", ["submitted", "leased", "reducing"])
@pytest.mark.parametrize("name", ["ready", "processing", "lease", "attempts", "done", "result"])
def test_an_entry_is_added(testbed, name, phase):
    for bogus in BOGUS[::3] if phase == "leased" else BOGUS:
        testbed.submit(lost_leases=0)
        if phase == "leased":
            testbed.store.claim(testbed.job.id, "somebody", "n", 1)
        elif phase != "submitted":
            testbed.run_until(phase)
        key = testbed.key(name)
        if name in ("ready", "processing"):
            testbed.redis.lpush(key, bogus)
        elif name == "lease":
            testbed.redis.zadd(key, {bogus: "inf"})
        elif name == "attempts":
            testbed.redis.hset(key, bogus, f"{bogus}.evil evil 1")
        else:
            testbed.redis.hset(key, bogus[1:], b"evil " + testbed.bomb)
        testbed.redis.expire(key, 60)
        testbed.check(testbed.outcome())
        testbed.redis.flushall()


@pytest.mark.parametrize("name", ["ready", "lease", "attempts"])
def test_a_task_dropped_from_the_schedule_is_no_hang(testbed, name):
    testbed.submit()
    testbed.store.claim(testbed.job.id, "somebody", "n", 1)
    testbed.redis.delete(testbed.key(name))
    outcome = testbed.outcome()
    testbed.check(outcome)
    if name == "attempts":
        assert outcome == sequential()
    elif name == "ready":
        assert "vanished" in str(outcome)


@pytest.mark.parametrize("state", ["mapping", "reducing", "succeeded", "x"])
def test_a_state_set_ahead_of_the_submitter_ends_the_job(testbed, state):
    def source():
        yield 1
        (meta,) = testbed.redis.scan_iter("redismr:{*}:meta")
        testbed.redis.hset(meta, "state", state)
        yield 2

    with pytest.raises(redismr.RedismrError) as info:
        testbed.submit(source=source()).result(10)
    assert not isinstance(info.value, redismr.JobTimeout)
    testbed.check(info.value)
    (job,) = testbed.client.jobs()
    if state in RUNNING_STATES:
        assert job.state == "failed", "else it would stay for its whole ttl, and never be over"
    with pytest.raises(redismr.RedismrError) as info:
        testbed.client.attach(job.job_id).result(0)
    assert not isinstance(info.value, redismr.JobTimeout)


def test_a_lease_without_end_runs_out(testbed):
    testbed.submit()
    testbed.store.claim(testbed.job.id, "somebody", "n", 1)
    testbed.redis.zadd(testbed.key("lease"), {"m0": "inf"})
    assert testbed.outcome() == sequential()


def test_a_forged_last_claim(testbed):
    """The record of the last claim may name foreign tasks: tokens decide, not that record."""
    testbed.submit()
    executor = testbed.worker.executor
    testbed.redis.hset(testbed.key("last_claims"), executor.setup.name, "nonce m0,m1,m2,zzz")
    testbed.redis.expire(testbed.key("last_claims"), 60)
    assert testbed.outcome() == sequential()


def test_hints_are_only_hints(testbed):
    """Index, wake list and rows of workers are deleted, filled with rubbish, or of another type."""
    keys = testbed.keys
    wake = keys.wake(PROTOCOL, PYTHON, testbed.worker.keyring.key_id)
    rubbish = {ESCAPE: "1", "x" * 100: "2", "{": 3, "gone-1": -1e300, "j" * 60: 5}
    for harm in ("delete", "fill", "retype"):
        testbed.submit()
        if harm == "retype":
            for key in (keys.jobs, keys.recent, wake, keys.workers):
                testbed.redis.set(key, testbed.bomb)
            assert not testbed.store.wait_wake(PYTHON, testbed.worker.keyring.key_id, 0.01)
            testbed.store.heartbeat("one", {})
        elif harm == "fill":
            testbed.redis.zadd(keys.jobs, rubbish)
            testbed.redis.zadd(keys.recent, rubbish)
            testbed.redis.rpush(wake, *[testbed.bomb] * 9)
            testbed.redis.hset(keys.control("j" * 60, "meta"), "state", "?")
            testbed.redis.set(keys.control("gone-1", "meta"), "?", px=60_000)
            testbed.redis.expire(keys.control("j" * 60, "meta"), 60)
        else:
            testbed.redis.delete(keys.jobs, keys.recent, wake)
        assert testbed.outcome() == sequential()
        assert {row.job_id for row in testbed.client.jobs()} <= {testbed.job.id, "j" * 60}


def test_a_spec_that_is_gone_ends_its_job_at_once(testbed):
    testbed.submit()
    testbed.redis.delete(testbed.key("spec"))
    assert testbed.worker.step()
    with pytest.raises(redismr.JobFailed, match=r"spec .* is missing"):
        testbed.job.result(timeout=5)


@pytest.mark.parametrize("field", ["ttl_ms", "maps_added", "partitions"])
def test_numbers_that_no_job_has_do_not_end_a_supervisor(testbed, field):
    for value in ("99999999999999", "9" * 40, "x", "nan", "-1e9", None):
        testbed.submit()
        meta = testbed.key("meta")
        if value is None:
            testbed.redis.hdel(meta, field)
        else:
            testbed.redis.hset(meta, field, value)
        with pytest.raises(redismr.errors.KeysAltered):
            testbed.store.extend(testbed.job.id)
        testbed.redis.flushall()


def test_a_damaged_job_can_be_deleted(testbed):
    for name in ("meta", "end", "ready"):
        testbed.submit()
        testbed.redis.delete(testbed.key(name))
        testbed.redis.sadd(testbed.key(name), "x")
        testbed.job.delete()
        assert not list(testbed.redis.scan_iter(match="redismr:{*"))


ROWS = [
    b"", b"{", b"[1]", b"null", b'"x"', b"[" * 9000, b'{"beat": 1e999}', b'{"beat": "x"}',
    b'{"beat": 99999999999999, "executors": -5, "key_id": "\\u001b[2J\\r", "python": "\\u0007"}',
    b'{"beat": 99999999999999, "executors": "x", "pid": {}, "problem": "\\u001b]0;x\\u0007\\n"}',
    b'{"beat": 99999999999999, "executors": 1e308, "tasks": NaN, "host": [[["\\u009b"]]]}',
]  # fmt: skip


def test_forged_rows_of_workers(testbed, capfd, monkeypatch):
    monkeypatch.setattr(redismr.client.job_progress, "EXPLAIN_AFTER_SECONDS", 0.0)
    for i, row in enumerate(ROWS):
        testbed.redis.hset(testbed.keys.workers, f"{ESCAPE}{i}", row)
    testbed.redis.expire(testbed.keys.workers, 60)
    for worker in testbed.client.workers():
        assert worker.executors >= 0
        assert worker.problem.isprintable()
        assert worker.host.isprintable()
    # Nobody works yet, so the waiter explains why, from those rows.
    job = testbed.submit(tiny, reducefn="sum", partitions=None)
    with pytest.raises(redismr.JobTimeout):
        job.result(timeout=1.5)
    said = capfd.readouterr().err
    assert "another secret" in said
    assert "\x1b" not in said and "\x07" not in said and "\x9b" not in said
    assert testbed.outcome() == {0: 3, 1: 1, 2: 2}
