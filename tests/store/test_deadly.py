"""Deaths of processes in one record, where records may be skipped: what they charge."""

from __future__ import annotations

import pytest
from jobs import make_job

from redismr.core.model import AttemptRef
from redismr.store.limits import LIMITS


@pytest.fixture
def die_at_record(store):
    """Return a function that claims m0, lets its process die at a record, and returns the status.

    Record "": none.
    """

    def die(job, ordinal, note=b"note", executor="e1"):
        number = len(store.crash_notes(job, "m0"))
        nonce = f"n{ordinal}x{number}x{store.now_ms}"
        store.now_ms += 1
        claim = store.claim(job, executor, nonce, 1)
        assert claim.tasks == ("m0",)
        return store.fail(
            AttemptRef(job, "m0", f"m0.{nonce}"), executor,
            kind="lost", signature="crash", cause="why", failure=b"sealed", ordinal=ordinal, note=note,  # noqa: E501
        )  # fmt: skip

    return die


def skipping(store, name="j1", **fields):
    job = make_job(store, name, **{"skip_records": 1, "lost_leases": 1, **fields})
    store.add(job, 0, 1)
    return job


def lost(store, job):
    return store.budget_used(job, "m0", "lost")


def test_a_record_that_ended_two_processes_explains_them(store, die_at_record):
    job = skipping(store)
    for record in range(20):
        assert die_at_record(job, str(record)) == "RETRY"
        assert lost(store, job) == 1
        assert die_at_record(job, str(record)) == "RETRY"
        assert lost(store, job) == 0
    notes = store.crash_notes(job, "m0")
    assert len({token for token, _ in notes}) == 40
    assert {note for _, note in notes} == {b"note"}
    assert "crash:m0" not in store.failures(job), "it is no failure"


def test_a_record_that_goes_on_killing_is_charged_again(store, die_at_record):
    job = skipping(store)
    assert [die_at_record(job, "3") for _ in range(4)] == ["RETRY", "RETRY", "RETRY", "DEAD"]


def test_deaths_in_other_records_each_time_are_not_explained(store, die_at_record):
    job = skipping(store)
    assert [die_at_record(job, ordinal) for ordinal in ("1", "11")] == ["RETRY", "DEAD"]


def test_one_death_may_come_before_it_is_explained(store, die_at_record):
    job = skipping(store, lost_leases=0)
    assert [die_at_record(job, ordinal) for ordinal in "1122"] == ["RETRY"] * 4
    assert die_at_record(job, "") == "DEAD", (
        "a death in no record is charged to lost_leases as ever"
    )


def test_deaths_are_bounded_whatever_explains_them(store, die_at_record):
    job = skipping(store, lost_leases=100)
    most = int(LIMITS["MAX_EXPLAINED_DEATHS"].value)
    outcomes = [die_at_record(job, str(n // 2)) for n in range(most + 1)]
    assert outcomes == ["RETRY"] * most + ["DEAD"]


def test_where_nothing_may_be_skipped_nothing_is_kept(store, die_at_record):
    job = skipping(store, skip_records=0)
    assert [die_at_record(job, "1") for _ in range(2)] == ["RETRY", "DEAD"]
    assert store.crash_notes(job, "m0") == []


def test_a_repeated_report_changes_nothing(store, die_at_record):
    job = skipping(store)
    assert die_at_record(job, "1") == "RETRY"
    token, _ = store.crash_notes(job, "m0")[0]
    again = store.fail(
        AttemptRef(job, "m0", token), "e1", kind="lost", signature="crash", cause="why",
        failure=b"sealed", ordinal="1", note=b"note",
    )  # fmt: skip
    assert again == "FENCED"
    assert lost(store, job) == 1
    assert len(store.crash_notes(job, "m0")) == 1


@pytest.mark.parametrize("garbage", [b"", b",", b"1 m0.x zz,", b"1 2 3 4,", b"\xff ,a b,1 m0.y 00"])
def test_what_the_script_did_not_write_is_passed_over(store, garbage):
    job = skipping(store)
    key = store.keys.control(job, "failures")
    store.redis_client.pipeline([("HSET", key, "crash:m0", garbage), ("EXPIRE", key, 60)])
    assert store.crash_notes(job, "m0") in ([], [("m0.y", b"\0")])
