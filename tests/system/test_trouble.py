"""Failures at a bad moment: lost servers, lost data, rewinds, ends of processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest
from sentinel_group import SentinelGroup
from support import eventually
from system.processes import SECRET, Processes, file_lines, redismr_cli, run_command, write_script

import redismr
from redismr.core.model import AttemptRef

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def one(x):
    return [(x, 1)]


def test_a_worker_that_never_had_a_server_can_be_stopped(server, processes):
    server.kill()
    worker = processes.worker(2, ready=False)
    worker.wait_for_output("waiting for it")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    assert "finishing" not in worker.log


def test_a_worker_whose_server_is_away_can_be_stopped(server, processes, client):
    worker = processes.worker(1)
    assert dict(client.run([1], one, "sum")) == {1: 1}
    server.kill()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


@LINUX
def test_a_stopped_executor_loses_its_lease(client, processes, tmp_path):
    begun = tmp_path / "begun"

    def mapfn(x):
        with open(begun, "a") as file:
            file.write(f"{os.getpid()}\n")
        while begun.read_text().count("\n") < 2:
            time.sleep(0.01)
        return one(x)

    processes.worker(1)
    job = client.submit([1], mapfn, "sum", lease=0.5)
    pid = int(eventually(file_lines(begun))[0])
    os.kill(pid, signal.SIGSTOP)
    processes.worker(1)
    assert dict(job.result(20)) == {1: 1}


WITHIN = 5.0
"""Seconds in which all programs must report that the job is gone."""


@pytest.fixture
def running_job(processes, client, tmp_path):
    """A job with a running task, until ``flush`` deletes the job; the worker lives on."""
    mark, gate = tmp_path / "begun", tmp_path / "gate"

    def mapfn(x):
        mark.write_text("")
        while not gate.exists():
            time.sleep(0.01)
        return one(x)

    worker = processes.worker(1)
    job = client.submit(range(9), mapfn, "sum", lease=0.5, chunk=1)
    eventually(mark.exists)
    yield job
    gate.write_text("")
    assert dict(client.run([2], one, "sum")) == {2: 1}
    assert worker.popen.poll() is None


def test_flushall_is_a_lost_job(server, running_job):
    server.client().flushall()
    with pytest.raises(redismr.JobLost, match="vanished"):
        running_job.result(WITHIN)


def test_flushall_is_a_lost_job_for_attach(server, client, running_job):
    job = client.attach(running_job.id)
    server.client().flushall()
    with pytest.raises(redismr.JobLost, match="vanished"):
        job.wait(WITHIN)


def test_flushall_is_a_lost_job_for_iteration(server, running_job):
    iterating = BlockedCall(lambda: list(running_job))
    eventually(lambda: _subscribers(server))
    server.client().flushall()
    assert isinstance(iterating.end(), redismr.JobLost)


def test_flushall_is_a_lost_job_for_listeners(server, client, running_job):
    listening = BlockedCall(lambda: list(client.listen(job=running_job.id)))
    eventually(lambda: _subscribers(server))
    server.client().flushall()
    assert isinstance(listening.end(), redismr.JobLost)


def test_flushall_is_a_lost_job_for_watch(server, processes, running_job):
    watching = processes.start(sys.executable, "-m", "redismr", "watch", running_job.id)
    eventually(lambda: _subscribers(server))
    server.client().flushall()
    assert watching.wait(WITHIN) != 0
    assert "Redis" in watching.log


def test_flushall_is_a_lost_job_for_readers_of_results(server, client_with_worker):
    results = client_with_worker.submit(
        range(20), lambda x: [(x, os.urandom(100_000))], "first"
    ).result(20)
    server.client().flushall()
    with pytest.raises(redismr.JobLost, match="vanished"):
        dict(results)


class BlockedCall(threading.Thread):
    """A thread that waits in a call which only an error ends."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self.call, self.error = call, None
        self.start()

    def run(self):
        try:
            self.call()
        except redismr.RedismrError as error:
            self.error = error

    def end(self):
        self.join(WITHIN)
        return self.error


def _subscribers(server):
    return server.client().execute_command("PUBSUB", "CHANNELS", "redismr*")


PRINTING = """
    import sys
    source = [1]
    def mapfn(x):
        print("from mapfn")
        sys.stdout.flush()
        return [(x, x)]
"""


def test_output_of_functions_is_not_in_the_result(tmp_path):
    done = redismr_cli("run", write_script(tmp_path, PRINTING), secret=None)
    assert (done.returncode, done.stdout) == (0, "1\t[1]\n")
    assert "from mapfn" in done.stderr


def test_resultfn_is_called_before_a_script_ends(shared_worker, server, tmp_path):
    body = """
        import redismr
        client = redismr.Client()
        client.submit([1], lambda x: [(x, x)], resultfn=lambda txn, results: print(dict(results)))
    """
    done = run_command(sys.executable, write_script(tmp_path, body), url=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{1: [1]}\n", "")


def test_reading_results_survives_a_restart_of_the_server(server, client_with_worker):
    with client_with_worker.run(range(1000), one, "sum", partitions=4) as results:
        server.restart()
        assert len(dict(results)) == 1000


def test_a_script_that_ends_has_deleted_its_jobs(shared_worker, server, client, tmp_path):
    body = "import redismr\nresults = redismr.run([1], lambda x: [(x, x)])\nprint(len(results))\n"
    done = run_command(sys.executable, write_script(tmp_path, body), url=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert client.jobs() == []
    assert list(server.client().scan_iter("*code*")) == []


def test_a_submitter_that_is_killed_while_it_submits_fails_the_job(
    shared_worker, server, client, tmp_path, processes
):
    body = """
        import redismr, time
        import redismr.client.submitter, redismr.client.job_submission
        redismr.client.job_submission.SUBMIT_LEASE_MS = 1000
        redismr.client.submitter.SUBMIT_LEASE_MS = 1000
        def source():
            yield 1
            print("given", flush=True)
            time.sleep(60)
        redismr.Client().submit(source(), lambda x: [(x, x)], chunk=1, lease=0.5)
    """
    process = processes.start(sys.executable, str(write_script(tmp_path, body)))
    process.wait_for_output("given")
    process.kill()
    (row,) = client.jobs()
    with pytest.raises(redismr.SubmitterLost, match="fell silent"):
        client.attach(row.job_id).result(30)


@pytest.mark.parametrize("pause", [0.01, 0.5])
def test_flushall_is_a_lost_job_for_the_submitter(server, client, pause):
    taken = []

    def source():
        for x in range(1000):
            if x == 3:
                server.client().flushall()
            taken.append(x)
            yield x
            if x >= 3:
                time.sleep(pause)

    with pytest.raises(redismr.JobLost, match="vanished from Redis while it was submitted"):
        client.submit(source(), one, "sum", chunk=1)
    assert len(taken) < WITHIN / pause


def test_the_server_forgets_scripts_and_clients(server, client, processes):
    worker = processes.worker(2)
    admin = server.client()
    job = client.submit(range(60), lambda x: time.sleep(0.02) or one(x), "sum", chunk=1, lease=0.5)
    for _ in range(5):
        admin.script_flush()
        for kind in ("normal", "pubsub"):
            admin.client_kill_filter(_type=kind)
        assert not job.wait(0.05) or job.state == "succeeded"
    assert dict(job.result(30)) == dict.fromkeys(range(60), 1)
    assert job.progress().retries == 0
    assert worker.popen.poll() is None


def test_a_rewind_to_before_the_close_is_repaired(server, client, processes):
    job = client.submit(range(10), one, "sum", chunk=1)
    admin, meta = server.client(), f"redismr:{{{job.id}}}:meta"
    # The state after a failover that has lost the last script.
    admin.hset(meta, "state", "submitting")
    admin.hdel(meta, "n_map")
    admin.delete(f"redismr:{{{job.id}}}:end")
    processes.worker(2)
    assert dict(job.result(30)) == dict.fromkeys(range(10), 1)


def test_a_rewind_to_before_some_input_is_reported(server, client):
    job = client.submit(range(10), one, "sum", chunk=1)
    admin, meta = server.client(), f"redismr:{{{job.id}}}:meta"
    admin.hset(meta, mapping={"state": "submitting", "maps_added": 5})
    admin.hdel(meta, "n_map")
    admin.delete(f"redismr:{{{job.id}}}:end")
    with pytest.raises(redismr.JobFailed, match="lost a part of the input"):
        job.result(30)
    assert job.state == "cancelled"


DUMP = """
local found = {}
for _, key in ipairs(redis.call('KEYS', ARGV[1])) do
  found[#found + 1] = { key, redis.call('DUMP', key) }
end
return found
"""
"""All keys and their contents, of one moment."""


@pytest.mark.parametrize("known", [True, False])
def test_a_rewind_to_before_the_end_is_repaired(
    server, client, processes, tmp_path, monkeypatch, known
):
    """The outcome came with the look that saw the end, or is read after it."""
    begun, gate = tmp_path / "begun", tmp_path / "gate"

    def reducefn(key, values):
        begun.write_text("")
        while not gate.exists():
            time.sleep(0.01)
        return len(values)

    processes.worker(2)
    job = client.submit(range(10), one, reducefn, chunk=1, lease=0.5)
    eventually(begun.exists)
    admin = server.client()
    before = admin.eval(DUMP, 0, f"*{job.id}*")
    gate.write_text("")
    real, deadline = job._raise_unless_succeeded, int(time.time() * 1000) + 3_600_000
    if not known:
        watch_status = job._watch_status
        monkeypatch.setattr(job, "_watch_status", lambda **_: watch_status())

    def seen(look):
        # As a failover that loses the end right after the client has seen it.
        if before:
            pipe = admin.pipeline().unlink(*admin.keys(f"*{job.id}*"))
            for key, dump in before:
                pipe.restore(key, deadline, dump, absttl=True)
            pipe.execute()
            before.clear()
        real(look)

    monkeypatch.setattr(job, "_raise_unless_succeeded", seen)
    assert dict(job.result(30)) == dict.fromkeys(range(10), 1)


@pytest.fixture
def halfway(client, processes, tmp_path):
    """A job with a large result of partition 0, which reduces 1 until the gate is opened."""
    gate = tmp_path / "gate"

    def mapfn(x):
        time.sleep(0.1)  # so long that no executor takes both partitions at once
        yield from ((n, os.urandom(500)) for n in range(12_000))
        yield -1, b""

    def reducefn(key, values):
        while key == -1 and not gate.exists():
            time.sleep(0.01)
        return values[0]

    processes.worker(2)
    job = client.submit(
        [1], mapfn, reducefn, partitions=2, backup=False, partitionfn=lambda key, _n: int(key < 0)
    )
    eventually(lambda: job._store.status(job.id).reduces_done == 1, 20)
    yield job
    gate.write_text("")


def test_a_reader_learns_that_a_result_was_withdrawn(server, halfway, tmp_path):
    pairs = iter(halfway)
    next(pairs)
    store = halfway._store
    reply = store.map_outputs(halfway.id)
    held = eventually(
        lambda: server.client().hget(f"redismr:{{{halfway.id}}}:attempts", "r1"),
        message="not begun",
    )
    gone = {0: reply.outputs.records[0].partition(b" ")[0].decode()}
    attempt = AttemptRef(halfway.id, "r1", held.split()[0].decode())
    assert store.invalidate(attempt, reply.basis, gone).rerun == 1
    with pytest.raises(redismr.JobFailed, match="read the result once more"):
        list(pairs)
    (tmp_path / "gate").write_text("")
    assert len(dict(halfway)) == 12_001


def test_a_reader_learns_that_the_job_was_cancelled(halfway):
    pairs = iter(halfway)
    next(pairs)
    halfway.cancel()
    with pytest.raises(redismr.JobCancelled):
        list(pairs)


def test_a_failover_is_followed(server_kind, tmp_path):
    servers = SentinelGroup(server_kind, sentinels=1)
    processes = Processes(servers.url, tmp_path / "processes")
    try:
        worker = processes.worker(2)
        with redismr.Client(servers.url, secret=SECRET) as client:
            assert dict(client.run(range(9), one, "sum")) == dict.fromkeys(range(9), 1)
            servers.demote(servers.fail_over())  # connections stay open: READONLY tells
            assert dict(client.run(range(9), one, "sum")) == dict.fromkeys(range(9), 1)
        assert worker.popen.poll() is None
    finally:
        processes.close()
        servers.close()
