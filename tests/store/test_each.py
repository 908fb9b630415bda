"""Which worker may claim which task of a job with one map task for each worker."""

from __future__ import annotations

from store.jobs import make_job

from redismr.core.model import AttemptRef
from redismr.store import Commit


def give(store, job, *workers):
    for index, worker in enumerate(workers):
        store.add(job, index, index + 1, workers=[worker])


def claimed(store, job, executor, nonce="n"):
    return store.claim(job, executor, nonce, 9).tasks


def finish(store, job, executor, nonce="n"):
    (task,) = claimed(store, job, executor, nonce)
    store.commit(job, executor, [Commit(task, f"{task}.{nonce}", b"")], "", 0)


def test_s13_a_worker_may_claim_its_own_task_and_no_other(store):
    job = make_job(store, "each", each_worker=1)
    give(store, job, "host:1:a", "host:1:b")
    assert claimed(store, job, "host:1:b:0") == ("m1",)
    assert claimed(store, job, "host:1:b:1") == ()
    assert claimed(store, job, "host:1:c:0") == ()
    assert claimed(store, job, "host:1:a:3") == ("m0",)


def test_s13_what_fails_is_tried_again_by_the_same_worker(store):
    job = make_job(store, "each", each_worker=1)
    give(store, job, "a", "b")
    assert claimed(store, job, "a:0") == ("m0",)
    store.fail(
        AttemptRef(job, "m0", "m0.n"), "a:0", kind="error", signature="s", cause="c", failure=b"why"
    )
    assert claimed(store, job, "b:0") == ("m1",)
    assert claimed(store, job, "b:1") == ()
    assert claimed(store, job, "a:0", "again") == ("m0",)


def test_s13_the_task_of_a_worker_that_is_gone_is_claimed_in_its_name(store):
    job = make_job(store, "each", each_worker=1)
    give(store, job, "a", "b")
    finish(store, job, "a:0")
    finish(store, job, "b:gone")
    assert store.close(job, 2, "end", b"end").state == "reducing"
    assert claimed(store, job, "c:0") == ("r0",), "reduce tasks are anybody's"


def test_s13_who_may_is_decided_by_the_first_add(store):
    job = make_job(store, "each", each_worker=1)
    give(store, job, "a")
    give(store, job, "b")
    assert claimed(store, job, "b:0") == ()
    assert claimed(store, job, "a:0") == ("m0",)


def test_s13_results_that_are_lost_after_the_end_of_the_input_fail_the_job(store):
    """A failover may leave a closed job with a map task to do, whose worker may be gone."""
    job = make_job(store, "each", each_worker=1)
    give(store, job, "a")
    assert store.close(job, 1, "end", b"end").state == "mapping"
    assert store.reclaim(job).state == "failed"
    assert "no other may do it" in store.meta(job, "cause")["cause"]
