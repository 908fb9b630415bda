"""Real worker processes beside jobs of an attacker, and places where the secret must not appear."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from security.conftest import ESCAPE, SOURCE, assert_printable, mapfn, sequential
from system.processes import OTHER_SECRET, SECRET, descendants_of, redismr_cli

import redismr
from redismr.config import Connection
from redismr.core.seal import Keyring


def poison(testbed):
    """Write jobs and hints of every bad kind beside real ones."""
    redis, keys = testbed.redis, testbed.keys
    names = [ESCAPE, "wrong-1", "bad-1", "bad-2", "bad-3", "x" * 500]
    redis.zadd(keys.jobs, dict.fromkeys(names, -(10**17)))
    redis.zadd(keys.recent, dict.fromkeys(names, 9000000000000000.0))
    redis.set(keys.control("wrong-1", "meta"), testbed.bomb)
    honest = {
        "state": "mapping", "python": "3.11", "protocol": "1", "code_digest": "0" * 64,
        "key_id": testbed.worker.keyring.key_id, "lease_ms": "1000", "expire_at": "9" * 13,
        "supervisor_seen_at": "1", "n_map": "1", "partitions": "1", "maps_added": "1", "lost_leases": "0",  # noqa: E501
    }  # fmt: skip
    for name, change in (
        ("bad-1", {"lease_ms": ESCAPE, "protocol": ESCAPE, "ended_at": "x"}),
        ("bad-2", {"key_id": ESCAPE, "python": ESCAPE + "\nidle", "name": ESCAPE, "cause": ESCAPE}),
        ("bad-3", {"txn": ESCAPE, "name": ESCAPE, "priority": ESCAPE}),
    ):
        redis.hset(keys.control(name, "meta"), mapping=honest | change)
        redis.rpush(keys.control(name, "ready"), ESCAPE, "m0")
        redis.zadd(keys.control(name, "lease"), {ESCAPE: 1})
        for kind in ("spec", "code", "params", "end"):
            redis.set(keys.control(name, kind), testbed.bomb)
        redis.hset(keys.input(name, 0), "m0.0", testbed.bomb)
    row = '{"beat": 9999999999999, "host": "\\u001b]0;x\\u0007", "problem": "\\u001b[2J\\n"}'
    redis.hset(keys.workers, ESCAPE, row)
    for key in redis.scan_iter("redismr*"):
        redis.expire(key, 600)


def test_poisoned_jobs_harm_nobody_else(testbed, processes):
    poison(testbed)
    worker = processes.worker(2)
    for _ in range(3):
        testbed.submit(lease=0.5)
        assert dict(testbed.job.result(timeout=20)) == sequential()
    assert worker.popen.poll() is None
    # Each bad job may cost an executor one change of code, and no more after that.
    left = set(worker.executors(2))
    testbed.submit(lease=0.5)
    assert dict(testbed.job.result(timeout=20)) == sequential()
    assert left == set(worker.executors(2))
    assert not testbed.marker.exists()
    assert_printable(worker.log)
    for words in (
        ["jobs"], ["workers"], ["jobs", "--json"], ["workers", "--json"],
        ["errors", testbed.job.id], ["result", "bad-3"], ["result", "bad-3", "--wait"],
        ["result", testbed.job.id], ["cancel", "bad-2"],
    ):  # fmt: skip
        said = redismr_cli(*words, url=processes.url, timeout=20)
        assert_printable(said.stdout + said.stderr)
        assert "Traceback" not in said.stderr, (words, said.stderr)
        assert SECRET not in said.stdout + said.stderr
    assert not testbed.marker.exists()


def test_where_the_secret_shows(testbed, processes, tmp_path):
    worker = processes.worker(1)

    def spy(key, value):
        import os
        from pathlib import Path

        mine = Path("/proc/self/environ")
        shown = mine.read_bytes().decode() if mine.exists() else ""
        yield "environ", [n for n in os.environ if "SECRET" in n]
        yield "shown", shown

    scope = {"__name__": "__main__"}
    spy = type(spy)(spy.__code__, scope, "spy")
    result = dict(testbed.client.run({"a": 1}, spy, lease=0.5))
    assert result["environ"] == [[]]
    assert SECRET not in result["shown"][0]
    said = subprocess.run(["ps", "-ef"], capture_output=True, text=True, check=True).stdout
    assert SECRET not in said
    for pid in descendants_of(worker.pid):
        assert SECRET not in Path(f"/proc/{pid}/cmdline").read_text()
    assert SECRET not in worker.log
    connection = Connection(url="redis://u:pw12345@h/0", secret=SECRET)
    things = (connection, Keyring(SECRET, "redismr"), testbed.client, testbed.client.jobs())
    for thing in things:
        assert SECRET not in repr(thing)
        assert "pw12345" not in repr(thing)
    assert os.environ.get("REDISMR_SECRET") is None


def test_a_worker_with_another_secret_takes_nothing_and_both_sides_say_so(testbed, processes):
    worker = processes.worker(1, secret=OTHER_SECRET)
    testbed.submit(lease=0.5)
    mine, theirs = (Keyring(secret, "redismr").key_id for secret in (SECRET, OTHER_SECRET))
    log = worker.wait_for_output(f"is signed with secret {mine}")
    assert theirs in log
    assert OTHER_SECRET not in log
    with pytest.raises(redismr.JobTimeout):
        testbed.job.result(timeout=0.1)
    assert testbed.store.status(testbed.job.id).maps_done == 0
    assert theirs in testbed.job._observer.reason()
    assert testbed.outcome() == sequential(SOURCE)
    assert mapfn.__module__ == "__main__"
