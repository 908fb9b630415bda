"""Listeners: each result comes once, whatever becomes of the messages that tell of it."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections import Counter

import pytest
from support import REPOSITORY, eventually
from system.crew import SECRET

import redismr
from redismr.core.events import Event, encode
from redismr.core.seal import Keyring
from redismr.store.hints import Subscription


class Listener(threading.Thread):
    """Somebody in ``Client.each``; stops at the label "stop"."""

    def __init__(self, server, txn=None, errors=None, **options):
        super().__init__(daemon=True)
        self.client = redismr.Client(server.url, secret=SECRET)
        self.heard, self.error = [], None
        self.txn, self.options = txn, options
        if errors is not None:
            self.options["errorfn"] = lambda txn, error: errors.append((txn, error))
        self.listening = threading.Event()
        self.start()
        assert self.listening.wait(10)

    def run(self):
        with self.client:
            follow = self.client.listen
            self.client.listen = lambda *args: self._noted(follow(*args))
            try:
                self.client.each(self.hear, self.txn, **self.options)
            except Exception as error:
                self.error = error

    def _noted(self, events):
        self.listening.set()  # from here on it misses nothing
        return events

    def hear(self, txn, results):
        self.heard.append((txn, dict(results)))
        return txn != "stop"

    def end(self):
        self.join(30)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.heard


def double(number, item):
    yield item, 2 * item


def submit(client, n, txn):
    return client.submit([n], double, "sum", txn=txn)


def test_results_of_all_transactions_come_once(farm, server, client):
    listener = Listener(server)
    for n in range(8):
        submit(client, n, f"t{n}")
    eventually(lambda: len(listener.heard) == 8)
    submit(client, 9, "stop")
    assert Counter(txn for txn, _ in listener.end()) == Counter(
        [f"t{n}" for n in range(8)] + ["stop"]
    )
    assert dict(listener.heard)["t3"] == {3: 6}


def test_results_of_one_transaction_only(farm, server, client):
    listener = Listener(server, "mine")
    for n in range(3):
        submit(client, n, "theirs").result(20)
        submit(client, n, "mine").result(20)
    eventually(lambda: len(listener.heard) == 3)
    assert [txn for txn, _ in listener.heard] == ["mine"] * 3


def test_results_come_once_when_every_message_is_lost(farm, server, client, monkeypatch):
    monkeypatch.setattr(
        Subscription, "get", lambda self, seconds: threading.Event().wait(0.02) or None
    )
    listener = Listener(server)
    for n in range(4):
        submit(client, n, f"t{n}").result(20)
    submit(client, 9, "stop")
    assert sorted(txn for txn, _ in listener.end()) == ["stop", "t0", "t1", "t2", "t3"]


def test_results_come_once_while_the_line_is_cut_again_and_again(farm, server, client):
    listener, admin = Listener(server), server.client()
    for n in range(12):
        submit(client, n, f"t{n}")
        admin.client_kill_filter(_type="pubsub")
    submit(client, 9, "stop").result(20)
    eventually(lambda: len(listener.heard) >= 13 or not listener.is_alive())
    assert max(Counter(txn for txn, _ in listener.heard).values()) == 1
    assert "stop" in dict(listener.end())


def test_a_result_that_ends_while_the_server_restarts_comes_once(farm, server, client):
    listener = Listener(server)
    submit(client, 1, "before").result(20)
    server.restart()
    submit(client, 2, "after").result(20)
    eventually(lambda: len(listener.heard) == 2, 30)
    submit(client, 9, "stop")
    assert [txn for txn, _ in listener.end()] == ["before", "after", "stop"]


def test_a_message_that_comes_again_changes_nothing(farm, server, client):
    listener, admin = Listener(server), server.client()
    job = submit(client, 1, "one")
    job.result(20)
    eventually(lambda: listener.heard)
    message = encode(Event(job.id, "one", 0, "succeeded"), Keyring(SECRET, "redismr"))
    for _ in range(3):
        assert admin.publish("redismr:events:0", message)
    submit(client, 9, "stop")
    assert [txn for txn, _ in listener.end()] == ["one", "stop"]


def test_an_end_that_is_told_too_early_waits_for_the_truth(farm, server, client, tmp_path):
    """A message that is replayed while its job runs tells nothing."""
    gate = str(tmp_path / "gate")

    def mapfn(number, item):
        import os
        import time

        while not os.path.exists(gate):
            time.sleep(0.01)
        yield item, item

    job = client.submit([1], mapfn, "sum", txn="one")
    events, kinds = client.listen(txn="one"), []
    ring, admin = Keyring(SECRET, "redismr"), server.client()
    thread = threading.Thread(target=lambda: kinds.append(next(events).kind), daemon=True)
    thread.start()
    for kind in ("succeeded", "failed", "partition"):
        message = encode(Event(job.id, "one", 0, kind), ring)
        eventually(lambda m=message: admin.publish("redismr:events:0:one", m))
    thread.join(10)
    (tmp_path / "gate").touch()
    assert kinds == ["partition"]


def test_an_event_of_another_transaction_is_not_this_ones(server, client):
    events, heard = client.listen(txn="one"), []
    ring, admin = Keyring(SECRET, "redismr"), server.client()
    thread = threading.Thread(target=lambda: heard.append(next(events).txn), daemon=True)
    thread.start()
    for txn in ("two", "one"):
        message = encode(Event("job", txn, 0, "submitted"), ring)
        eventually(lambda m=message: admin.publish("redismr:events:0:one", m))
    thread.join(10)
    assert heard == ["one"]


def fails(number, item):
    raise ZeroDivisionError("on purpose")


def test_an_error_is_raised_or_handed_over(farm, server, client):
    errors = []
    tolerant, strict = Listener(server, errors=errors), Listener(server)
    client.submit([1], fails, "sum", txn="bad", retries=0)
    with pytest.raises(redismr.MapError, match="on purpose"):
        strict.end()
    submit(client, 9, "stop")
    assert [txn for txn, _ in tolerant.end()] == ["stop"]
    assert [txn for txn, _ in errors] == ["bad"]
    assert isinstance(errors[0][1], ZeroDivisionError)


def test_what_has_ended_before_is_no_news_but_a_job_asked_for_is(farm, server, client):
    job = submit(client, 1, "old")
    job.result(20)
    assert next(iter(client.listen(job=job.id))).kind == "succeeded"
    listener = Listener(server)
    submit(client, 9, "stop")
    assert [txn for txn, _ in listener.end()] == ["stop"]


def test_resultfn_is_called_once_when_every_message_is_lost(farm, server, client, monkeypatch):
    monkeypatch.setattr(
        Subscription, "get", lambda self, seconds: threading.Event().wait(0.02) or None
    )
    calls = []
    client.submit([3], double, "sum", resultfn=lambda txn, results: calls.append(dict(results)))
    eventually(lambda: calls)
    assert calls == [{3: 6}]


def test_redismr_listen_prints_each_end_once(farm, server, client):
    listening = farm.start(sys.executable, "-m", "redismr", "listen", "nightly")
    eventually(lambda: b"redismr:events:0:nightly" in server.client().pubsub_channels())
    for n in range(5):
        server.client().client_kill_filter(_type="pubsub")
        submit(client, n, "nightly").result(20)
    ends = lambda: [
        event for line in listening.log.splitlines()
        if (event := json.loads(line))["kind"] == "succeeded"
    ]  # fmt: skip
    eventually(lambda: len(ends()) >= 5, 20, listening.log)
    assert len({event["job"] for event in ends()}) == len(ends()) == 5
    assert {event["txn"] for event in ends()} == {"nightly"}


def test_the_example_in_the_documents_hears_what_is_signed(farm, server, client, tmp_path):
    text = (REPOSITORY / "docs" / "events.md").read_text()
    program = tmp_path / "listen.py"
    program.write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    listening = farm.start(sys.executable, str(program))
    ours, admin = Keyring(SECRET, "redismr"), server.client()
    hello = encode(Event("job", "hello", 0, "submitted"), ours)
    eventually(lambda: admin.publish("redismr:events:0", hello) and "hello" in listening.log)
    forged = encode(Event("job", "forged", 0, "failed"), Keyring("another secret", "redismr"))
    assert admin.publish("redismr:events:0", forged)
    submit(client, 1, "genuine")
    assert "forged" not in listening.says("succeeded genuine")
