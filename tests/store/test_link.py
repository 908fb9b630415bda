"""Refusals of the server: of a command alone, in a pipeline, a transaction, a script."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest
import redis

from redismr.config import Connection
from redismr.errors import KeysAltered, StoreError, StoreFull, StoreUnavailable
from redismr.store import Store
from redismr.store import retrying_client as link_module
from redismr.store.replies import RenewReply

WAYS = {
    "alone": lambda store: store.redis_client.command("HSET", "{redismr:j1}:x", "f", "v"),
    "in a pipeline": lambda store: store.redis_client.pipeline(
        [("HSET", "{redismr:j1}:x", "f", "v")]
    ),
    "in a transaction": lambda store: store.add("j1", 0, 0, {0: {"m0.0": b"x"}}, 1 << 45),
    "in a script": lambda store: store.create(
        "j2", spec=b"", code=b"", params=b"", ttl_ms=1000, submit_ms=1000, fields={}
    ),
}


def make_readonly(server):
    server.client().replicaof("127.0.0.1", 1)


def make_lonely(server):
    server.config(min_replicas_to_write=1)


def make_down(server):
    server.config(replica_serve_stale_data="no")
    server.client().replicaof("127.0.0.1", 1)


TEMPORARY_WORDS = {"READONLY": make_readonly, "NOREPLICAS": make_lonely, "MASTERDOWN": make_down}


@pytest.fixture
def impatient(server):
    store = Store(Connection(url=server.url, secret=server.secret), patience=0)
    yield store
    server.client().replicaof("NO", "ONE")
    store.redis_client.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("word", TEMPORARY_WORDS)
def test_trouble_that_passes_is_waited_for(server, impatient, word, way):
    TEMPORARY_WORDS[word](server)
    with pytest.raises(StoreUnavailable, match="refuses for now"):
        WAYS[way](impatient)


@pytest.mark.parametrize("word", ["READONLY", "NOREPLICAS"])
def test_a_job_can_be_looked_at_where_nothing_can_be_written(server, store, job, impatient, word):
    TEMPORARY_WORDS[word](server)
    assert impatient.status(job).state == "submitting"
    assert impatient.map_outputs(job).state == "submitting"


@pytest.mark.parametrize("way", WAYS)
def test_a_full_server_is_told_apart(server, impatient, way):
    server.config(maxmemory=1)
    with pytest.raises(StoreFull, match="maxmemory"):
        WAYS[way](impatient)
    assert impatient.redis_client.is_full()


@pytest.mark.parametrize("way", ["in a pipeline", "in a transaction"])
def test_a_key_of_another_type_is_told_apart(server, impatient, way):
    server.client().set("{redismr:j1}:x", "not ours", ex=60)
    server.client().set(impatient.keys.input("j1", 0), "not ours", ex=60)
    with pytest.raises(KeysAltered):
        WAYS[way](impatient)


def test_another_refusal_is_an_error_at_once(store):
    with pytest.raises(StoreError, match="refused"):
        store.redis_client.command("NOSUCHCOMMAND")


def test_a_refused_write_is_done_when_the_server_is_a_master_again(server):
    store = Store(Connection(url=server.url, secret=server.secret), patience=20)
    make_readonly(server)
    waits = threading.Event()
    store.redis_client._on_wait = lambda _text, _waited: waits.set()

    def promote():
        waits.wait(10)
        server.client().replicaof("NO", "ONE")

    helper = threading.Thread(target=promote)
    helper.start()
    store.add("j1", 0, 0, {0: {"m0.0": b"x"}}, int(time.time() * 1000) + 60_000)
    helper.join()
    assert store.get_inputs("j1", ["m0"]) == [b"x"]


def test_a_demoted_master_s_connections_are_dropped(server, impatient):
    client = server.client()
    impatient.redis_client.command("PING")
    before = {row["id"] for row in client.client_list()}
    make_readonly(server)
    with pytest.raises(StoreUnavailable):
        impatient.redis_client.command("SET", "{redismr}:x", "1", "EX", 60)
    client.replicaof("NO", "ONE")
    impatient.redis_client.command("PING")
    names = {row["id"]: row["name"] for row in client.client_list()}
    assert [i for i, name in names.items() if name == "redismr" and i not in before]


def test_hints_do_not_wait_for_room(server, store, job):
    server.config(maxmemory=1)
    store.announce("j1", 0, 0)
    store.list_until("j1", 1 << 45, 0)
    store.wake(3, "3.11", "key")
    store.heartbeat("w", {"host": "h"})
    store.move_last("j1", 0)
    assert store.runnable() == []


def test_a_worker_that_dies_right_after_its_first_beat_leaves_nothing_for_ever(
    server, store, monkeypatch
):
    said = []
    real = store.redis_client.best_effort
    monkeypatch.setattr(
        store.redis_client, "best_effort", lambda *commands: said.append(1) or real(*commands)
    )
    assert store.heartbeat("w", {"host": "h"}) == 1
    assert len(said) == 1  # it may be dead after any of them
    assert server.client().ttl(store.keys.workers) > 0
    server.client().flushall()
    assert store.heartbeat("w", {"host": "h"}) == 1
    assert server.client().ttl(store.keys.workers) > 0


@pytest.mark.parametrize("key", ["jobs", "recent", "workers", "wake"])
def test_a_shared_key_that_somebody_altered_is_mended_once(server, store, key):
    def write():
        store.announce("j1", 0, 0)
        store.list_until("j1", 1 << 45, 0)
        store.heartbeat("w", {"host": "h"})
        store.wake(3, "3.11", "key")

    admin = server.client()
    write()
    (name,) = admin.keys(f"redismr:{key}*")
    admin.set(name, "not ours")
    write()  # one client mends it
    troubles = iter([KeysAltered("seen by another before that"), None])

    def ask():
        if trouble := next(troubles):
            raise trouble

    store._with_key_repair(name.decode(), ask)
    assert admin.exists(name)
    assert admin.type(name) != b"string"


def test_a_stream_of_new_jobs_starves_no_older_one(server, store):
    now = store.server_ms()
    for job, served in (("waited", now - 10_000), ("recent", now - 500)):
        store.announce(job, 0, 0)
        store.take_turn(job, 0, served)
    store.announce("new", 0, now)
    assert store.runnable() == ["waited", "new", "recent"]


def test_a_full_server_drains(server, store, job):
    store.add(job, 0, 0, {0: {"m0.0": b"x"}}, store.now_ms + 60_000)
    store.add(job, 0, 1)
    server.config(maxmemory=1)
    assert store.add(job, 0, 0).status == "OK"  # the submitter is alive
    assert store.claim(job, "e", "n", 1).tasks == ("m0",)
    assert store.renew(job, [("m0", "m0.n", True)]) == RenewReply("submitting", frozenset())
    assert store.release(job, "e", "n") == 1
    assert store.close(job, 1, "c", b"end").status == "OK"
    assert store.cancel(job) == "OK"
    store.delete(job, 1, 2)
    assert server.client().keys("*j1*") == []


def test_no_task_is_added_without_its_input(server, store, job):
    splits, expire_at = {0: {"m0.0": b"x"}}, store.now_ms + 60_000
    store.redis_client.patience = 0
    server.config(maxmemory=1)
    with pytest.raises(StoreFull):
        store.add(job, 0, 1, splits, expire_at)
    assert store.status(job).meta["maps_added"] == "0"
    server.config(maxmemory=0)
    server.client().script_flush()
    assert store.add(job, 0, 1, splits, expire_at).added == 1
    assert store.get_inputs(job, ["m0"]) == [b"x"]


def test_a_full_server_is_an_error_after_a_while(server, store, monkeypatch):
    monkeypatch.setattr(link_module, "FULL_PATIENCE_SECONDS", 0.2)
    store.redis_client.patience = None
    server.config(maxmemory=1)
    with pytest.raises(StoreFull, match="give it more memory, or delete finished jobs"):
        store.add("j1", 0, 0, {0: {"m0.0": b"x"}}, store.now_ms + 60_000)


def test_an_outage_does_not_use_up_the_patience_for_a_full_server(store, monkeypatch):
    monkeypatch.setattr(link_module, "FULL_PATIENCE_SECONDS", 0.05)
    store.redis_client.patience = None
    until = time.monotonic() + 0.1
    answers = iter([redis.exceptions.OutOfMemoryError("full"), None])

    def send():
        if time.monotonic() < until:
            raise redis.ConnectionError("away")
        if trouble := next(answers):
            raise trouble
        return "done"

    assert store.redis_client.with_retries(send) == "done"


def test_a_cut_line_is_not_an_absent_server(store, monkeypatch):
    real, cuts = link_module.check_server, iter([1, 1])

    def check_server(*args):
        if next(cuts, 0):
            raise StoreUnavailable("Connection closed by server.")
        return real(*args)

    monkeypatch.setattr(link_module, "check_server", check_server)
    store.redis_client.check("worker")
    assert not list(cuts)


def test_an_absent_server_is_said_after_three_tries(server, store, monkeypatch):
    server.kill()
    real, tries = link_module.check_server, []
    monkeypatch.setattr(
        link_module, "check_server", lambda *args: tries.append(args) or real(*args)
    )
    with pytest.raises(StoreUnavailable, match="no Redis answers"):
        store.redis_client.check("monitor")
    assert len(tries) == 3


def test_a_channel_comes_back_by_itself(server, store):
    client = server.client()
    with store.subscribe("t") as channel:
        assert channel.get(1) is None
        store.publish("t", b"one")
        assert channel.get(10) == b"one"
        client.client_kill_filter(_type="pubsub")
        assert channel.get(1) is None  # what was said meanwhile is lost: time to read the truth
        assert channel.get(1) is None  # it subscribes again
        store.publish("t", b"two")
        assert channel.get(10) == b"two"


def test_a_channel_that_cannot_be_had_is_no_error(server, impatient):
    impatient.redis_client.command("PING")
    with impatient.subscribe("t") as channel:
        server.pause()
        server.kill()
        assert channel.get(0.1) is None
        assert channel.get(0.1) is None
        server.ensure_running()
        assert channel.get(0.1) is None
        impatient.publish("t", b"back")
        assert channel.get(10) == b"back"


@pytest.mark.parametrize("said", ["MISCONF no disk", "BUSY in a script", "UNBLOCKED demoted"])
@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "Command # 1 (HSET k OOM) of pipeline caused error: {}",
        "{} script: a1, on @user_script:3.",
    ],
)
def test_words_without_a_class_of_their_own_are_known(impatient, said, around):
    def refuse():
        raise redis.ResponseError(around.format(said))

    with pytest.raises(StoreUnavailable, match=said):
        impatient.redis_client.with_retries(refuse)


def test_bulk_is_freed_when_the_job_has_ended_and_not_before(server, store, job):
    store.add(job, 0, 1, {0: {"m0.0": b"x"}}, store.now_ms + 60_000)
    store.free_bulk(job, 1, 2)  # as who saw an end that a failover took back
    assert store.get_inputs(job, ["m0"]) == [b"x"]
    assert store.cancel(job) == "OK"
    server.config(maxmemory=1)
    store.free_bulk(job, 1, 2)
    assert store.get_inputs(job, ["m0"]) == [None]


def test_a_failover_is_thought_of_where_there_was_a_replica(store, monkeypatch):
    answers = [0, 0, 2]
    info = {"replication": lambda: {"connected_slaves": answers.pop(0)}}
    monkeypatch.setattr(store.redis_client.client, "info", lambda section: info[section]())
    assert not store.redis_client.may_fail_over()
    assert not store.redis_client.may_fail_over()
    assert len(answers) == 2  # not asked at every commit
    monkeypatch.setattr(link_module, "REPLICAS_CHECK_SECONDS", 0)
    assert [store.redis_client.may_fail_over() for _ in range(4)] == [False, True, True, True]


def test_a_failover_is_thought_of_where_sentinels_watch():
    # Not asked: right after a failover the new master has no replica.
    store = Store(Connection(url="redis+sentinel://127.0.0.1:1/x", secret="s" * 32), patience=0)
    assert store.redis_client.may_fail_over()


@pytest.mark.parametrize("outage", [0.05, 0.2, 1.0, 3.0])
def test_after_an_outage_nobody_stays_away_for_much_longer_than_it_was(monkeypatch, outage):
    """A lease whose claim was answered to nobody must not run out before that is asked again."""
    now = [100.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr(link_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(link_module, "random", SimpleNamespace(uniform=lambda _least, most: most))

    def send():
        if now[0] < 100 + outage:
            raise redis.ConnectionError("away")

    connection = Connection(url="redis://localhost:1", secret="0" * 32)
    link_module.RetryingClient(connection, patience=None).with_retries(send)
    assert now[0] - 100 <= 1.25 * outage + 0.02
