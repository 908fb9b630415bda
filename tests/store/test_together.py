"""What goes along in another round trip."""

from __future__ import annotations

from redismr.core.model import PROTOCOL
from redismr.store.link import Link


def test_news_are_not_told_twice_where_wake_ups_were_altered(server, store):
    key = store.keys.wake(PROTOCOL, "3.11", "key")
    server.client().set(key, "no list", ex=60)
    with store.subscribed("t") as channel:
        channel.get(1)
        store.tell("t", [b"once"], 1, "3.11", "key")
        assert channel.get(10) == b"once"
        assert channel.get(0.1) is None
    assert store.wait_wake("3.11", "key", 1)


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
