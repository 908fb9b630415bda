"""Second attempts and late claims, for an executor that finds nothing ready."""

from __future__ import annotations

import pytest
from jobs import LEASE_MS, make_job
from test_protocol import commit_all, fail, reducing

from redismr.core.model import AttemptRef, token_of
from redismr.store.limits import LIMITS
from redismr.store.replies import InvalidateReply, RenewReply

HERE, THERE = "a:1:x", "b:2:y"  # two workers; an executor's name is its worker's and its slot
SLOW_TASK_MS, LATE_CLAIM_MS, SAME_WORKER_DELAY_MS = (
    LIMITS[name].value for name in ("SLOW_TASK_MS", "LATE_CLAIM_MS", "SAME_WORKER_DELAY_MS")
)


@pytest.fixture
def job(store):
    """A job that lets slow tasks run twice."""
    return make_job(store, "j1", backup=1)


def claim(store, job, executor, nonce, want=1, *, backup=False):
    return store.claim(job, executor, nonce, want, backup=backup)


def passes(store, job, ms, *held):
    """Let time pass while these (task, nonce, started) are renewed, as supervisors do."""
    while ms > 0:
        step = min(ms, LEASE_MS // 3)
        store.now_ms += step
        ms -= step
        store.renew(job, [(task, token_of(task, nonce), on) for task, nonce, on in held])


def straggling(store, job, ms=SLOW_TASK_MS):
    """Let m0 run at HERE for so long."""
    store.add(job, 0, 1)
    assert claim(store, job, f"{HERE}:0", "first").tasks == ("m0",)
    passes(store, job, ms, ("m0", "first", True))


def live_tokens(store, job, task):
    raw = store.redis_client.command("HGET", store.keys.control(job, "attempts"), task)
    return [held.split()[0] for held in raw.decode().split(",")] if raw else []


def charged(store, job):
    return store.redis_client.command("HGETALL", store.keys.control(job, "budgets"))


# ------------------------------------------------------------------------- second attempts


def test_a_slow_task_may_run_a_second_time_elsewhere_and_only_if_asked(store, job):
    straggling(store, job)
    assert claim(store, job, f"{THERE}:0", "n1").tasks == ()
    assert claim(store, job, f"{THERE}:0", "n2", backup=True).tasks == ("m0",)
    assert live_tokens(store, job, "m0") == ["m0.first", "m0.n2"]
    assert store.workers_holding(job) == [{HERE, THERE}]


@pytest.mark.parametrize("written", ["", "x", "x y", " , ,", b"\xff"])
def test_nobody_holds_a_task_of_which_something_else_was_written(store, job, written):
    straggling(store, job, ms=0)
    store.redis_client.command("HSET", store.keys.control(job, "attempts"), "m0", written)
    assert store.workers_holding(job) == [set()]


def test_not_before_two_seconds(store, job):
    straggling(store, job, SLOW_TASK_MS - 1)
    assert claim(store, job, f"{THERE}:0", "n1", backup=True).tasks == ()
    assert store.steal(job, THERE).slow == 0
    passes(store, job, 1, ("m0", "first", True))
    assert store.steal(job, THERE).slow == 1


def test_never_on_the_same_executor_and_later_on_the_same_worker(store, job):
    straggling(store, job)
    assert store.steal(job, HERE).slow == 0
    assert claim(store, job, f"{HERE}:1", "n1", backup=True).tasks == ()
    passes(store, job, SAME_WORKER_DELAY_MS, ("m0", "first", True))
    assert claim(store, job, f"{HERE}:0", "n2", backup=True).tasks == ()
    assert store.steal(job, HERE).slow == 1
    assert claim(store, job, f"{HERE}:1", "n3", backup=True).tasks == ("m0",)


def test_never_a_third_time(store, job):
    straggling(store, job)
    claim(store, job, f"{THERE}:0", "n1", backup=True)
    passes(store, job, 10 * SLOW_TASK_MS, ("m0", "first", True), ("m0", "n1", True))
    assert claim(store, job, "c:3:z:0", "n2", backup=True).tasks == ()
    assert store.steal(job, "c:3:z").slow == 0


def test_not_while_anything_is_ready(store, job):
    straggling(store, job)
    store.add(job, 1, 2)
    assert claim(store, job, f"{THERE}:0", "n1", backup=True).tasks == ("m1",)


def test_a_lost_reply_gives_the_same_second_attempt(store, job):
    straggling(store, job)
    first = claim(store, job, f"{THERE}:0", "n1", backup=True)
    assert claim(store, job, f"{THERE}:0", "n1", backup=True) == first
    assert claim(store, job, f"{THERE}:0", "n1").tasks == ("m0",)
    assert live_tokens(store, job, "m0") == ["m0.first", "m0.n1"]


def test_a_job_may_forbid_it(store):
    job = make_job(store, "j1", backup=0)
    straggling(store, job, 20 * SLOW_TASK_MS)
    assert store.steal(job, THERE).slow == 0
    assert claim(store, job, f"{THERE}:0", "n1", backup=True).tasks == ()


@pytest.mark.parametrize("winner", ["first", "n1"])
def test_the_first_commit_counts_and_the_other_learns_of_it(store, job, winner):
    straggling(store, job)
    one, two = "first", "n1"
    other = one if winner == two else two
    claim(store, job, f"{THERE}:0", "n1", backup=True)
    won, lost = (
        store.claim(job, f"{who}:0", nonce, 1)
        for nonce, who in sorted([(one, HERE), (two, THERE)], key=lambda pair: pair[0] != winner)
    )
    assert commit_all(store, job, won).statuses == ("OK",)
    assert store.renew(job, [("m0", f"m0.{other}", True)]).lost == {"m0"}
    assert commit_all(store, job, lost).statuses == ("FENCED",)
    assert fail(store, job, lost, kind="lost") == "DONE"
    assert (store.status(job).maps_done, charged(store, job)) == (1, {})


def test_one_that_fails_or_is_released_leaves_the_task_to_the_other(store, job):
    straggling(store, job)
    second = claim(store, job, f"{THERE}:0", "n1", backup=True)
    assert fail(store, job, second) == "RETRY"
    assert claim(store, job, f"{THERE}:1", "n2").tasks == (), "it is not ready"
    assert claim(store, job, f"{THERE}:1", "n2x", backup=True).tasks == ("m0",), "it is slow"
    assert store.release(job, f"{THERE}:1", "n2x") == 0
    assert live_tokens(store, job, "m0") == ["m0.first"]
    assert store.release(job, f"{HERE}:0", "first") == 1
    assert claim(store, job, f"{THERE}:1", "n3").tasks == ("m0",)


def test_a_second_attempt_keeps_the_lease_of_a_dead_first(store, job):
    straggling(store, job)
    second = claim(store, job, f"{THERE}:0", "n1", backup=True)
    passes(store, job, 3 * LEASE_MS, ("m0", "n1", True))
    assert store.reclaim(job).reclaimed == 0
    assert commit_all(store, job, second).statuses == ("OK",)
    assert live_tokens(store, job, "m0") == []


def test_two_dead_attempts_cost_one_lost_lease(store, job):
    straggling(store, job)
    claim(store, job, f"{THERE}:0", "n1", backup=True)
    store.add(job, 1, 2)
    claim(store, job, f"{THERE}:1", "alive")
    passes(store, job, LEASE_MS + 1, ("m1", "alive", True))
    assert store.reclaim(job).reclaimed == 1
    assert charged(store, job) == {b"lost:m0": b"1"}
    assert claim(store, job, f"{THERE}:2", "n2").tasks == ("m0",)
    assert live_tokens(store, job, "m0") == ["m0.n2"]


def test_a_slow_reduce_task_is_counted_once(store, job):
    reducing(store, job)
    slow = store.claim(job, f"{HERE}:1", "first", 1)
    fast = store.claim(job, f"{HERE}:0", "fast", 1)
    assert commit_all(store, job, fast).statuses == ("OK",)
    passes(store, job, SLOW_TASK_MS, (*slow.tasks, "first", True))
    second = claim(store, job, f"{THERE}:0", "n1", backup=True)
    assert second.tasks == slow.tasks
    assert commit_all(store, job, second).statuses == ("OK",)
    assert commit_all(store, job, slow).statuses == ("FENCED",)
    assert store.status(job).state == "succeeded"


@pytest.mark.parametrize("who", ["first", "n1"])
def test_either_reduce_attempt_may_invalidate_and_both_end_by_it(store, job, who):
    basis = reducing(store, job)
    (other,) = store.claim(job, f"{THERE}:1", "n0", 1).tasks
    (task,) = store.claim(job, f"{HERE}:0", "first", 1).tasks
    passes(store, job, SLOW_TASK_MS, (other, "n0", True), (task, "first", True))
    assert claim(store, job, f"{THERE}:0", "n1", backup=True).tasks == (task,)
    token = store.map_outputs(job).outputs.records[0].split(b" ")[0].decode()
    assert store.invalidate(
        AttemptRef(job, task, f"{task}.{who}"), basis, {0: token}
    ) == InvalidateReply("OK", "mapping", 1)
    other = "n1" if who == "first" else "first"
    assert (
        store.invalidate(AttemptRef(job, task, f"{task}.{other}"), basis, {0: token}).status
        == "FENCED"
    )
    assert store.renew(job, [(task, f"{task}.{other}", True)]).lost == {task}
    assert charged(store, job) == {b"invalidated:m0": b"1"}


def test_what_is_slow_depends_on_the_stage(store, job):
    """Three tasks of three seconds are done: the fourth is slow after six."""
    store.add(job, 0, 4)
    for i in range(3):
        quick = claim(store, job, f"{HERE}:0", f"quick{i}")
        passes(store, job, 3000, (*quick.tasks, f"quick{i}", True))
        assert commit_all(store, job, quick).statuses == ("OK",)
    (last,) = claim(store, job, f"{HERE}:0", "last").tasks
    passes(store, job, 5999, (last, "last", True))
    assert claim(store, job, f"{THERE}:0", "n1", backup=True).tasks == ()
    passes(store, job, 1, (last, "last", True))
    assert claim(store, job, f"{THERE}:0", "n2", backup=True).tasks == (last,)


def test_an_outage_makes_nobody_look_slow(store, job):
    straggling(store, job, 100)
    store.now_ms += 60_000
    assert store.steal(job, THERE).slow == 0
    passes(store, job, SLOW_TASK_MS - 1, ("m0", "first", True))
    assert store.steal(job, THERE).slow == 0
    passes(store, job, 1, ("m0", "first", True))
    assert store.steal(job, THERE).slow == 1


# ------------------------------------------------------------------------- late claims


def batch(store, job, **fields):
    """Claim m0..m3 at HERE; m0 runs."""
    store.add(job, 0, 16)
    assert len(claim(store, job, f"{HERE}:0", "first", 4).tasks) == 4
    for i in range(4, 16):
        commit_all(store, job, claim(store, job, f"{THERE}:0", f"n{i}"))
    assert store.status(job).leased == 4


def held(*started):
    return [(f"m{i}", "first", i in started) for i in range(4)]


def test_claims_that_were_not_started_are_stolen_uncharged(store, job):
    batch(store, job)
    passes(store, job, LATE_CLAIM_MS - 1, *held(0))
    assert store.steal(job, THERE).stolen == 0
    passes(store, job, 1, *held(0))
    spare = store.steal(job, THERE)
    assert (spare.stolen, spare.ready, spare.slow) == (3, 3, 0)
    assert store.renew(
        job, [(t, f"{t}.first", False) for t in ("m0", "m1", "m2", "m3")]
    ) == RenewReply("submitting", frozenset({"m1", "m2", "m3"}))
    stolen = [claim(store, job, f"{THERE}:0", f"s{i}") for i in range(3)]
    assert [c.tasks for c in stolen] == [("m1",), ("m2",), ("m3",)]
    assert charged(store, job) == {}


def test_a_task_that_was_marked_started_is_not_stolen(store, job):
    batch(store, job)
    passes(store, job, 500, *held(0, 1, 2))
    passes(store, job, LATE_CLAIM_MS, *held(0))
    assert store.steal(job, THERE).stolen == 1
    assert live_tokens(store, job, "m2") == ["m2.first"]


def test_a_stolen_task_that_was_run_after_all_is_fenced(store, job):
    batch(store, job)
    passes(store, job, LATE_CLAIM_MS, *held(0))
    store.steal(job, THERE)
    old = store.claim(job, f"{HERE}:0", "first", 4)
    assert old.tasks == ("m0",), "a repeated claim names only what is still held"
    new = claim(store, job, f"{THERE}:0", "thief")
    zombie = commit_all(store, job, type(old)(job, "first", "", ("m1",)))
    assert zombie.statuses == ("FENCED",)
    assert commit_all(store, job, new).statuses == ("OK",)


def test_nothing_is_stolen_while_something_is_ready_or_after_an_outage(store, job):
    batch(store, job)
    passes(store, job, LATE_CLAIM_MS, *held(0))
    store.add(job, 16, 17)
    assert store.steal(job, THERE).stolen == 0
    claim(store, job, f"{THERE}:0", "n99")
    store.now_ms += 60_000
    assert store.steal(job, THERE).stolen == 0
    passes(store, job, LATE_CLAIM_MS, *held(0))
    assert store.steal(job, THERE).stolen == 3


def test_a_job_may_forbid_stealing(store):
    job = make_job(store, "j1", backup=0)
    batch(store, job)
    passes(store, job, 20 * LATE_CLAIM_MS, *held(0))
    assert store.steal(job, THERE).stolen == 0


def test_a_job_that_ended_or_is_gone_has_nothing_to_steal(store, job):
    straggling(store, job)
    store.cancel(job)
    assert store.steal(job, THERE).state == "cancelled"
    assert store.steal("nope", THERE).state == ""
