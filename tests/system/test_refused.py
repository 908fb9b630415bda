"""Messages of whole programs whose server refuses them, for ever or for now."""

from __future__ import annotations

import contextlib
import re
import sys
import time

import pytest
import support
from store.roles import user_url
from support import eventually
from system.processes import (
    ONE_SERVER_KIND,
    OTHER_SECRET,
    SECRET,
    Processes,
    redismr_cli,
    write_script,
)

import redismr

JOB = """
source = range(3)

def mapfn(x):
    yield x % 2, x

reducefn = "sum"
"""

PROGRAM = """
import redismr

def mapfn(x):
    yield x % 2, x

if __name__ == "__main__":
    print(dict(redismr.run(range(3), mapfn, "sum")))
"""

SAID_WITHIN = 5


@contextlib.contextmanager
def start_all_programs(url, folder):
    """Start every program that uses a server: command -> process."""
    write_script(folder, JOB, "job.py")
    write_script(folder, PROGRAM, "program.py")
    processes = Processes(url, folder)
    words = [
        "run job.py", "submit job.py", "jobs", "workers", "watch j", "result j", "errors j",
        "listen", "cancel j", "delete j", "worker", "repl job.py",
    ]  # fmt: skip
    started = {w: processes.start(sys.executable, "-m", "redismr", *w.split()) for w in words}
    started["program"] = processes.start(sys.executable, "program.py")
    try:
        yield started
    finally:
        processes.close()


def lines_of(process):
    """Return the output lines without the frames of a traceback."""
    lines = process.log.splitlines()
    if any(line.startswith("Traceback") for line in lines):
        lines = [line.removeprefix("redismr.errors.") for line in lines[-1:]]
    return lines


@pytest.mark.timeout(60)
def test_every_program_names_a_node_of_a_cluster_and_ends(tmp_path):
    server = support.Server("valkey", cluster_enabled="yes")
    try:
        admin = server.client()
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        with start_all_programs(server.url, tmp_path) as started:
            codes = {name: process.wait(40) for name, process in started.items()}
            assert codes == dict.fromkeys(codes, 3) | {"program": 1}
            for name, process in started.items():
                (line,) = lines_of(process)
                assert re.search(r"node of a Redis Cluster.*without cluster mode", line), name
        assert admin.dbsize() == 0
    finally:
        server.close()


@pytest.mark.parametrize(
    ("role", "words"),
    [("worker", "worker -n 2"), ("submitter", "submit job.py"), ("submitter", "delete j")],
)  # fmt: skip
def test_a_missing_right_is_reported_within_seconds(server, tmp_path, role, words):
    url = user_url(server, role)
    server.client().execute_command("ACL", "SETUSER", role, "-hset")
    write_script(tmp_path, JOB, "job.py")
    job = "j"
    if "delete" in words:
        with redismr.Client(server.url, secret=SECRET) as client:
            job = client.submit([1], lambda x: [(x, x)]).id
        words = f"delete {job}"
    before = server.client().dbsize()
    began = time.monotonic()
    result = redismr_cli(*words.split(), url=url, cwd=tmp_path)
    assert time.monotonic() - began < 2 * SAID_WITHIN  # a loaded machine starts slowly
    assert result.returncode == 3, result
    last = result.stderr.splitlines()[-1]
    assert f"use HSET (NOPERM): `redismr acl {role} --user {role}`" in last
    assert "Redis is back" not in result.stderr
    assert server.client().dbsize() == before


def test_a_worker_waits_for_replicas_and_logs_it_once(server, client, processes):
    server.config(min_replicas_to_write=1)
    worker = processes.worker(1, ready=False)
    worker.wait_for_output("takes no writes for now (NOREPLICAS)")
    eventually(lambda: server_checks(server) >= 4)
    with pytest.raises(redismr.StoreUnavailable, match=r"no writes for now \(NOREPLICAS\)"):
        client.submit([1], lambda x: [(x, 1)])
    assert client.jobs() == client.workers() == []
    assert not worker.executors(0)
    assert "Redis is back" not in worker.log
    server.config(min_replicas_to_write=0)
    assert dict(client.run([1], lambda x: [(x, 1)], "sum")) == {1: 1}
    log = worker.wait_for_output("Redis is back")
    assert log.count("NOREPLICAS") == log.count("Redis is back") == 1


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ("resetpass", "worker", "refused the URL's user or password: "),
        ("on", "worker --namespace team2", "use keys of the namespace team2"),
    ],
)
def test_a_refused_program_reports_only_that(server, tmp_path, change, words, message):
    """The worker does not wait for jobs either: wrong password, namespace of another `up`."""
    url = user_url(server, "worker")
    server.client().execute_command("ACL", "SETUSER", "worker", change)
    ended = redismr_cli(*words.split(), url=url, cwd=tmp_path)
    assert ended.returncode == 3
    (line,) = ended.stderr.splitlines()
    assert message in line
    assert not line.endswith(".")


@ONE_SERVER_KIND
def test_a_worker_is_warned_if_no_other_has_its_secret(server, client, processes):
    first = processes.worker(1)
    eventually(client.workers)
    other = processes.worker(1, secret=OTHER_SECRET)
    log = other.wait_for_output("no other worker there has this secret")
    assert f"(fingerprints of theirs: {client._keyring.key_id})" in log
    for worker in (processes.worker(1), first):
        assert "no other worker" not in worker.log


def server_checks(server):
    """Return how often the server was checked, before and now."""
    return server.client().info("commandstats").get("cmdstat_discard", {}).get("calls", 0)


def test_a_worker_whose_rights_are_taken_away_ends_with_one_line(
    server, client, tmp_path, processes
):
    url = user_url(server, "worker")
    worker = processes.worker(2, url=url)
    assert dict(client.run([1], lambda x: [(x, 1)], "sum")) == {1: 1}
    server.client().execute_command("ACL", "SETUSER", "worker", "-lrange", "-hset")
    client.submit([1], lambda x: [(x, 1)])
    assert worker.wait(30) == 3
    lines = worker.log.splitlines()
    assert lines[-1].startswith("redismr: the server at ")
    assert "use HSET, LRANGE (NOPERM): `redismr acl worker --user worker`" in lines[-1]
    assert len([line for line in lines if "LRANGE" in line]) == 1
    assert len(lines) <= 4, worker.log
    assert "Redis is back" not in worker.log


def test_each_role_has_the_rights_to_do_its_work(server, processes, tmp_path):
    """Run a job with a killed worker, an ``each_worker`` job, and all commands that only read."""
    urls = {role: user_url(server, role) for role in ("worker", "submitter", "monitor")}
    server.client().acl_log_reset()
    gate = tmp_path / "gate"

    def mapfn(x):
        while x == 3 and not gate.exists():
            time.sleep(0.01)
        return [(x % 2, x)]

    doomed, other = processes.worker(1, url=urls["worker"]), processes.worker(1, url=urls["worker"])
    with redismr.Client(urls["submitter"], secret=SECRET) as client:
        eventually(lambda: len(client.workers()) == 2)
        assert len(client.run(range(2), lambda x: [(x, 1)], "sum", each_worker=True)) == 2
        job = client.submit(range(8), mapfn, "sum", chunk=1, lease=1)
        watch = processes.start(
            sys.executable, "-m", "redismr", "watch", job.id, url=urls["monitor"]
        )
        listen = processes.start(
            sys.executable, "-m", "redismr", "listen", job.id, url=urls["monitor"]
        )
        eventually(lambda: job.progress().maps_running)
        doomed.kill()
        for words in ("jobs", "workers"):
            result = redismr_cli(words, url=urls["monitor"])
            assert (result.returncode, result.stderr) == (0, ""), result
            assert result.stdout
        gate.touch()
        assert dict(job.result(30)) == {0: 12, 1: 16}
        assert watch.wait() == 0
        listen.wait_for_output('"succeeded"')
        result = redismr_cli("result", job.id, url=urls["monitor"])
        assert sorted(result.stdout.split()) == ["0", "1", "12", "16"]
        refused = redismr_cli("cancel", job.id, url=urls["monitor"])
        assert refused.returncode == 3
        assert "redismr acl submitter --user monitor" in refused.stderr
        job.delete()
        cancelled = client.submit([1], lambda x: [(x, 1)])
        assert cancelled.cancel() in (True, False)
        cancelled.delete()
    assert other.popen.poll() is None
    other.send(15)
    assert other.wait() == 0
    denied = server.client().acl_log()
    assert not [row for row in denied if row["username"] in ("worker", "submitter")
                and "setinfo" not in row["object"]], denied  # fmt: skip
