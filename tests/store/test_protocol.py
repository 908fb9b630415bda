"""One verb at a time: a state, one call under the test's clock, the state after it."""

from __future__ import annotations

import pytest
from jobs import LEASE_MS, make_job

from redismr.core.model import AttemptRef
from redismr.store import Commit
from redismr.store.replies import CloseReply, ExecutorsAtWork, RenewReply


def commit_all(store, job, claim, nonce="", want=0, min_want=1, **extra):
    commits = [
        Commit(t, f"{t}.{claim.nonce}", b"record of " + t.encode(), basis=claim.basis, **extra)
        for t in claim.tasks
    ]
    return store.commit(job, "e1", commits, nonce, want, min_want=min_want)


def run_maps(store, job, n):
    """Claim and commit until all n maps are done; returns the last commit's answer."""
    for i in range(n):
        committed = commit_all(store, job, store.claim(job, "e1", f"map{i}", 1))
        assert committed.statuses == ("OK",)
    return committed


def reducing(store, job, n=2):
    store.add(job, 0, n)
    store.close(job, n, "close", b"end")
    run_maps(store, job, n)
    look = store.status(job)
    assert look.state == "reducing"
    return look.meta["basis"]


def test_create_twice_changes_nothing(store, job):
    before = store.status(job).meta
    store.now_ms += 500
    make_job(store, job, partitions=9)
    assert store.status(job).meta == before


def test_add_is_idempotent_and_refuses_gaps(store, job):
    assert store.add(job, 0, 3).added == 3
    assert store.add(job, 0, 3).added == 3
    assert store.add(job, 2, 5).added == 5
    gap = store.add(job, 7, 8)
    assert (gap.status, gap.added) == ("SHORT", 5)
    claimed = []
    for i in range(6):
        claimed += store.claim(job, "e", f"n{i}", 1).tasks
    assert claimed == ["m0", "m1", "m2", "m3", "m4"]


def test_a_repeated_claim_gives_the_same_tasks(store, job):
    store.add(job, 0, 40)
    first = store.claim(job, "e1", "n1", 5)
    assert len(first.tasks) == 5
    assert store.claim(job, "e1", "n1", 5).tasks == first.tasks
    assert set(store.claim(job, "e2", "n2", 5).tasks).isdisjoint(first.tasks)


def test_a_commit_takes_a_quarter_of_what_is_ready_at_most(store, job):
    store.add(job, 0, 17)
    claim = store.claim(job, "e1", "n1", 1)
    assert len(commit_all(store, job, claim, "n2", 63).claim.tasks) == 4


def test_tasks_so_quick_that_a_share_is_not_worth_a_round_trip_go_together(store, job):
    store.add(job, 0, 11)
    claim = store.claim(job, "e1", "n1", 3)
    assert len(claim.tasks) == 3
    assert len(commit_all(store, job, claim, "n2", 64, min_want=4).claim.tasks) == 4
    assert len(store.claim(job, "e2", "n3", 4).tasks) == 4


def test_reducers_so_quick_go_together_from_the_first_on(store):
    job = make_job(store, "quick", partitions=8)
    store.add(job, 0, 1)
    claim = store.claim(job, "e1", "n1", 1)
    store.close(job, 1, "c", b"end")
    commits = [Commit("m0", f"m0.{claim.nonce}", b"record")]
    assert len(store.commit(job, "e1", commits, "n2", 64, want_reduces=3).claim.tasks) == 3
    assert len(store.claim(job, "e2", "n3", 1, want_reduces=4).tasks) == 4


@pytest.mark.parametrize(("maps", "shuffled"), [(65, 1), (1, 262_145)])
def test_reducers_of_a_job_that_is_not_small_go_one_by_one(store, maps, shuffled):
    job = make_job(store, "large", partitions=8)
    store.add(job, 0, maps)
    store.close(job, maps, "c", b"end")
    for i in range(maps):
        token = f"m{i}.{store.claim(job, 'e1', f'n{i}', 1).nonce}"
        commits = [Commit(f"m{i}", token, b"record", shuffled=shuffled)]
        last = store.commit(job, "e1", commits, f"then{i}", int(i == maps - 1), want_reduces=3)
    assert last.claim.tasks == ("r0",)
    assert store.claim(job, "e2", "other", 1, want_reduces=4).tasks == ("r1",)


def test_nobody_gets_more_than_one_reducer_if_nothing_is_known_of_them(store):
    job = make_job(store, "wide", partitions=64)
    store.add(job, 0, 1)
    claim = store.claim(job, "e1", "n1", 1)
    store.close(job, 1, "c", b"end")
    opened = commit_all(store, job, claim, "n2", 64)
    assert opened.claim.state == "reducing"
    assert len(opened.claim.tasks) == 1
    assert len(store.claim(job, "e2", "n3", 64).tasks) == 1
    after = commit_all(store, job, opened.claim, "n4", 64)
    assert len(after.claim.tasks) == 62 // 4


def test_a_commit_counts_once_and_claims_the_next(store, job):
    store.add(job, 0, 8)
    claim = store.claim(job, "e1", "n1", 2)
    first = commit_all(store, job, claim, "n2", 1)
    again = commit_all(store, job, claim, "n2", 1)
    assert first.statuses == ("OK", "OK")
    assert again.statuses == ("DUP_OK", "DUP_OK")
    assert again.claim.tasks == first.claim.tasks != ()
    assert store.status(job).maps_done == 2


def test_a_look_says_how_much_is_read_and_who_is_at_it(store, job):
    store.add(job, 0, 3, input_so_far="30 20 1 5")
    claim = store.claim(job, "e1", "n1", 1)
    store.now_ms += 400
    store.claim(job, "e2", "n2", 1)
    store.now_ms += 100
    assert store.status(job).executors_at_work == ExecutorsAtWork(2, 600, 100)
    store.commit(job, "e1", [Commit("m0", f"m0.{claim.nonce}", b"record", read=5)], "", 0)
    look = store.status(job)
    assert look.executors_at_work == ExecutorsAtWork(1, 100, 100)
    assert [look.meta[name] for name in ("input_added", "input_read", "executor_ms_m")] == [
        "30 20 1 5",
        "5",
        "500",
    ]


def test_of_very_many_attempts_no_look_is_taken_at_each(store, job):
    store.add(job, 0, 1001)
    for executor in range(1001):
        store.claim(job, f"e{executor}", "n", 1)
    assert store.status(job).executors_at_work == ExecutorsAtWork(-1, 0, 0)


def test_a_task_that_one_commit_names_twice_is_counted_once(store, server, job):
    store.add(job, 0, 1)
    token = f"m0.{store.claim(job, 'e1', 'n1', 1).nonce}"
    commits = [Commit("m0", token, b"first"), Commit("m0", token, b"again")]
    commits.append(Commit("m0", "m0.other", b"other"))
    assert store.commit(job, "e1", commits, "", 0).statuses == ("OK", "DUP_OK", "FENCED")
    assert server.client().hgetall(store.keys.control(job, "done")) == {
        b"0": token.encode() + b" first"
    }


def test_a_foreign_token_is_fenced_and_changes_nothing(store, server, job):
    store.add(job, 0, 2)
    store.claim(job, "e1", "n1", 1)
    before = server.client().hgetall(store.keys.control(job, "attempts"))
    fenced = store.commit(job, "zombie", [Commit("m0", "m0.old", b"wrong")], "", 0)
    assert fenced.statuses == ("FENCED",)
    assert store.status(job).maps_done == 0
    assert server.client().hgetall(store.keys.control(job, "attempts")) == before


def test_the_last_map_opens_the_reduce_stage_and_the_last_reduce_ends_the_job(store, job):
    store.add(job, 0, 2)
    store.close(job, 2, "close", b"end")
    committed = run_maps(store, job, 2)
    assert (committed.opened, committed.claim.state) == (2, "reducing")
    for i in range(2):
        claim = store.claim(job, "e1", f"r{i}", 1)
        assert claim.basis == "m1.map1"
        committed = commit_all(store, job, claim)
    assert committed.claim.state == "succeeded"
    assert set(store.committed_results(job)) == {0, 1}


def test_maps_that_finish_before_close_still_open_the_reduce_stage(store, job):
    store.add(job, 0, 2)
    run_maps(store, job, 2)
    assert store.status(job).state == "submitting"
    closed = store.close(job, 2, "close", b"end")
    assert closed == CloseReply("OK", "reducing", 2, 2)
    assert store.close(job, 2, "close", b"end") == CloseReply("OK", "reducing", 2, 0)


def test_an_empty_job_succeeds_at_close_without_workers(store, job):
    assert store.close(job, 0, "close", b"end") == CloseReply("OK", "succeeded", 0, 0)


def test_close_says_when_a_failover_took_inputs_back(store, job):
    store.add(job, 0, 2)
    assert store.close(job, 5, "close", b"end").status == "SHORT"
    assert store.status(job).state == "submitting"


def test_a_reduce_with_another_basis_is_fenced(store, job):
    reducing(store, job)
    claim = store.claim(job, "e1", "r", 1)
    stale = Commit(claim.tasks[0], f"{claim.tasks[0]}.r", b"x", basis="another")
    assert store.commit(job, "e1", [stale], "", 0).statuses == ("FENCED",)


def test_a_result_whose_chunks_are_gone_is_staged_again(store, job):
    reducing(store, job)
    claim = store.claim(job, "e1", "r", 1)
    assert commit_all(store, job, claim, chunks=1).statuses == ("RESTAGE",)
    expire_at = int(store.status(job).meta["expire_at"])
    store.put_result(job, {f"{claim.tasks[0]}.r.0": b"chunk"}, expire_at)
    assert commit_all(store, job, claim, chunks=1).statuses == ("OK",)


def test_renew_keeps_a_lease_and_names_what_is_lost(store, job):
    store.add(job, 0, 1)
    store.claim(job, "e1", "n1", 1)
    for _ in range(5):
        store.now_ms += LEASE_MS // 3
        renewed = store.renew(job, [("m0", "m0.n1", True), ("m7", "m7.n1", False)])
        assert renewed == RenewReply("submitting", frozenset({"m7"}))
        assert store.reclaim(job).reclaimed == 0


def test_an_expired_lease_is_reclaimed_and_its_holder_fenced(store, job):
    store.add(job, 0, 1)
    old = store.claim(job, "e1", "n1", 1)
    expire(store, job)
    new = store.claim(job, "e2", "n2", 1)
    assert new.tasks == old.tasks
    assert commit_all(store, job, old).statuses == ("FENCED",)
    assert commit_all(store, job, new).statuses == ("OK",)


def expire(store, job):
    """Let every lease run out while a supervisor is alive; return how many were reclaimed."""
    for _ in range(4):
        store.now_ms += LEASE_MS // 3
        reclaimed = store.reclaim(job).reclaimed
    return reclaimed


def test_a_task_that_keeps_losing_its_lease_ends_the_job(store, job):
    store.add(job, 0, 1)
    for i in range(4):
        assert store.claim(job, "e1", f"n{i}", 1).tasks == ("m0",)
        expire(store, job)
    look = store.status(job)
    assert look.state == "failed"
    assert look.meta["cause"] == (
        "the process that ran task m0 died or was cut off 4 times, at last executor e1: see the "
        "log of that worker; lost_leases allows more"
    )


def test_an_unstarted_claim_is_reclaimed_uncharged(store, job):
    store.add(job, 0, 8)
    assert store.claim(job, "e1", "n1", 2).tasks == ("m0", "m1")
    expire(store, job)
    budgets = store.redis_client.command("HKEYS", store.keys.control(job, "budgets"))
    assert budgets == [b"lost:m0"], "only the task that had started is charged"
    assert store.claim(job, "e1", "n2", 1).tasks == ("m1",), "the innocent goes first"


def test_an_outage_re_arms_leases_and_charges_nobody(store, job):
    store.add(job, 0, 1)
    store.claim(job, "e1", "n1", 1)
    store.now_ms += 60_000  # nobody could reach Redis: neither renew nor reclaim ran
    assert store.reclaim(job).reclaimed == 0
    assert store.renew(job, [("m0", "m0.n1", True)]) == RenewReply("submitting", frozenset())


@pytest.mark.parametrize("pause", [0.6, 0.9, 1.2, 3])
def test_workers_that_look_too_seldom_do_not_keep_the_leases_of_the_dead(store, job, pause):
    store.add(job, 0, 1)
    store.claim(job, "e1", "n1", 1)
    reclaimed = 0
    for _ in range(6):
        store.now_ms += int(pause * LEASE_MS)
        reclaimed += store.reclaim(job).reclaimed
    assert reclaimed == 1


def test_what_was_renewed_since_the_last_outage_survives_any_number_of_them(store, job):
    store.add(job, 0, 2)
    store.claim(job, "e1", "n1", 1)
    for _ in range(5):
        store.add(job, 0, 0)  # the submitter lives
        store.now_ms += 5 * LEASE_MS
        assert store.reclaim(job).reclaimed == 0
        assert store.renew(job, [("m0", "m0.n1", True)]).lost == frozenset()
    store.claim(job, "e1", "n2", 1)
    store.now_ms += 5 * LEASE_MS
    assert store.reclaim(job).reclaimed == 0


def test_an_outage_shorter_than_half_a_lease_does_not_lose_the_submitter(store, job):
    store.redis_client.command("HSET", store.keys.control(job, "meta"), "submit_ms", LEASE_MS // 4)
    store.add(job, 0, 1)
    store.reclaim(job)
    store.now_ms += LEASE_MS // 3
    store.reclaim(job)
    assert store.status(job).state == "submitting"


def test_a_silent_submitter_fails_the_job(store, job):
    store.add(job, 0, 1)
    for _ in range(100):
        store.now_ms += LEASE_MS // 3
        store.reclaim(job)
    assert store.status(job).meta["cause"] == "SubmitterLost"


def fail(store, job, claim, *, kind="error", signature="s", executor="e1"):
    task = claim.tasks[0]
    return store.fail(
        AttemptRef(job, task, f"{task}.{claim.nonce}"), executor,
        kind=kind, signature=signature, cause="why", failure=b"sealed",
    )  # fmt: skip


def test_retries_are_used_up_then_the_job_fails(store, job):
    store.add(job, 0, 1)
    outcomes = [fail(store, job, store.claim(job, "e1", f"n{i}", 1)) for i in range(4)]
    assert outcomes == ["RETRY", "RETRY", "RETRY", "DEAD"]
    look = store.status(job)
    assert (look.state, look.meta["retried"]) == ("failed", "3")  # the last was not tried again
    assert store.failures(job)["m0"] == b"sealed"
    assert store.claim(job, "e1", "late", 1).tasks == ()


def test_the_same_error_on_two_executors_is_not_tried_again(store, job):
    store.add(job, 0, 1)
    assert fail(store, job, store.claim(job, "e1", "n1", 1), executor="e1") == "RETRY"
    assert fail(store, job, store.claim(job, "e2", "n2", 1), executor="e2") == "DEAD"


def test_another_error_on_another_executor_is_tried_again(store, job):
    store.add(job, 0, 1)
    assert fail(store, job, store.claim(job, "e1", "n1", 1), executor="e1") == "RETRY"
    claim = store.claim(job, "e2", "n2", 1)
    assert fail(store, job, claim, executor="e2", signature="t") == "RETRY"


def test_a_late_failure_of_a_done_task_charges_nothing(store, job):
    store.add(job, 0, 2)
    claim = store.claim(job, "e1", "n1", 1)
    commit_all(store, job, claim)
    assert fail(store, job, claim, kind="lost") == "DONE"
    assert not store.redis_client.command("EXISTS", store.keys.control(job, "budgets"))


def test_release_gives_back_uncharged_and_by_nonce(store, job):
    store.add(job, 0, 8)
    claim = store.claim(job, "e1", "n1", 2)
    assert store.release(job, "e1", "n1") == 2
    assert store.release(job, "e1", "n1") == 0
    assert store.claim(job, "e2", "n2", 2).tasks == claim.tasks
    assert not store.redis_client.command("EXISTS", store.keys.control(job, "budgets"))


def test_a_suspect_runs_alone(store, job):
    store.add(job, 0, 20)
    claim = store.claim(job, "e1", "n1", 1)
    assert fail(store, job, claim, kind="lost") == "RETRY"
    seen = []
    while tasks := store.claim(job, "e1", f"c{len(seen)}", 64).tasks:
        seen.append(tasks)
    assert ("m0",) in seen


def test_invalidate_closes_the_stage_and_reruns_the_map(store, job):
    basis = reducing(store, job)
    claim = store.claim(job, "e1", "r", 1)
    done = store.map_outputs(job).outputs.records
    token = done[0].split(b" ")[0].decode()
    task = claim.tasks[0]
    assert store.invalidate(AttemptRef(job, task, f"{task}.r"), basis, {0: token}).rerun == 1
    assert store.status(job).state == "mapping"
    assert commit_all(store, job, claim).statuses == ("FENCED",)
    assert store.claim(job, "e1", "again", 5).tasks == ("m0",)


def test_invalidate_after_a_result_reruns_every_map(store, job):
    basis = reducing(store, job)
    commit_all(store, job, store.claim(job, "e1", "ra", 1))
    claim = store.claim(job, "e1", "rb", 1)
    token = store.map_outputs(job).outputs.records[1].split(b" ")[0].decode()
    task = claim.tasks[0]
    assert store.invalidate(AttemptRef(job, task, f"{task}.rb"), basis, {1: token}).rerun == 2
    assert store.committed_results(job) == {}


@pytest.mark.parametrize("token", ["r0.nobody", "r1.r"])
def test_invalidate_by_an_attempt_that_is_not_live_is_fenced(store, job, token):
    basis = reducing(store, job)
    store.claim(job, "e1", "r", 1)
    done = store.map_outputs(job).outputs.records[0].split(b" ")[0].decode()
    assert store.invalidate(AttemptRef(job, "r0", token), basis, {0: done}).status == "FENCED"
    assert store.status(job).state == "reducing"


def test_cancel_ends_it_once_and_fences_what_runs(store, job):
    store.add(job, 0, 2)
    claim = store.claim(job, "e1", "n1", 1)
    assert store.cancel(job) == "OK"
    assert store.cancel(job) == "ENDED"
    assert commit_all(store, job, claim).statuses == ("FENCED",)
    assert store.renew(job, [("m0", "m0.n1", True)]) == RenewReply("cancelled", frozenset({"m0"}))
    assert store.add(job, 2, 3).status == "ENDED"


def test_a_job_that_is_gone_is_told_apart(store):
    assert store.claim("nope", "e", "n", 1) is None
    assert store.commit("nope", "e", [], "n", 1) is None
    assert store.status("nope") is None
    assert store.add("nope", 0, 1).status == "GONE"
    assert store.cancel("nope") == "GONE"
    assert store.renew("nope", [("m0", "m0.n", True)]) == RenewReply("", frozenset({"m0"}))


def test_delete_leaves_no_key(store, server, job):
    reducing(store, job)
    expire_at = int(store.status(job).meta["expire_at"])
    store.add(job, 0, 0, {0: {"m0.0": b"x"}, 1500: {"m1500.0": b"x"}}, expire_at)
    store.put_segments(job, {0: {"a": b"x"}, 1: {"b": b"x"}}, expire_at)
    store.delete(job, 1501, 2)
    assert server.client().keys("*") == []


def test_every_key_of_a_job_has_the_same_deadline(store, server, job):
    reducing(store, job)
    expire_at = int(store.status(job).meta["expire_at"])
    store.put_segments(job, {0: {"a": b"x"}}, expire_at)
    store.add(job, 0, 0, {0: {"m0.0": b"x"}}, expire_at)
    claim = store.claim(job, "e1", "r", 1)
    fail(store, job, claim)
    client = server.client()
    deadlines = {client.pexpiretime(key) for key in client.keys("*{j1*")}
    assert deadlines == {expire_at}


def test_renewing_extends_every_key_once_a_quarter_of_the_ttl_is_over(store, server, job):
    store.add(job, 0, 2)
    store.close(job, 2, "close", b"end")
    expire_at = int(store.status(job).meta["expire_at"])
    store.add(job, 0, 0, {0: {"m0.0": b"x"}}, expire_at)
    store.put_segments(job, {1: {"a": b"x"}}, expire_at)
    store.claim(job, "e1", "n1", 1)
    store.renew(job, [("m0", "m0.n1", True)])
    assert int(store.status(job).meta["expire_at"]) == expire_at
    store.now_ms += 1_000_000  # of an hour
    store.renew(job, [("m0", "m0.n1", True)])
    client = server.client()
    deadlines = {client.pexpiretime(key) for key in client.keys("*{j1*")}
    assert deadlines == {expire_at + 1_000_000}


def test_a_full_server_still_drains(store, server, job):
    store.add(job, 0, 2)
    store.close(job, 2, "close", b"end")
    server.config(maxmemory="1mb")
    try:
        claim = store.claim(job, "e1", "n1", 1)
        assert store.renew(job, [("m0", "m0.n1", True)]).lost == frozenset()
        assert commit_all(store, job, claim).statuses == ("OK",)
        assert store.cancel(job) == "OK"
    finally:
        server.config(maxmemory="0")


def test_after_an_outage_the_first_to_renew_does_not_cost_the_others_their_leases(store, job):
    store.add(job, 0, 8)
    store.claim(job, "a", "n1", 1)
    store.claim(job, "b", "n2", 1)
    store.now_ms += 60_000  # nobody reached Redis
    assert store.renew(job, [("m0", "m0.n1", True)]).lost == frozenset()
    assert store.reclaim(job).reclaimed == 0
    assert store.renew(job, [("m1", "m1.n2", True)]) == RenewReply("submitting", frozenset())
