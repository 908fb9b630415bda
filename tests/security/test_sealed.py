"""Sealed bytes that an attacker without the secret altered, moved, deleted or put back."""

from __future__ import annotations

import pytest
from security.conftest import SOURCE, AttackTestbed, SteppedWorker, dice, sequential, tiny
from system.processes import OTHER_SECRET, SECRET

import redismr
from redismr.client import job_options
from redismr.config import Connection
from redismr.core.events import Event, decode_event, encode_event
from redismr.core.seal import Keyring

WHEN = {
    "spec": "submitted",
    "code": "submitted",
    "params": "submitted",
    "input": "submitted",
    "end": "reducing",
    "done": "reducing",
    "segment": "reducing",
    "result": "succeeded",
    "out": "succeeded",
    "end, read by the submitter": "succeeded",
}
HARM = (
    "flip", "truncate", "empty", "delete", "bomb", "bomb behind a head", "bomb of another secret",
    "another place", "another job", "another namespace",
)  # fmt: skip


def place_of(testbed, kind, job=None):
    """Return the key where blobs of a kind lie, and its fields (none for a string)."""
    job = job or testbed.job
    if kind == "input":
        key = testbed.keys.input(job.id, 0)
    elif kind == "segment":
        key = testbed.keys.shuffle(job.id, 0)
    else:
        key = testbed.key(kind.split(",")[0], job)
    if testbed.redis.type(key) == b"string":
        return key, []
    return key, sorted(testbed.redis.hkeys(key))


def read(testbed, key, field):
    return testbed.redis.get(key) if field is None else testbed.redis.hget(key, field)


def write(testbed, key, field, blob):
    """Write a blob and keep the TTL; None deletes it."""
    if blob is None:
        testbed.redis.delete(key) if field is None else testbed.redis.hdel(key, field)
    elif field is None:
        testbed.redis.set(key, blob, keepttl=True)
    else:
        testbed.redis.hset(key, field, blob)


def prepare(testbed, kind):
    testbed.submit(params={"words": ["x"]})
    if WHEN[kind] != "submitted":
        testbed.run_until(WHEN[kind])


def harmed(testbed, harm, kind, fields, blob, other):
    """Return the blob as the attacker leaves it."""
    token, space, sealed = blob.partition(b" ") if kind in ("done", "result") else (b"", b"", blob)
    if harm == "flip":
        sealed = sealed[:-1] + bytes([sealed[-1] ^ 1])
    elif harm == "truncate":
        sealed = sealed[:-1]
    elif harm == "empty":
        return b""
    elif harm == "delete":
        return None
    elif harm == "bomb":
        sealed = testbed.bomb
    elif harm == "bomb behind a head":
        head = sealed[:5] + b"\0" + len(testbed.bomb).to_bytes(4, "big")
        sealed = head + bytes(32) + testbed.bomb
    elif harm == "bomb of another secret":
        ring = Keyring(OTHER_SECRET, "redismr")
        place = {"done": ("m0", token.decode()), "result": ("r0", token.decode())}.get(kind, ())
        name = {"done": "manifest"}.get(kind, kind.split(",")[0])
        sealed = ring.seal(testbed.job.id, name, place, testbed.bomb)
    elif harm == "another place":
        key = place_of(testbed, kind)[0]
        if len(fields) > 1:
            return read(testbed, key, fields[-1])
        return testbed.redis.get(testbed.key("spec" if kind != "spec" else "code"))
    else:
        key, others = place_of(other, kind)
        return read(other, key, others[0] if others else None)
    return token + space + sealed


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("kind", WHEN)
def test_a_harmed_blob_is_noticed(testbed, server, tmp_path, kind, harm):
    other = None
    if harm.startswith("another ") and harm != "another place":
        namespace = "redismr" if harm == "another job" else "redismr2"
        other = AttackTestbed(server, tmp_path, namespace)
        prepare(other, kind)
        other.store.cancel(other.job.id) if WHEN[kind] == "submitted" else None
        other.store.drop_jobs(other.job.id)
    prepare(testbed, kind)
    key, fields = place_of(testbed, kind)
    field = fields[0] if fields else None
    blob = read(testbed, key, field)
    write(testbed, key, field, harmed(testbed, harm, kind, fields, blob, other))
    outcome = testbed.outcome()
    testbed.check(outcome)
    if kind == "params" and harm == "delete":
        assert isinstance(outcome, redismr.RedismrError)
    if kind == "segment":
        assert outcome == sequential(), "one lost segment is made again"
    elif WHEN[kind] == "succeeded":
        assert isinstance(outcome, redismr.RedismrError)
    if other:
        other.close()


@pytest.mark.parametrize("harm", ["flip", "delete", "bomb"])
def test_a_segment_that_is_harmed_for_ever_ends_the_job_by_name(testbed, harm):
    testbed.submit()
    for _ in range(5):
        if testbed.store.status(testbed.job.id).state == "failed":
            break
        testbed.run_until("reducing")
        key, fields = place_of(testbed, "segment")
        for field in fields:
            write(testbed, key, field, harmed(testbed, harm, "segment", fields, b"x" * 99, None))
        testbed.run_one_task()
    outcome = testbed.outcome()
    testbed.check(outcome)
    assert "segments of task" in str(outcome)


def test_a_doubled_segment_counts_once(testbed):
    testbed.submit()
    testbed.run_until("reducing")
    for p in (0, 1):
        key = testbed.keys.shuffle(testbed.job.id, p)
        for field, blob in testbed.redis.hgetall(key).items():
            token, _, chunk = field.rpartition(b".")
            testbed.redis.hset(key, token + b"." + str(int(chunk) + 1).encode(), blob)
            testbed.redis.hset(testbed.keys.shuffle(testbed.job.id, 1 - p), field + b"0", blob)
    assert testbed.outcome() == sequential()


@pytest.mark.parametrize("book", ["done", "result"])
@pytest.mark.parametrize("token", [b"m0.x", b"", b"\x1b[2Jevil\x07" * 100, b"a b c"])
def test_another_clear_token_before_a_manifest(testbed, book, token):
    testbed.submit()
    testbed.run_until("reducing" if book == "done" else "succeeded")
    _, _, sealed = testbed.redis.hget(testbed.key(book), "0").partition(b" ")
    testbed.redis.hset(testbed.key(book), "0", token + b" " + sealed)
    outcome = testbed.outcome()
    testbed.check(outcome)
    assert isinstance(outcome, redismr.RedismrError)


@pytest.mark.parametrize("book", ["done", "result"])
def test_a_manifest_of_a_small_output_is_sealed_as_well(testbed, book):
    testbed.submit(tiny, reducefn="sum")
    testbed.run_until("reducing" if book == "done" else "succeeded")
    record = testbed.redis.hget(testbed.key(book), "0")
    testbed.redis.hset(testbed.key(book), "0", record[:-9] + b"\0" * 9)
    outcome = testbed.outcome()
    testbed.check(outcome)
    assert isinstance(outcome, redismr.RedismrError)


def rerun(testbed):
    """Run all maps of a job twice; return the first result of a partition, chunks and segments."""
    testbed.submit()
    testbed.run_until("reducing")
    first_done = testbed.redis.hgetall(testbed.key("done"))
    segments = {p: testbed.redis.hgetall(testbed.keys.shuffle(testbed.job.id, p)) for p in (0, 1)}
    testbed.run_one_task()
    (partition,) = testbed.store.committed_results(testbed.job.id)
    record = testbed.redis.hget(testbed.key("result"), partition)
    chunks = testbed.redis.hgetall(testbed.key("out"))
    testbed.redis.delete(testbed.keys.shuffle(testbed.job.id, 1 - partition))
    testbed.run_one_task()
    assert testbed.store.status(testbed.job.id).state == "mapping"
    return partition, record, chunks, first_done, segments


def test_a_result_of_an_earlier_run_of_the_maps_is_refused(testbed):
    partition, record, chunks, _, _ = rerun(testbed)
    testbed.run_until("succeeded")
    testbed.redis.hset(testbed.key("result"), partition, record)
    testbed.redis.hset(testbed.key("out"), mapping=chunks)
    outcome = testbed.outcome()
    testbed.check(outcome)
    assert "different runs of its maps" in str(outcome)


def test_only_the_chunks_of_an_earlier_run_do_not_fit(testbed):
    partition, _, chunks, _, _ = rerun(testbed)
    testbed.run_until("succeeded")
    token = testbed.redis.hget(testbed.key("result"), partition).split(b" ")[0]
    for name, blob in chunks.items():
        chunk = name.rpartition(b".")[2]
        testbed.redis.hset(testbed.key("out"), token + b"." + chunk, blob)
    outcome = testbed.outcome()
    assert isinstance(outcome, redismr.SealError)


def test_map_records_of_an_earlier_run_between_two_reducers(testbed):
    _, _, _, first_done, segments = rerun(testbed)
    testbed.run_until("reducing")
    testbed.run_one_task()
    testbed.redis.hset(testbed.key("done"), "0", first_done[b"0"])
    for p, fields in segments.items():
        testbed.redis.hset(testbed.keys.shuffle(testbed.job.id, p), mapping=fields)
    outcome = testbed.outcome()
    testbed.check(outcome)
    # An executor that read the manifests before is not misled; one that reads the old ones fails.
    assert isinstance(outcome, dict | redismr.JobFailed)


def test_a_partition_replaced_after_it_was_yielded_is_an_error(testbed):
    """iter(job) yields partitions as they come, and compares them with the end of the job."""
    testbed.submit()
    testbed.run_until("reducing")
    testbed.run_one_task()
    pairs = iter(testbed.job)
    next(pairs)
    (partition,) = testbed.store.committed_results(testbed.job.id)
    testbed.redis.delete(testbed.keys.shuffle(testbed.job.id, 1 - partition))
    testbed.run_until("mapping")
    testbed.run_until("succeeded")
    with pytest.raises(redismr.RedismrError, match=r"computed again|earlier|different"):
        list(pairs)


def test_one_token_never_stands_for_two_runs(testbed):
    """Task ids are doubled in the queue; random output would show a mix of two attempts."""
    testbed.submit(dice, source={str(i): i for i in range(3)}, reducefn=None)
    testbed.redis.delete(testbed.key("ready"))
    testbed.redis.rpush(testbed.key("ready"), "m0", *["m1"] * 40, "m2")
    testbed.redis.pexpire(testbed.key("ready"), 60_000)
    outcome = testbed.outcome()
    assert isinstance(outcome, dict), outcome
    for key in "012":
        (count,) = outcome[f"count {key}"]
        keys = [k for k in outcome if k.startswith(f"{key}.")]
        assert len(keys) == count
        assert all(len(outcome[k]) == 1 for k in keys)


def test_result_chunks_that_vanish_before_their_commit(testbed):
    """RESTAGE: the task runs again under another token, so no chunk of the first run fits."""
    testbed.submit()
    testbed.run_until("reducing")
    store, tokens = testbed.worker.executor.store, []
    commit = store.commit

    def delete_chunks_first(job, executor, commits, nonce, want, *more, **options):
        if commits and len(tokens) < 2:
            testbed.redis.delete(testbed.key("out"))
        tokens.extend(c.token for c in commits)
        return commit(job, executor, commits, nonce, want, *more, **options)

    store.commit = delete_chunks_first
    assert testbed.outcome() == sequential()
    assert len(set(tokens)) == len(tokens) > 2


def test_a_copy_of_an_old_job_does_not_run(testbed, monkeypatch):
    monkeypatch.setattr(job_options, "MAX_JOB_AGE_MS", -1)
    testbed.submit()
    outcome = testbed.outcome()
    assert isinstance(outcome, redismr.JobFailed)
    assert "older than a job may be" in str(outcome)


@pytest.mark.parametrize("harm", ["flip", "bomb", "another place", "old"])
def test_failures_are_believed_only_as_sealed(testbed, harm):
    testbed.submit(source={"a": 1, "b": 2})
    testbed.redis.hset(
        testbed.key("meta"), mapping={"state": "failed", "cause": "\x1b[2Jevil\n" * 99}
    )
    sealer = testbed.job._sealer
    failure = redismr.workers.reporter.Failure(
        kind="error", stage="map", task="m0", function="mapfn", error_module="builtins",
        error_name="ValueError", message="genuine", retryable=False,
    )  # fmt: skip
    blob = sealer.seal_failure(failure, "m0")
    field = "m1" if harm == "another place" else "m0"
    if harm == "flip":
        blob = blob[:-1] + b"?"
    elif harm == "bomb":
        blob = testbed.bomb
    testbed.redis.hset(testbed.key("failures"), field, blob)
    testbed.redis.hset(testbed.key("failures"), "m²", b"")
    testbed.redis.expire(testbed.key("failures"), 60)
    outcome = testbed.outcome()
    testbed.check(outcome)
    assert isinstance(outcome, redismr.JobFailed)
    assert isinstance(outcome, ValueError) == (harm == "old")


def test_events_are_believed_only_as_signed():
    ring = Keyring(SECRET, "redismr")
    good = encode_event(Event("j", "t", 0, "failed", {}), ring)
    assert decode_event(good, ring)
    for bad in (
        good[:-1],
        good.replace(b"failed", b"succee"),
        good.replace(b'"t"', b'"u"'),
        good + good,
        b"\x80\x05.",
        b"",
        encode_event(Event("j", "t", 0, "failed", {}), Keyring(SECRET, "other")),
        encode_event(Event("j", "t", 0, "failed", {}), Keyring(OTHER_SECRET, "redismr")),
    ):
        assert decode_event(bad, ring) is None


def test_another_secret_and_another_namespace(testbed, server):
    """Three clients on one server do not take, see or disturb the jobs of the others."""
    job = testbed.submit()
    others = []
    for secret, namespace in ((OTHER_SECRET, "redismr"), (SECRET, "elsewhere")):
        with redismr.Client(server.url, secret=secret, namespace=namespace) as client:
            worker = SteppedWorker(Connection(url=server.url, secret=secret, namespace=namespace))
            other_job = client.submit(SOURCE, tiny, "sum", partitions=1, lease=0.5)
            while worker.step():
                pass
            others.append(dict(other_job.result(timeout=5)))
            with pytest.raises((redismr.WrongSecret, redismr.JobNotFound)) as caught:
                client.attach(job.id)
            assert secret not in str(caught.value)
            if namespace == "redismr":
                assert caught.type is redismr.WrongSecret
                assert Keyring(SECRET, "redismr").key_id in str(caught.value)
            else:
                assert job.id not in {row.job_id for row in client.jobs()}
            worker.close()
    assert others == [{0: 3, 1: 1, 2: 2}] * 2
    assert testbed.outcome() == sequential()


def test_a_claim_that_a_failover_took_back_accuses_nobody(testbed, monkeypatch):
    """The inputs of the tasks may be lost too, until the submitter has added them again."""
    testbed.submit()
    executor = testbed.worker.executor
    real, rewound = executor.store.get_inputs, []

    def get_inputs(job, tasks):
        if not rewound:
            rewound.extend(tasks)
            executor.store.release(job, executor.setup.name, executor.slot.read().nonce)
            return [None] * len(tasks)
        return real(job, tasks)

    monkeypatch.setattr(executor.store, "get_inputs", get_inputs)
    assert testbed.outcome() == sequential()
    assert rewound
