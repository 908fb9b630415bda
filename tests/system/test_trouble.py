"""Trouble that comes at a bad moment."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest
from support import eventually
from system.crew import file_lines, redismr_cli, run, script

import redismr

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def one(x):
    return [(x, 1)]


def test_a_worker_that_never_had_a_server_can_be_stopped(server, crew):
    server.kill()
    worker = crew.worker(2)
    worker.says("waiting for it")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_a_worker_whose_server_is_away_can_be_stopped(server, crew, client):
    worker = crew.worker(1)
    assert dict(client.run([1], one, "sum")) == {1: 1}
    server.kill()
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


@LINUX
def test_a_stopped_executor_loses_its_lease(client, crew, tmp_path):
    begun = tmp_path / "begun"

    def mapfn(x):
        with open(begun, "a") as file:
            file.write(f"{os.getpid()}\n")
        while begun.read_text().count("\n") < 2:
            time.sleep(0.01)
        return one(x)

    crew.worker(1)
    job = client.submit([1], mapfn, "sum", lease=0.5)
    pid = int(eventually(file_lines(begun))[0])
    os.kill(pid, signal.SIGSTOP)
    crew.worker(1)
    assert dict(job.result(20)) == {1: 1}


def test_flushall_is_a_lost_job(server, client, crew, tmp_path):
    begun, gate = tmp_path / "begun", tmp_path / "gate"

    def mapfn(x):
        begun.write_text("")
        while not gate.exists():
            time.sleep(0.01)
        return one(x)

    worker = crew.worker(1)
    job = client.submit([1], mapfn, "sum", lease=0.5)
    eventually(begun.exists)
    server.client().flushall()
    with pytest.raises(redismr.JobLost, match="vanished"):
        job.result(20)
    gate.write_text("")
    assert dict(client.run([2], one, "sum")) == {2: 1}
    assert worker.popen.poll() is None


PRINTING = """
    import sys
    source = [1]
    def mapfn(x):
        print("from mapfn")
        sys.stdout.flush()
        return [(x, x)]
"""


def test_what_functions_print_is_not_in_the_result(tmp_path):
    done = redismr_cli("run", script(tmp_path, PRINTING), secret=None)
    assert (done.returncode, done.stdout) == (0, "1\t[1]\n")
    assert "from mapfn" in done.stderr


def test_resultfn_is_called_before_a_script_ends(farm, server, tmp_path):
    body = """
        import redismr
        client = redismr.Client()
        client.submit([1], lambda x: [(x, x)], resultfn=lambda txn, results: print(dict(results)))
    """
    done = run(sys.executable, script(tmp_path, body), url=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "{1: [1]}\n", "")


def test_reading_results_survives_a_restart_of_the_server(server, shared):
    with shared.run(range(1000), one, "sum", partitions=4) as results:
        server.restart()
        assert len(dict(results)) == 1000


def test_a_script_that_ends_has_deleted_its_jobs(farm, server, client, tmp_path):
    body = "import redismr\nresults = redismr.run([1], lambda x: [(x, x)])\nprint(len(results))\n"
    done = run(sys.executable, script(tmp_path, body), url=server.url)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    assert client.jobs() == []
    assert list(server.client().scan_iter("*code*")) == []


def test_a_submitter_that_is_killed_while_it_submits_fails_the_job(
    farm, server, client, tmp_path, crew
):
    body = """
        import redismr, time
        import redismr.client.submitter, redismr.client.client
        redismr.client.client.SUBMIT_LEASE_MS = 300
        redismr.client.submitter.SUBMIT_LEASE_MS = 300
        def source():
            yield 1
            print("given", flush=True)
            time.sleep(60)
        redismr.Client().submit(source(), lambda x: [(x, x)], chunk=1, lease=0.5)
    """
    process = crew.start(sys.executable, str(script(tmp_path, body)))
    process.says("given")
    process.kill()
    (row,) = client.jobs()
    with pytest.raises(redismr.SubmitterLost, match="fell silent"):
        client.attach(row.job_id).result(30)
