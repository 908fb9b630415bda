"""One line serves one channel after the other, and none hears what was another's."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import pytest
from support import eventually

from redismr.config import Connection
from redismr.core.model import PROTOCOL
from redismr.store import Store
from redismr.store import channel as channels
from redismr.store.link import Link


def lines_of(server):
    """How many connections have asked for channels."""
    return len(server.client().client_list(_type="pubsub"))


def test_one_line_serves_one_channel_after_the_other(server, store):
    made = []
    for number in range(5):
        with store.subscribed(f"t{number}") as channel:
            assert channel.get(1) is None
            assert channel.renewed
            store.publish(f"t{number}", b"%d" % number)
            made.append(channel.get(10))
    assert made == [b"%d" % number for number in range(5)]
    assert server.client().info("stats")["total_connections_received"] < 12
    assert lines_of(server) <= 1


def test_what_a_line_still_hears_of_before_is_not_told(store):
    with store.subscribed("before") as channel:
        channel.get(1)
        for _ in range(3):
            store.publish("before", b"old")  # not read any more
    with store.subscribed("after") as channel:
        assert channel.get(1) is None
        store.publish("after", b"new")
        assert channel.get(10) == b"new"
        assert channel.get(0) is None


def test_two_at_a_time_have_a_line_each_and_one_is_kept(server, store):
    with store.subscribed("a") as a, store.subscribed("b") as b:
        a.get(1), b.get(1)
        assert lines_of(server) == 2
        store.publish("b", b"for b")
        store.publish("a", b"for a")
        assert (a.get(10), b.get(10)) == (b"for a", b"for b")
    eventually(lambda: lines_of(server) <= 1)


def test_a_line_that_was_kept_for_long_is_not_trusted(store, monkeypatch):
    """After a failover it may lead to a server that hears nothing new."""
    with store.subscribed("a") as channel:
        channel.get(1)
        first = channel._line
    now = time.monotonic()
    monkeypatch.setattr(channels.time, "monotonic", lambda: now + channels.LINE_SECONDS + 1)
    with store.subscribed("a") as channel:
        channel.get(1)
        assert channel._line is not first


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "in use"])
def test_a_forked_child_leaves_its_parents_line_alone(store, kept):
    channel = store.subscribed("a")
    channel.get(1)
    if kept:
        channel.close()
    child = os.fork()
    if not child:
        with suppress(BaseException):
            channel.close()
            with store.subscribed("b") as other:
                other.get(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    if kept:
        channel = store.subscribed("a")
        channel.get(1)
    store.publish("a", b"for the parent")
    assert channel.get(10) == b"for the parent"
    channel.close()


def test_a_line_that_does_not_answer_any_more_is_not_kept(store, monkeypatch):
    with store.subscribed("a") as channel:
        channel.get(1)
        line = channel._line
    monkeypatch.setattr(line.pubsub, "get_message", lambda timeout: None)
    with store.subscribed("b") as channel:
        assert channel.get(0.1) is None
        assert not channel.renewed
        assert channel.get(1) is None
        assert channel.renewed
        store.publish("b", b"heard")
        assert channel.get(10) == b"heard"


def test_lines_do_not_outlive_the_client(server, store):
    other = Store(Connection(url=server.url, secret=server.secret))
    channel = other.subscribed("a")
    channel.get(1)
    other.link.close()
    channel.close()
    eventually(lambda: lines_of(server) == 0)


def test_news_are_not_told_twice_where_wake_ups_were_altered(server, store):
    key = store.keys.wake(PROTOCOL, "3.11", "key")
    server.client().set(key, "no list", ex=60)
    with store.subscribed("t") as channel:
        channel.get(1)
        store.tell("t", [b"once"], 1, "3.11", "key")
        assert channel.get(10) == b"once"
        assert channel.get(0.1) is None
    assert store.wait_wake("3.11", "key", 1)


def test_a_line_that_was_cut_while_it_was_kept_is_replaced(server, store):
    with store.subscribed("a") as channel:
        channel.get(1)
    server.client().client_kill_filter(_type="pubsub")
    with store.subscribed("a") as channel:
        eventually(lambda: channel.get(0.1) is None and channel.renewed)
        store.publish("a", b"heard")
        assert eventually(lambda: channel.get(1)) == b"heard"


def test_news_and_wake_ups_take_one_round_trip(store, monkeypatch):
    asked = []
    real = Link.safely
    monkeypatch.setattr(Link, "safely", lambda self, send: asked.append(1) or real(self, send))
    with store.subscribed("t") as channel:
        channel.get(1)
        store.tell("t", [b"one", b"two", b"three"], 2, "3.11", "key")
        assert [channel.get(10) for _ in range(3)] == [b"one", b"two", b"three"]
    assert len(asked) == 1
    store.tell("t", [], 0, "3.11", "key")
    assert len(asked) == 1
    assert store.wait_wake("3.11", "key", 1)


def test_a_hint_that_is_refused_does_not_keep_a_job_from_being_made(server, store):
    """What is ahead of the script in its round trip may meet a key that somebody has altered."""
    server.client().set(store.keys.jobs, "not a sorted set", ex=60)
    fields = {"priority": 0, "partitions": 1}
    deadline = store.create(
        "j9", spec=b"s", code=b"c", params=b"p", ttl_ms=60_000, submit_ms=5000, fields=fields,
        since_ms=store.now_ms,
    )  # fmt: skip
    assert deadline == store.now_ms + 60_000
    assert store.look("j9").state == "submitting"


def test_a_job_is_announced_in_the_round_trip_that_makes_it(store, monkeypatch):
    asked = []
    real = Link.safely
    monkeypatch.setattr(Link, "safely", lambda self, send: asked.append(1) or real(self, send))
    store.create(
        "j9", spec=b"s", code=b"c", params=b"p", ttl_ms=60_000, submit_ms=5000,
        fields={"priority": 3, "partitions": 1}, since_ms=store.now_ms,
    )  # fmt: skip
    assert len(asked) == 1
    assert store.runnable() == ["j9"]
