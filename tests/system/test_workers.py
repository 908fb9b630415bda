"""Workers come, go, drain and die; the job does not notice."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from support import REPOSITORY, eventually, is_running
from system.processes import (
    ONE_SERVER_KIND,
    SECRET,
    file_lines,
    parent_of,
    redismr_cli,
    write_script,
)

import redismr

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or needs PDEATHSIG")


def one(x):
    return [(x, 1)]


class Gate:
    """A mapfn that logs each record at its start, and waits until the test opens the gate."""

    def __init__(self, folder: Path) -> None:
        self.path, self.begun = folder / "gate", folder / "begun"
        self.lines = file_lines(self.begun)

    def mapfn(self):
        path, begun = str(self.path), str(self.begun)

        def mapfn(x):
            with open(begun, "a") as file:
                file.write(f"{x} {os.getpid()}\n")
            while not os.path.exists(path):
                time.sleep(0.005)
            return [(x % 3, x)]

        return mapfn

    def open(self):
        self.path.write_text("")


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


# ------------------------------------------------------------------------- come and go


def test_a_worker_waits_for_a_server_that_is_not_up_yet(server, processes):
    server.kill()
    worker = processes.worker(ready=False)
    worker.wait_for_output("waiting for it")
    assert "waiting for jobs" not in worker.log
    server.restart()
    with redismr.Client(server.url, secret=SECRET) as client:
        assert dict(client.run([1], one, "sum")) == {1: 1}
    assert worker.popen.poll() is None


def test_a_worker_reconnects(server, client, processes):
    worker = processes.worker()
    assert dict(client.run([1], one, "sum")) == {1: 1}
    server.restart()
    assert dict(client.run([2], one, "sum")) == {2: 1}
    assert worker.popen.poll() is None


def test_a_worker_survives_a_cut_of_all_connections(server, client, processes):
    processes.worker()
    assert dict(client.run([1], one, "sum")) == {1: 1}
    server.client().client_kill_filter(_type="normal", skipme=True)
    assert dict(client.run([2], one, "sum")) == {2: 1}


def test_workers_join_midway(client, processes, gate):
    job = client.submit(range(8), gate.mapfn(), "list", chunk=1)
    processes.worker(1)
    eventually(lambda: len(gate.lines()) == 1)
    processes.worker(1)
    eventually(lambda: len(gate.lines()) == 2)
    gate.open()
    assert dict(job.result(20)) == {0: [0, 3, 6], 1: [1, 4, 7], 2: [2, 5]}
    assert len({line.split()[1] for line in gate.lines()}) == 2


def test_a_worker_that_leaves_finishes_its_task_and_gives_back_the_others(client, processes, gate):
    job = client.submit(range(40), gate.mapfn(), "list", chunk=1)
    first = processes.worker(1)
    eventually(gate.lines)
    first.send(signal.SIGTERM)
    first.wait_for_output("finishing the running tasks")
    gate.open()
    assert first.wait() == 0
    look = job._read_status()
    assert look.leased == 0
    assert look.maps_done >= 1
    assert client.workers() == []
    processes.worker(1)
    assert sum(map(len, job.result(20).values())) == 40
    begun = [line.split()[0] for line in gate.lines()]
    assert len(begun) == len(set(begun)) == 40
    assert job.progress().retries == 0


def test_ctrl_c_drains_as_well(client, processes, gate):
    worker = processes.worker(1)
    job = client.submit([1], gate.mapfn(), "list")
    eventually(gate.lines)
    worker.send(signal.SIGINT)
    worker.wait_for_output("finishing the running tasks")
    gate.open()
    assert worker.wait() == 0
    assert job._read_status().maps_done == 1


def test_a_second_signal_stops_at_once(client, processes, gate):
    job = client.submit([1], gate.mapfn(), "list")
    worker = processes.worker(1)
    eventually(gate.lines)
    worker.send(signal.SIGTERM)
    worker.wait_for_output("finishing")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 1
    look = job._read_status()
    assert (look.leased, look.maps_done) == (0, 0)
    gate.open()
    processes.worker(1)
    assert dict(job.result(20)) == {1: [1]}


@ONE_SERVER_KIND
def test_a_killed_worker_is_lost_after_three_heartbeats(
    server, client, processes, gate, monkeypatch, capsys
):
    """The worker is not listed any more, although its lease runs on; waiting clients are told."""
    monkeypatch.setattr(redismr.client.job_progress, "_REFRESH_SECONDS", 0.0)
    job = client.submit([1, 2], gate.mapfn(), "list", chunk=1, lease=60)
    worker = processes.worker(1)
    eventually(gate.lines)
    seen = eventually(lambda: (p := job.progress()).workers and p)
    assert (seen.maps_running, seen.workers, seen.slots) == (1, 1, 1)
    worker.kill()
    assert [row.lost for row in client.workers()] == [False]
    for missed, lost in ((2.9, False), (3.1, True)):
        set_last_heartbeat_back(server, 5.0 * missed)
        assert [row.lost for row in client.workers()] == [lost]
    assert "\tlost\t" in redismr_cli("workers", url=server.url).stdout
    seen = eventually(lambda: (p := job.progress()).waiting and p)
    assert (seen.maps_running, seen.workers, seen.slots) == (0, 0, 0)
    name = f"{os.uname().nodename}:{worker.pid}"
    assert f"no workers are connected to {job._store.redis_client.shown_address}" in seen.waiting
    assert f"; lost: {name})" in seen.waiting
    processes.worker(1)
    seen = eventually(lambda: (p := job.progress()).workers and p)
    assert seen.slots == 1
    gate.open()
    eventually(lambda: job.progress().maps_done == 1)
    monkeypatch.setattr(redismr.client.job_progress, "EXPLAIN_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(redismr.client.job_progress, "PROGRESS_ASKED_SECONDS", 0.0)
    assert not job.wait(0.1)
    printed = capsys.readouterr().err
    assert f"1 task of lost workers ({name}) can run again" in printed
    assert printed.count("can run again") == 1
    job.cancel()


@ONE_SERVER_KIND
def test_the_reason_for_waiting_is_shown_once(server, processes, monkeypatch, capsys):
    """`redismr watch` printed each reason twice. The worker is in another database."""
    processes.worker(1)
    monkeypatch.setattr(redismr.client.job_progress, "EXPLAIN_AFTER_SECONDS", 0.0)
    with redismr.Client(server.url.replace("db=0", "db=3"), secret=SECRET) as client:
        job = client.submit([1], one)
        assert "(namespace redismr, database 3)" in job.progress().waiting
        assert not job.wait(0.05)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(redismr.client.job_progress, "PROGRESS_ASKED_SECONDS", 0.0)
        assert not job.wait(0.05)
        assert capsys.readouterr().err.count("no workers") == 1


def test_a_worker_with_rare_heartbeats_is_not_lost(server, client):
    client._store.heartbeat("w1", {"every_ms": 25_000})
    set_last_heartbeat_back(server, 70)
    assert [row.lost for row in client.workers()] == [False]
    set_last_heartbeat_back(server, 80)
    assert [row.lost for row in client.workers()] == [True]
    set_last_heartbeat_back(server, 120)
    assert client.workers() == []


def set_last_heartbeat_back(server, seconds):
    """Set back the last heartbeat of the only worker by so many seconds."""
    raw = server.client()
    [(worker, row)] = raw.hgetall("redismr:workers").items()
    now, micros = raw.time()
    beat = now * 1000 + micros // 1000 - int(seconds * 1000)
    raw.hset("redismr:workers", worker, json.dumps({**json.loads(row), "beat": beat}))


def test_an_idle_worker_leaves_at_once(processes):
    worker = processes.worker(2)
    worker.executors(2)
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0


def test_burst_ends_when_nothing_is_left(client, processes):
    jobs = [client.submit(range(20), one, "sum", chunk=1) for _ in range(2)]
    worker = processes.worker(2, "--burst")
    assert worker.wait() == 0
    assert [job.state for job in jobs] == ["succeeded", "succeeded"]


def test_burst_without_work_ends(processes):
    assert processes.worker(1, "--burst").wait() == 0


def test_max_tasks_ends(client, processes):
    job = client.submit(range(1000), one, "sum", chunk=1)
    worker = processes.worker(1, "--max-tasks", "30")
    assert worker.wait() == 0
    assert job.state == "mapping"
    assert job.progress().maps_done == 30
    assert job._read_status().leased == 0


# ------------------------------------------------------------------------- death


@LINUX
def test_executors_die_with_their_supervisor(processes):
    worker = processes.worker(2)
    worker.executors(2)
    descendants = worker.descendants()
    os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: not any(map(is_running, descendants)))


@LINUX
def test_an_executor_that_is_killed_costs_one_retry(client, processes, gate):
    worker = processes.worker(1)
    job = client.submit([1], gate.mapfn(), "list", lease=60)
    eventually(gate.lines)
    gate.open()
    os.kill(worker.executors(1)[0], signal.SIGKILL)
    # Long before the lease ends: the supervisor has reported the death.
    assert dict(job.result(20)) == {1: [1]}


@LINUX
def test_a_killed_executor_is_retried_while_others_wait(client, processes, gate):
    worker = processes.worker(1)
    job = client.submit([1], gate.mapfn(), "list", lease=60)
    begun = eventually(gate.lines)
    os.kill(int(begun[0].split()[1]), signal.SIGKILL)
    eventually(lambda: len(gate.lines()) == 2)
    gate.open()
    assert dict(job.result(20)) == {1: [1]}
    assert job.progress().retries == 1
    (failure,) = job.errors() or [None]
    assert failure is None or "SIGKILL" in failure.message
    assert worker.popen.poll() is None


@LINUX
def test_executors_that_die_together_are_all_replaced(processes):
    """An exit that comes while another executor is started must not be missed."""
    worker = processes.worker(8)
    for _ in range(5):
        dead = worker.executors(8)
        for pid in dead:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda dead=dead: not set(dead) & set(worker.descendants()))
        worker.executors(8)


def sequential(paths):
    expected = defaultdict(list)
    for path in paths:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for word in line.split():
                expected[word].append((path.name, number))
    return dict(expected)


@LINUX
def test_real_text_with_a_worker_killed_midway_equals_the_sequential_result(
    client, processes, tmp_path
):
    paths = sorted((REPOSITORY / "redismr").glob("*/*.py"))[:40]
    log = str(tmp_path / "log")

    def mapfn(where, line):
        if where.line == 1:
            with open(log, "a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.02)
            while len(set(Path(log).read_text().split())) < 2:
                time.sleep(0.01)
        name = os.path.basename(where)
        return [(word, (name, where.line)) for word in line.split()]

    victim = processes.worker(1)
    processes.worker(1)
    job = client.submit(
        redismr.lines([str(path) for path in paths], split=4096), mapfn, "list", lease=1
    )
    eventually(lambda: len(set(file_lines(Path(log))())) == 2)
    os.kill(victim.pid, signal.SIGKILL)
    results = dict(job.result(60))
    expected = sequential(paths)
    assert results.keys() == expected.keys()
    for word, places in expected.items():
        assert results[word] == places, word


@LINUX
def test_the_embedded_server_and_workers_die_with_a_killed_parent(processes, tmp_path):
    program = write_script(
        tmp_path,
        """
        import redismr, sys, time
        client = redismr.Client(executors=2)
        print(dict(client.run([1], lambda x: [(x, 1)], "sum")), flush=True)
        sys.stdin.read() or time.sleep(60)
        """,
    )
    parent = processes.start("env", "-u", "REDISMR_URL", "-u", "REDISMR_SECRET", sys.executable,
                        str(program))  # fmt: skip
    parent.wait_for_output("{1: 1}")
    descendants = parent.descendants()
    assert len(descendants) >= 4
    os.kill(parent.pid, signal.SIGKILL)
    eventually(lambda: not any(map(is_running, descendants)))


# ------------------------------------------------------------------------- in the way


def test_a_lost_lease_of_a_stopped_worker_is_taken_over(client, processes, gate):
    first = processes.worker(1)
    job = client.submit([1], gate.mapfn(), "list", lease=0.5)
    begun = eventually(gate.lines)
    frozen = [first.pid, int(begun[0].split()[1])]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        processes.worker(1)
        gate.open()
        assert dict(job.result(30)) == {1: [1]}
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert dict(client.attach(job.id).result()) == {1: [1]}


def test_a_cancelled_job_frees_its_executor(client, processes, gate):
    processes.worker(1)
    job = client.submit([1], gate.mapfn(), "list", lease=0.5)
    eventually(gate.lines)
    job.cancel()
    assert dict(client.run([7], one, "sum")) == {7: 1}


def test_a_deleted_job_frees_its_executor(client, processes, gate):
    processes.worker(1)
    job = client.submit([1], gate.mapfn(), "list", lease=0.5)
    eventually(gate.lines)
    job.delete()
    assert dict(client.run([7], one, "sum")) == {7: 1}


def test_a_worker_that_stops_leaves_the_wake_up_to_others(server, client, processes, gate):
    """One executor is busy; the worker still waits for a wake-up of the other, which has ended."""
    worker = processes.worker(2)
    client.submit([1], gate.mapfn(), "list")
    eventually(gate.lines)
    worker.send(signal.SIGTERM)
    worker.wait_for_output("finishing the running tasks")
    eventually(lambda: len(worker.executors(1)) == 1)
    client.submit([7], one, "sum")
    eventually(lambda: list(server.client().scan_iter("redismr:wake:*")))


def test_a_deleted_job_leaves_no_stale_wake_ups(server, client, processes, gate):
    """The wake-ups for returned tasks go to workers with the worker's Python."""
    processes.worker(1)
    job = client.submit([1], gate.mapfn(), "list", lease=0.5)
    eventually(gate.lines)
    job.delete()
    other = client.submit([7], one, "sum")
    other.result(30)
    other.delete()
    redis = server.client()
    names = ("redismr:jobs", "redismr:recent", "redismr:workers")
    eventually(lambda: not [k for k in redis.scan_iter() if k.decode() not in names], 10)


def test_user_code_sees_neither_secret_nor_password(server, client, processes):
    own = server.url.replace("unix://", "unix://default:any@")
    processes.worker(1, url=own, REDISMR_PASSWORD="hidden")
    results = client.run([1], lambda x: [(x, sorted(os.environ))], "first")
    assert not [name for name in results[1] if re.match("REDISMR_(SECRET|PASSWORD)", name)]


def test_string_hashes_are_the_same_in_all_workers(client, processes):
    for _ in range(2):
        processes.worker(1)
    results = client.run(range(20), lambda x: [(hash("whale"), time.sleep(0.01))], "count", chunk=1)
    assert len(results) == 1


def test_the_parent_of_an_executor_is_the_fork_server(processes):
    worker = processes.worker(1)
    (executor,) = worker.executors(1)
    assert parent_of(executor) != worker.pid
