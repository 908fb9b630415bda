"""A server at its memory limit: commands that need memory wait, others go on, nothing spins."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from support import eventually

import redismr
import redismr.store.retrying_client

HURRIED = (
    "import redismr.store.retrying_client as link; link.FULL_PATIENCE_SECONDS = 0.5; "
    "from redismr.cli import cli; cli(['worker', '-n', '2'])"
)


def large(x):
    return [(x, os.urandom(1 << 20))]


def one(x):
    return [(x, 1)]


def counted(key, values):
    return len(values)


@pytest.fixture
def free_memory(server):
    """Fill the server but for some MB; return a function that makes room again."""
    admin = server.client()
    eventually(lambda: admin.info("memory")["lazyfree_pending_objects"] == 0)
    admin.setrange("ballast", 32 << 20, b"x")  # a short command needs no large buffers
    server.config(maxmemory=admin.info("memory")["used_memory"] + (3 << 20))
    return lambda: admin.delete("ballast")


def refused_commands(server):
    """Return how often the server refused a command because it was full."""
    stats = server.client().info("errorstats")
    return int(stats.get("errorstat_OOM", {}).get("count", 0))


def test_a_job_goes_on_when_there_is_room_again(server, client, processes, free_memory):
    worker = processes.worker(2)
    before = refused_commands(server)
    job = client.submit(range(8), large, counted, chunk=1, lease=0.5)
    eventually(lambda: refused_commands(server) > before + 20, 20)
    assert job.state == "mapping"
    free_memory()
    assert dict(job.result(30)) == dict.fromkeys(range(8), 1)
    assert job.progress().retries == 0
    assert worker.popen.poll() is None


def test_the_reason_for_waiting_is_reported(
    server, client, processes, free_memory, monkeypatch, capsys
):
    monkeypatch.setattr(redismr.client.job_progress, "EXPLAIN_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(redismr.client.job_progress, "_REFRESH_SECONDS", 0.1)
    processes.worker(2)
    before = refused_commands(server)
    job = client.submit(range(8), large, counted, chunk=1)
    eventually(lambda: refused_commands(server) > before + 5, 20)
    server.config(maxmemory=1)
    eventually(lambda: not job.wait(0.3) and "is full (maxmemory)" in capsys.readouterr().err, 20)
    assert "is full" in job.progress().waiting
    free_memory()


def test_a_job_ends_when_there_is_no_room_for_long(server, client, processes, free_memory):
    worker = processes.start(sys.executable, "-c", HURRIED)
    worker.wait_for_output("waiting for jobs")
    job = client.submit(range(8), large, counted, chunk=1, lease=0.5)
    with pytest.raises(redismr.StoreFull, match="at its memory limit") as caught:
        job.result(30)
    assert isinstance(caught.value, redismr.JobFailed)
    job.delete()
    free_memory()
    assert dict(client.run([1], one, "sum")) == {1: 1}
    assert worker.popen.poll() is None


def test_jobs_can_be_cancelled_and_deleted(server, client, processes, free_memory):
    processes.worker(2)
    before = refused_commands(server)
    job = client.submit(range(8), large, counted, chunk=1, lease=0.5)
    eventually(lambda: refused_commands(server) > before + 5, 20)
    server.config(maxmemory=1)
    assert job.cancel()
    job.delete()
    assert client.jobs() == []
    free_memory()
    server.config(maxmemory=0)
    assert dict(client.run([1], one, "sum")) == {1: 1}


def test_a_submitter_gives_up_with_a_clear_error(server, client, free_memory, monkeypatch):
    monkeypatch.setattr(redismr.store.retrying_client, "FULL_PATIENCE_SECONDS", 0.5)
    source = (os.urandom(1 << 20) for _ in range(20))
    with pytest.raises(redismr.StoreFull, match="give it more memory"):
        client.submit(source, one, chunk=1)
    assert [row.state for row in client.jobs()] == ["cancelled"]


def test_a_job_that_a_full_server_did_not_list_is_listed_later(server, client):
    admin, before = server.client(), refused_commands(server)

    def make_room():
        eventually(lambda: refused_commands(server) > before)
        admin.config_set("maxmemory", 0)

    helper = threading.Thread(target=make_room)

    def source():
        yield 1
        admin.delete("redismr:jobs")  # as if it had been full when the job was announced
        server.config(maxmemory=1)
        helper.start()

    job = client.submit(source(), one, "sum", chunk=1)
    helper.join()
    assert client._store.runnable() == [job.id]
