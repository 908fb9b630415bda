"""Sealed bytes that somebody without the secret altered, moved, dropped or put back."""

from __future__ import annotations

import pytest
from security.conftest import SOURCE, Hand, Scene, dice, sequential, tiny
from system.crew import OTHER_SECRET, SECRET

import redismr
from redismr.client import specs
from redismr.config import Connection
from redismr.core.events import Event, decode, encode
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


def place_of(scene, kind, job=None):
    """(key, its fields or none) where blobs of that kind lie."""
    job = job or scene.job
    if kind == "input":
        key = scene.keys.input(job.id, 0)
    elif kind == "segment":
        key = scene.keys.shuffle(job.id, 0)
    else:
        key = scene.key(kind.split(",")[0], job)
    if scene.redis.type(key) == b"string":
        return key, []
    return key, sorted(scene.redis.hkeys(key))


def read(scene, key, field):
    return scene.redis.get(key) if field is None else scene.redis.hget(key, field)


def write(scene, key, field, blob):
    """Put a blob there, keeping the deadline; None drops it."""
    if blob is None:
        scene.redis.delete(key) if field is None else scene.redis.hdel(key, field)
    elif field is None:
        scene.redis.set(key, blob, keepttl=True)
    else:
        scene.redis.hset(key, field, blob)


def prepare(scene, kind):
    scene.submit(params={"words": ["x"]})
    if WHEN[kind] != "submitted":
        scene.until(WHEN[kind])


def harmed(scene, harm, kind, fields, blob, other):
    """The blob as the attacker leaves it."""
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
        sealed = scene.bomb
    elif harm == "bomb behind a head":
        head = sealed[:5] + b"\0" + len(scene.bomb).to_bytes(4, "big")
        sealed = head + bytes(32) + scene.bomb
    elif harm == "bomb of another secret":
        ring = Keyring(OTHER_SECRET, "redismr")
        place = {"done": ("m0", token.decode()), "result": ("r0", token.decode())}.get(kind, ())
        name = {"done": "manifest"}.get(kind, kind.split(",")[0])
        sealed = ring.seal(scene.job.id, name, place, scene.bomb)
    elif harm == "another place":
        key = place_of(scene, kind)[0]
        if len(fields) > 1:
            return read(scene, key, fields[-1])
        return scene.redis.get(scene.key("spec" if kind != "spec" else "code"))
    else:
        key, others = place_of(other, kind)
        return read(other, key, others[0] if others else None)
    return token + space + sealed


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize("kind", WHEN)
def test_a_harmed_blob_is_noticed(scene, server, tmp_path, kind, harm):
    other = None
    if harm.startswith("another ") and harm != "another place":
        namespace = "redismr" if harm == "another job" else "redismr2"
        other = Scene(server, tmp_path, namespace)
        prepare(other, kind)
        other.store.cancel(other.job.id) if WHEN[kind] == "submitted" else None
        other.store.forget(other.job.id)
    prepare(scene, kind)
    key, fields = place_of(scene, kind)
    field = fields[0] if fields else None
    blob = read(scene, key, field)
    write(scene, key, field, harmed(scene, harm, kind, fields, blob, other))
    outcome = scene.outcome()
    scene.check(outcome)
    if kind == "params" and harm == "delete":
        assert isinstance(outcome, redismr.RedismrError)
    if kind == "segment":
        assert outcome == sequential(), "one lost segment is made again"
    elif WHEN[kind] == "succeeded":
        assert isinstance(outcome, redismr.RedismrError)
    if other:
        other.close()


@pytest.mark.parametrize("harm", ["flip", "delete", "bomb"])
def test_a_segment_that_is_harmed_for_ever_ends_the_job_by_name(scene, harm):
    scene.submit()
    for _ in range(5):
        if scene.store.look(scene.job.id).state == "failed":
            break
        scene.until("reducing")
        key, fields = place_of(scene, "segment")
        for field in fields:
            write(scene, key, field, harmed(scene, harm, "segment", fields, b"x" * 99, None))
        scene.one_task()
    outcome = scene.outcome()
    scene.check(outcome)
    assert "segments of task" in str(outcome)


def test_a_doubled_segment_counts_once(scene):
    scene.submit()
    scene.until("reducing")
    for p in (0, 1):
        key = scene.keys.shuffle(scene.job.id, p)
        for field, blob in scene.redis.hgetall(key).items():
            token, _, chunk = field.rpartition(b".")
            scene.redis.hset(key, token + b"." + str(int(chunk) + 1).encode(), blob)
            scene.redis.hset(scene.keys.shuffle(scene.job.id, 1 - p), field + b"0", blob)
    assert scene.outcome() == sequential()


@pytest.mark.parametrize("book", ["done", "result"])
@pytest.mark.parametrize("token", [b"m0.x", b"", b"\x1b[2Jevil\x07" * 100, b"a b c"])
def test_another_clear_token_before_a_manifest(scene, book, token):
    scene.submit()
    scene.until("reducing" if book == "done" else "succeeded")
    _, _, sealed = scene.redis.hget(scene.key(book), "0").partition(b" ")
    scene.redis.hset(scene.key(book), "0", token + b" " + sealed)
    outcome = scene.outcome()
    scene.check(outcome)
    assert isinstance(outcome, redismr.RedismrError)


@pytest.mark.parametrize("book", ["done", "result"])
def test_a_manifest_of_a_small_output_is_sealed_as_well(scene, book):
    scene.submit(tiny, reducefn="sum")
    scene.until("reducing" if book == "done" else "succeeded")
    record = scene.redis.hget(scene.key(book), "0")
    scene.redis.hset(scene.key(book), "0", record[:-9] + b"\0" * 9)
    outcome = scene.outcome()
    scene.check(outcome)
    assert isinstance(outcome, redismr.RedismrError)


def rerun(scene):
    """A job whose maps ran twice: its first result of partition 0, with its chunks."""
    scene.submit()
    scene.until("reducing")
    first_done = scene.redis.hgetall(scene.key("done"))
    segments = {p: scene.redis.hgetall(scene.keys.shuffle(scene.job.id, p)) for p in (0, 1)}
    scene.one_task()
    (partition,) = scene.store.results(scene.job.id)
    record = scene.redis.hget(scene.key("result"), partition)
    chunks = scene.redis.hgetall(scene.key("out"))
    scene.redis.delete(scene.keys.shuffle(scene.job.id, 1 - partition))
    scene.one_task()
    assert scene.store.look(scene.job.id).state == "mapping"
    return partition, record, chunks, first_done, segments


def test_a_result_of_an_earlier_run_of_the_maps_is_refused(scene):
    partition, record, chunks, _, _ = rerun(scene)
    scene.until("succeeded")
    scene.redis.hset(scene.key("result"), partition, record)
    scene.redis.hset(scene.key("out"), mapping=chunks)
    outcome = scene.outcome()
    scene.check(outcome)
    assert "different runs of its maps" in str(outcome)


def test_only_the_chunks_of_an_earlier_run_do_not_fit(scene):
    partition, _, chunks, _, _ = rerun(scene)
    scene.until("succeeded")
    token = scene.redis.hget(scene.key("result"), partition).split(b" ")[0]
    for name, blob in chunks.items():
        chunk = name.rpartition(b".")[2]
        scene.redis.hset(scene.key("out"), token + b"." + chunk, blob)
    outcome = scene.outcome()
    assert isinstance(outcome, redismr.SealError)


def test_map_records_of_an_earlier_run_between_two_reducers(scene):
    _, _, _, first_done, segments = rerun(scene)
    scene.until("reducing")
    scene.one_task()
    scene.redis.hset(scene.key("done"), "0", first_done[b"0"])
    for p, fields in segments.items():
        scene.redis.hset(scene.keys.shuffle(scene.job.id, p), mapping=fields)
    outcome = scene.outcome()
    scene.check(outcome)
    # An executor that has read the names keeps to them; one that reads altered ones is found out.
    assert isinstance(outcome, dict | redismr.JobFailed)


def test_what_was_yielded_is_compared_with_the_end(scene):
    """iter(job) hands partitions out as they come; one that is replaced later is an error."""
    scene.submit()
    scene.until("reducing")
    scene.one_task()
    pairs = iter(scene.job)
    next(pairs)
    (partition,) = scene.store.results(scene.job.id)
    scene.redis.delete(scene.keys.shuffle(scene.job.id, 1 - partition))
    scene.until("mapping")
    scene.until("succeeded")
    with pytest.raises(redismr.RedismrError, match=r"computed again|earlier|different"):
        list(pairs)


def test_one_token_never_stands_for_two_runs(scene):
    """Ids doubled in the queue: with functions that roll dice a mix would show."""
    scene.submit(dice, source={str(i): i for i in range(3)}, reducefn=None)
    scene.redis.delete(scene.key("ready"))
    scene.redis.rpush(scene.key("ready"), "m0", *["m1"] * 40, "m2")
    scene.redis.pexpire(scene.key("ready"), 60_000)
    outcome = scene.outcome()
    assert isinstance(outcome, dict), outcome
    for key in "012":
        (count,) = outcome[f"count {key}"]
        mine = [k for k in outcome if k.startswith(f"{key}.")]
        assert len(mine) == count
        assert all(len(outcome[k]) == 1 for k in mine)


def test_result_chunks_that_vanish_before_their_commit(scene):
    """RESTAGE: made again under another token, so that no chunk of the first run fits."""
    scene.submit()
    scene.until("reducing")
    store, tokens = scene.hand.executor.store, []
    commit = store.commit

    def cruel(job, executor, commits, nonce, want, *more, **options):
        if commits and len(tokens) < 2:
            scene.redis.delete(scene.key("out"))
        tokens.extend(c.token for c in commits)
        return commit(job, executor, commits, nonce, want, *more, **options)

    store.commit = cruel
    assert scene.outcome() == sequential()
    assert len(set(tokens)) == len(tokens) > 2


def test_a_copy_of_an_old_job_does_not_run(scene, monkeypatch):
    monkeypatch.setattr(specs, "NOT_AFTER_MS", -1)
    scene.submit()
    outcome = scene.outcome()
    assert isinstance(outcome, redismr.JobFailed)
    assert "older than a job may be" in str(outcome)


@pytest.mark.parametrize("harm", ["flip", "bomb", "another place", "old"])
def test_failures_are_believed_only_as_sealed(scene, harm):
    scene.submit(source={"a": 1, "b": 2})
    scene.redis.hset(scene.key("meta"), mapping={"state": "failed", "cause": "\x1b[2Jevil\n" * 99})
    vault = scene.job._vault
    failure = redismr.workers.report.Failure(
        kind="error", stage="map", task="m0", function="mapfn", error_module="builtins",
        error_name="ValueError", message="genuine", retryable=False,
    )  # fmt: skip
    blob = vault.seal_failure(failure, "m0")
    field = "m1" if harm == "another place" else "m0"
    if harm == "flip":
        blob = blob[:-1] + b"?"
    elif harm == "bomb":
        blob = scene.bomb
    scene.redis.hset(scene.key("dead"), field, blob)
    scene.redis.hset(scene.key("dead"), "m²", b"")
    scene.redis.expire(scene.key("dead"), 60)
    outcome = scene.outcome()
    scene.check(outcome)
    assert isinstance(outcome, redismr.JobFailed)
    assert isinstance(outcome, ValueError) == (harm == "old")


def test_events_are_believed_only_as_signed():
    ring = Keyring(SECRET, "redismr")
    good = encode(Event("j", "t", 0, "failed", {}), ring)
    assert decode(good, ring)
    for bad in (
        good[:-1],
        good.replace(b"failed", b"succee"),
        good.replace(b'"t"', b'"u"'),
        good + good,
        b"\x80\x05.",
        b"",
        encode(Event("j", "t", 0, "failed", {}), Keyring(SECRET, "other")),
        encode(Event("j", "t", 0, "failed", {}), Keyring(OTHER_SECRET, "redismr")),
    ):
        assert decode(bad, ring) is None


def test_another_secret_and_another_namespace(scene, server):
    """Three clients on one server: nobody takes, sees or disturbs another's job."""
    mine = scene.submit()
    others = []
    for secret, namespace in ((OTHER_SECRET, "redismr"), (SECRET, "elsewhere")):
        with redismr.Client(server.url, secret=secret, namespace=namespace) as client:
            hand = Hand(Connection(url=server.url, secret=secret, namespace=namespace))
            theirs = client.submit(SOURCE, tiny, "sum", partitions=1, lease=0.5)
            while hand.step():
                pass
            others.append(dict(theirs.result(timeout=5)))
            with pytest.raises((redismr.WrongSecret, redismr.JobNotFound)) as caught:
                client.attach(mine.id)
            assert secret not in str(caught.value)
            if namespace == "redismr":
                assert caught.type is redismr.WrongSecret
                assert Keyring(SECRET, "redismr").key_id in str(caught.value)
            else:
                assert mine.id not in {row.job_id for row in client.jobs()}
            hand.close()
    assert others == [{0: 3, 1: 1, 2: 2}] * 2
    assert scene.outcome() == sequential()


def test_a_claim_that_a_failover_took_back_accuses_nobody(scene, monkeypatch):
    """What it was for may be gone with it, until the submitter has handed it in again."""
    scene.submit()
    executor = scene.hand.executor
    real, rewound = executor.store.get_inputs, []

    def get_inputs(job, tasks):
        if not rewound:
            rewound.extend(tasks)
            executor.store.release(job, executor.post.name, executor.slot.read().nonce)
            return [None] * len(tasks)
        return real(job, tasks)

    monkeypatch.setattr(executor.store, "get_inputs", get_inputs)
    assert scene.outcome() == sequential()
    assert rewound
