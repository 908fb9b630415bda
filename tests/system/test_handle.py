"""Handles of jobs that no worker runs."""

from __future__ import annotations

import math
import time

import pytest
from system.processes import redismr_cli, write_script

import redismr
from redismr.client import submitter


def keys_of(server, job_id):
    return [key for key in server.client().scan_iter(count=1000) if job_id.encode() in key]


@pytest.fixture
def job(client):
    job = client.submit({"a": "x"}, lambda _key, text: [(text, 1)], "sum", txn="t")
    yield job
    job.delete()


def test_wait_and_result_raise_at_the_timeout(job):
    assert not job.wait(0.05)
    with pytest.raises(redismr.JobTimeout, match="and goes on") as caught:
        job.result(0.05)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.job_id == job.id
    assert job.state == "mapping"


def test_wait_zero_looks_once(job):
    assert not job.wait(0)


@pytest.mark.parametrize("timeout", [math.nan, math.inf, "2", True])
def test_a_timeout_is_a_number_of_seconds(job, timeout):
    for call in (job.wait, job.result):
        with pytest.raises(redismr.ConfigError, match=r"timeout=.* must be a number of seconds"):
            call(timeout)


def test_labels_and_functions_are_checked_before_any_command(client):
    for name, call in {
        "job_id": lambda: client.attach("\ud800"),
        "txn": lambda: client.listen(txn=5),
        "fn": lambda: client.each("print"),
        "errorfn": lambda: client.each(print, errorfn=1),
        "progress": lambda: client.run([1], print, progress=True),
    }.items():
        with pytest.raises(redismr.ConfigError, match=f"^{name}="):
            call()


def test_cancel_ends_a_job_and_frees_its_input(job, server):
    assert job.cancel()
    assert not job.cancel()
    assert job.state == "cancelled"
    with pytest.raises(redismr.JobCancelled):
        job.result()
    assert not [key for key in keys_of(server, job.id) if b"input" in key or b"ready" in key]


def test_delete_leaves_no_keys(job, server):
    job.delete()
    assert keys_of(server, job.id) == []
    with pytest.raises(redismr.JobLost, match="deleted"):
        job.result()


def test_a_job_that_no_worker_takes_in_time(client):
    with pytest.raises(redismr.NoWorkers, match="no workers are connected") as caught:
        client.run([1], lambda x: [(x, x)], "sum", wait_for_workers=0.2)
    assert isinstance(caught.value, TimeoutError)
    assert "redismr worker" in str(caught.value)


def test_a_job_that_no_worker_took_is_cancelled(client):
    with pytest.raises(redismr.NoWorkers):
        client.run([1], lambda x: [(x, x)], "sum", wait_for_workers=0.1)
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_an_empty_source_needs_no_worker(client):
    for source in ([], {}, iter(()), redismr.pairs([])):
        results = client.run(source, lambda x: [(x, x)], "sum")
        assert dict(results) == {}
        assert len(results) == 0
        assert results.counters == {}
        assert "x" not in results
        assert results.top(3) == results.sorted() == []


def test_an_unknown_job_is_not_found(client):
    with pytest.raises(redismr.JobNotFound, match="nonsense"):
        client.attach("nonsense")


def test_a_job_past_its_ttl_is_not_found(client, eventually):
    job = client.submit([1], lambda x: [(x, x)], "sum", ttl=1)
    eventually(lambda: client.jobs() == [])
    with pytest.raises(redismr.JobNotFound, match="ttl"):
        client.attach(job.id)
    with pytest.raises(redismr.JobLost, match="ttl"):
        job.result()


def test_a_job_that_runs_outlives_its_ttl(client, processes, tmp_path, eventually):
    gate = tmp_path / "gate"

    def mapfn(x):
        while not gate.exists():
            time.sleep(0.01)
        return [(x, x)]

    processes.worker(1)
    job = client.submit([1], mapfn, "sum", ttl=1)

    def deadline():
        return int(job._store.status(job.id).meta["expire_at"])

    first_deadline = deadline()
    eventually(lambda: deadline() > first_deadline + 2000)
    gate.touch()


def test_an_iterating_reader_learns_of_the_end(job):
    job.cancel()
    with pytest.raises(redismr.JobCancelled):
        list(job)


def test_a_dead_submitter_fails_its_job(client, processes):
    # Only a worker notices a dead submitter.
    def endless():
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.submit(endless(), lambda x: [(x, x)], "sum", chunk=1)
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_a_source_that_raises_ends_its_job(client):
    def broken():
        yield 1
        raise ValueError("no more")

    with pytest.raises(redismr.SourceError, match=r"ValueError.*no more"):
        client.submit(broken(), lambda x: [(x, x)], "sum")
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_no_workers_in_time_exits_with_3(server, client, tmp_path):
    job_file = write_script(tmp_path, "source = [1]\ndef mapfn(x):\n    return [(x, 1)]\n")
    done = redismr_cli("run", job_file, "--wait", "0.2", url=server.url)
    assert done.returncode == 3
    assert done.stdout == ""
    assert "no workers are connected" in done.stderr
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_cancel_by_cli(server, client, tmp_path):
    job = client.submit([1], lambda x: [(x, x)])
    done = redismr_cli("cancel", job.id, url=server.url)
    assert (done.returncode, done.stdout) == (0, f"{job.id}\tcancelled\n")
    done = redismr_cli("result", job.id, url=server.url)
    assert done.returncode == 130


def test_a_job_that_ends_before_its_input_is_closed_has_a_handle(client, monkeypatch):
    """A quick worker may fail the job so early; the caller needs the id all the same."""
    real = submitter.close_input

    def late(store, sealer, python, n):
        store.cancel(sealer.job)
        real(store, sealer, python, n)

    monkeypatch.setattr(submitter, "close_input", late)
    job = client.submit([1], lambda x: [(x, x)], "sum")
    with pytest.raises(redismr.JobCancelled):
        job.result(10)
