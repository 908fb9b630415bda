"""Listeners get each result once, even if messages are lost or repeated."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections import Counter
from itertools import count, pairwise

import pytest
from support import REPOSITORY, eventually
from system.processes import SECRET

import redismr
from redismr.client import listener as listener_module
from redismr.core.events import Event, encode_event
from redismr.core.seal import Keyring
from redismr.store import Store
from redismr.store.channel import Subscription


class Listener(threading.Thread):
    """A thread in ``Client.each``; stops at the label "stop", or after ``enough`` results."""

    def __init__(self, server, txn=None, errors=None, enough=0, **options):
        super().__init__(daemon=True)
        self.enough = enough
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
            self.client.listen = lambda *args: self._mark_listening(follow(*args))
            try:
                self.client.each(self.on_result, self.txn, **self.options)
            except Exception as error:
                self.error = error

    def _mark_listening(self, events):
        self.listening.set()  # from here on no event is missed
        return events

    def on_result(self, txn, results):
        self.heard.append((txn, dict(results)))
        return txn != "stop" and len(self.heard) != self.enough

    def stop_and_get_results(self):
        self.join(30)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.heard


def double(number, item):
    yield item, 2 * item


def submit(client, n, txn):
    return client.submit([n], double, "sum", txn=txn)


def test_results_of_all_transactions_come_once(shared_worker, server, client):
    listener = Listener(server)
    for n in range(8):
        submit(client, n, f"t{n}")
    eventually(lambda: len(listener.heard) == 8)
    submit(client, 9, "stop")
    assert Counter(txn for txn, _ in listener.stop_and_get_results()) == Counter(
        [f"t{n}" for n in range(8)] + ["stop"]
    )
    assert dict(listener.heard)["t3"] == {3: 6}


def test_results_of_one_transaction_only(shared_worker, server, client):
    listener = Listener(server, "mine", enough=3)
    for n in range(3):
        submit(client, n, "theirs").result(20)
        submit(client, n, "mine").result(20)
    assert [txn for txn, _ in listener.stop_and_get_results()] == ["mine"] * 3


def test_results_come_once_when_every_message_is_lost(shared_worker, server, client, monkeypatch):
    monkeypatch.setattr(
        Subscription, "get", lambda self, seconds: threading.Event().wait(0.02) or None
    )
    listener = Listener(server)
    for n in range(4):
        submit(client, n, f"t{n}").result(20)
    submit(client, 9, "stop")
    assert sorted(txn for txn, _ in listener.stop_and_get_results()) == [
        "stop",
        "t0",
        "t1",
        "t2",
        "t3",
    ]


def test_results_come_once_while_connections_are_cut(shared_worker, server, client):
    listener, admin = Listener(server), server.client()
    for n in range(12):
        submit(client, n, f"t{n}")
        admin.client_kill_filter(_type="pubsub")
    submit(client, 9, "stop").result(20)
    eventually(lambda: len(listener.heard) >= 13 or not listener.is_alive())
    assert max(Counter(txn for txn, _ in listener.heard).values()) == 1
    assert "stop" in dict(listener.stop_and_get_results())


def test_a_result_that_ends_while_the_server_restarts_comes_once(shared_worker, server, client):
    listener = Listener(server)
    submit(client, 1, "before").result(20)
    server.restart()
    submit(client, 2, "after").result(20)
    eventually(lambda: len(listener.heard) == 2, 30)
    submit(client, 9, "stop")
    assert [txn for txn, _ in listener.stop_and_get_results()] == ["before", "after", "stop"]


def test_a_message_that_comes_again_changes_nothing(shared_worker, server, client):
    listener, admin = Listener(server), server.client()
    job = submit(client, 1, "one")
    job.result(20)
    eventually(lambda: listener.heard)
    message = encode_event(Event(job.id, "one", 0, "succeeded"), Keyring(SECRET, "redismr"))
    for _ in range(3):
        assert admin.publish("redismr:events:0", message)
    submit(client, 9, "stop")
    assert [txn for txn, _ in listener.stop_and_get_results()] == ["one", "stop"]


def test_a_listener_gets_events_from_before_its_first_read(shared_worker, server, client):
    """A ``run`` leaves only messages: its job is deleted when its results are closed."""
    events, ends = client.listen(), []
    client.run([1], double, "sum", txn="one").close()
    first = lambda: ends.append(next(event for event in events if event.kind == "succeeded"))
    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    thread.join(10)
    assert [event.txn for event in ends] == ["one"]


class ReadsWhenClosed(Listener):
    """Reads the results of "run" only after they were closed."""

    def __init__(self, server):
        self.reading, self.closed = threading.Event(), threading.Event()
        super().__init__(server)

    def on_result(self, txn, results):
        if txn == "run":
            self.reading.set()
            assert self.closed.wait(10)
        return super().on_result(txn, results)


def test_results_that_are_closed_while_they_are_read_are_left_out(shared_worker, server, client):
    listener = ReadsWhenClosed(server)
    large = lambda number, item: [(item, os.urandom(100_000))]
    results = client.run(range(20), large, "first", txn="run")
    assert listener.reading.wait(10)
    results.close()
    listener.closed.set()
    submit(client, 9, "stop")
    assert [txn for txn, _ in listener.stop_and_get_results()] == ["stop"]


def test_a_job_lost_error_of_another_job_passes_through_the_callback(shared_worker, server, client):
    class RaisesJobLost(Listener):
        def on_result(self, txn, results):
            raise redismr.JobLost("of another", job_id="another")

    listener = RaisesJobLost(server)
    submit(client, 1, "one")
    with pytest.raises(redismr.JobLost, match="of another"):
        listener.stop_and_get_results()


def test_a_listener_waits_for_redis_however_long_it_is_away(shared_worker, server, client):
    listener, wait_reports = Listener(server), []
    listener.client._store.redis_client.patience = 0
    listener.client._listener_store.redis_client._on_wait = lambda *report: wait_reports.append(
        report
    )
    server.kill()
    eventually(lambda: wait_reports)
    server.restart()
    submit(client, 9, "stop")
    assert [txn for txn, _ in listener.stop_and_get_results()] == ["stop"]


def test_altered_jobs_do_not_hide_others(shared_worker, server, client):
    jobs, admin = [submit(client, n, f"t{n}") for n in range(3)], server.client()
    for job in jobs:
        job.result(20)
    for job, name in zip(jobs, ("meta", "spec"), strict=False):
        admin.delete(f"redismr:{{{job.id}}}:{name}")
        admin.lpush(f"redismr:{{{job.id}}}:{name}", "altered")
        admin.expire(f"redismr:{{{job.id}}}:{name}", 60)
    store = client._listener_store
    assert list(store.states([job.id for job in jobs])) == [jobs[1].id, jobs[2].id]
    ends = listener_module.JobEndTracker(store, client._keyring, None, None)
    ends._ended_jobs.clear()
    assert [end.txn for end in ends.find_missed_ends()] == ["t2"]


class Clock:
    """Replaces the module ``time``; the test sets it."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


def test_the_callback_does_not_count_as_reading_time(shared_worker, server, client, monkeypatch):
    monkeypatch.setattr(listener_module, "time", clock := Clock())
    ends = listener_module.JobEndTracker(client._listener_store, client._keyring, None, None)
    for n in range(3):
        submit(client, n, f"t{n}").result(20)
    heard = []
    for end in ends.find_missed_ends():
        heard.append(end.txn)
        clock.now += 100
    assert len(heard) == 3
    assert ends.next_poll_at == listener_module.END_POLL_SECONDS


class StopTest(Exception):
    """Ends a test."""


def test_costly_looks_are_rare_on_a_quiet_channel_too(server, client, monkeypatch):
    monkeypatch.setattr(listener_module, "time", clock := Clock())
    looks, calls, states = [], count(), Store.states

    def costly(self, jobs):
        looks.append(clock.now)
        clock.now += 1
        return states(self, jobs)

    def quiet(self, seconds):
        if next(calls) > 1000:
            raise StopTest
        clock.now += seconds

    monkeypatch.setattr(Store, "states", costly)
    monkeypatch.setattr(Subscription, "get", quiet)
    with pytest.raises(StopTest):
        next(client.listen())
    _, *looks = looks  # the first look finds the jobs that had ended before
    assert {after - before for before, after in pairwise(looks)} == {21}


def test_the_keys_are_read_when_the_channel_was_cut(shared_worker, server, client, monkeypatch):
    looks, states, get = [], Store.states, Subscription.get
    monkeypatch.setattr(listener_module, "END_POLL_SECONDS", 3600)
    monkeypatch.setattr(Store, "states", lambda *args: looks.append(0) or states(*args))
    monkeypatch.setattr(Subscription, "get", lambda self, _: get(self, 0.1) and None)
    listener = Listener(server)
    eventually(lambda: len(looks) == 2)
    submit(client, 9, "stop").result(20)
    assert len(looks) == 2
    server.client().client_kill_filter(_type="pubsub")
    assert [txn for txn, _ in listener.stop_and_get_results()] == ["stop"]


def test_an_end_that_is_published_too_early_is_checked(shared_worker, server, client, tmp_path):
    """A message that is replayed while its job runs changes nothing."""
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
        message = encode_event(Event(job.id, "one", 0, kind), ring)
        eventually(lambda m=message: admin.publish("redismr:events:0:one", m))
    thread.join(10)
    (tmp_path / "gate").touch()
    assert kinds == ["partition"]


def test_an_event_of_another_transaction_is_ignored(server, client):
    events, heard = client.listen(txn="one"), []
    ring, admin = Keyring(SECRET, "redismr"), server.client()
    thread = threading.Thread(target=lambda: heard.append(next(events).txn), daemon=True)
    thread.start()
    for txn in ("two", "one"):
        message = encode_event(Event("job", txn, 0, "submitted"), ring)
        eventually(lambda m=message: admin.publish("redismr:events:0:one", m))
    thread.join(10)
    assert heard == ["one"]


def fails(number, item):
    raise ZeroDivisionError("on purpose")


def test_an_error_is_raised_or_handed_over(shared_worker, server, client):
    errors = []
    tolerant, strict = Listener(server, errors=errors), Listener(server)
    client.submit([1], fails, "sum", txn="bad", retries=0)
    with pytest.raises(redismr.MapError, match="on purpose"):
        strict.stop_and_get_results()
    submit(client, 9, "stop")
    assert [txn for txn, _ in tolerant.stop_and_get_results()] == ["stop"]
    assert [txn for txn, _ in errors] == ["bad"]
    assert isinstance(errors[0][1], ZeroDivisionError)


def test_only_jobs_asked_for_are_reported_if_they_ended_before(shared_worker, server, client):
    job = submit(client, 1, "old")
    job.result(20)
    assert next(iter(client.listen(job=job.id))).kind == "succeeded"
    listener = Listener(server)
    submit(client, 9, "stop")
    assert [txn for txn, _ in listener.stop_and_get_results()] == ["stop"]


def test_resultfn_is_called_once_when_every_message_is_lost(
    shared_worker, server, client, monkeypatch
):
    monkeypatch.setattr(
        Subscription, "get", lambda self, seconds: threading.Event().wait(0.02) or None
    )
    calls = []
    client.submit([3], double, "sum", resultfn=lambda txn, results: calls.append(dict(results)))
    eventually(lambda: calls)
    assert calls == [{3: 6}]


def test_redismr_listen_prints_each_end_once(shared_worker, server, client):
    listening = shared_worker.start(sys.executable, "-m", "redismr", "listen", "nightly")
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


def test_the_example_in_the_documents_gets_signed_events(shared_worker, server, client, tmp_path):
    text = (REPOSITORY / "docs" / "events.md").read_text()
    program = tmp_path / "listen.py"
    program.write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0])
    listening = shared_worker.start(sys.executable, str(program))
    ours, admin = Keyring(SECRET, "redismr"), server.client()
    hello = encode_event(Event("job", "hello", 0, "submitted"), ours)
    eventually(lambda: admin.publish("redismr:events:0", hello) and "hello" in listening.log)
    forged = encode_event(Event("job", "forged", 0, "failed"), Keyring("another secret", "redismr"))
    assert admin.publish("redismr:events:0", forged)
    submit(client, 1, "genuine")
    assert "forged" not in listening.wait_for_output("succeeded genuine")
