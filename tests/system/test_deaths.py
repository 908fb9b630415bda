"""Deaths of executors are charged to the task that was in user code, and to no other."""

from __future__ import annotations

import copy
import ctypes
import gc
import os
import signal
import socket
import sys
import time

import pytest
from support import eventually, is_running
from system.processes import SECRET, file_lines, parent_of

import redismr
from redismr.client import submitter
from redismr.config import Connection
from redismr.core.seal import Keyring
from redismr.workers.executor import Executor, ExecutorSetup
from redismr.workers.session import JobHeader
from redismr.workers.shared_slots import Slots
from redismr.workers.tasks import Attempt

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or needs PDEATHSIG")


def one(x):
    return [(x, 1)]


def budgets_used(server, job):
    """Return the budgets that a job has used."""
    found = server.client().hgetall(f"redismr:{{{job.id}}}:budgets")
    return {key.decode(): int(value) for key, value in found.items() if b"signature:" not in key}


def segfault():
    ctypes.string_at(0)


def out_of_memory():
    os.kill(os.getpid(), signal.SIGKILL)


def quit_at_once():
    os._exit(3)


@LINUX
@pytest.mark.parametrize(
    ("end", "message"),
    [(segfault, "SIGSEGV"), (out_of_memory, "SIGKILL"), (quit_at_once, "status 3")],
)
def test_a_poison_task_ends_its_job_and_costs_no_other(server, client, processes, end, message):
    def mapfn(x):
        if x == 1267:
            end()
        return one(x)

    processes.worker(2)
    job = client.submit(range(2000), mapfn, "sum", chunk=5, lost_leases=1, lease=60)
    with pytest.raises(redismr.MapError, match=message) as caught:
        job.result(20)
    assert "m253" in str(caught.value)
    assert "record 3" in str(caught.value)
    assert budgets_used(server, job) == {"lost:m253": 2}
    assert dict(client.run([1], one, "sum")) == {1: 1}


@LINUX
def test_a_task_that_holds_the_gil_keeps_its_lease(client, processes, tmp_path):
    begun = tmp_path / "begun"

    def mapfn(x):
        with begun.open("a") as file:
            file.write("x\n")
        ctypes.PyDLL(None).usleep(1_200_000)  # a PyDLL call keeps the GIL
        return one(x)

    processes.worker(1)
    processes.worker(1)
    assert dict(client.run([1], mapfn, "sum", lease=0.3)) == {1: 1}
    assert file_lines(begun)() == ["x"]


@LINUX
def test_a_task_that_holds_the_gil_is_killed_at_its_timeout(server, client, processes):
    def mapfn(x):
        ctypes.PyDLL(None).sleep(60)
        return one(x)

    processes.worker(1)
    job = client.submit([1], mapfn, "sum", task_timeout=0.2, lost_leases=1)
    with pytest.raises(redismr.MapError, match=r"longer than task_timeout=0\.2 s"):
        job.result(20)
    assert budgets_used(server, job) == {"lost:m0": 2}


@LINUX
def test_a_task_is_killed_at_its_timeout_while_redis_is_away(server, client, processes, tmp_path):
    begun = tmp_path / "begun"

    def mapfn(x):
        begun.write_text(str(os.getpid()))
        time.sleep(60)

    processes.worker(1)
    client.submit([1], mapfn, "sum", task_timeout=2, lease=0.5)
    pid = int(eventually(lambda: begun.exists() and begun.read_text()))
    server.kill()
    assert is_running(pid)
    eventually(lambda: not is_running(pid))


@LINUX
def test_an_executor_that_stays_stopped_is_replaced(server, client, processes):
    def mapfn(_x):
        os.kill(os.getpid(), signal.SIGSTOP)

    worker = processes.worker(1)
    job = client.submit([1], mapfn, "sum", lease=0.2, lost_leases=1)
    with pytest.raises(redismr.RedismrError, match=r"was cut off 2 times|did not go on"):
        job.result(20)
    assert budgets_used(server, job) == {"lost:m0": 2}
    assert dict(client.run([1], one, "sum")) == {1: 1}
    assert worker.popen.poll() is None


@LINUX
def test_a_worker_that_comes_back_too_late_counts_nothing_and_stops_its_executor(
    client, processes, tmp_path
):
    begun, name = tmp_path / "begun", str(tmp_path / "begun")

    def mapfn(x):
        redismr.count("calls")
        with open(name, "a") as file:
            file.write(f"{os.getpid()}\n")
        if begun.read_text().count("\n") == 1:
            time.sleep(60)
        return one(x)

    late = processes.worker(1)
    job = client.submit([1], mapfn, "sum", lease=0.5)
    (pid,) = map(int, eventually(file_lines(begun)))
    for stopped in (late.pid, pid):
        os.kill(stopped, signal.SIGSTOP)
    other = processes.worker(1)
    results = job.result(20)
    other.kill()
    for stopped in (late.pid, pid):
        os.kill(stopped, signal.SIGCONT)
    eventually(lambda: not is_running(pid))
    late.wait_for_output("task m0: stopped")
    assert dict(results) == {1: 1}
    assert results.counters["calls"] == 1
    assert dict(client.run([1], one, "sum")) == {1: 1}


@LINUX
def test_a_worker_without_its_fork_server_ends_and_leaves_nothing(client, processes, tmp_path):
    begun, gate = tmp_path / "begun", tmp_path / "gate"

    def mapfn(x):
        begun.write_text(str(os.getpid()))
        while not gate.exists():
            time.sleep(0.01)
        return one(x)

    worker = processes.worker(2)
    job = client.submit([1], mapfn, "sum", lease=0.5)
    pid = int(eventually(lambda: begun.exists() and begun.read_text()))
    descendants = worker.descendants()
    os.kill(parent_of(pid), signal.SIGKILL)
    assert worker.wait() == 1
    assert "Traceback" not in worker.log
    eventually(lambda: not any(map(is_running, descendants)))
    gate.touch()
    processes.worker(1)
    assert dict(job.result(20)) == {1: 1}


@LINUX
def test_a_death_while_redis_is_away_is_reported_later(server, client, processes, tmp_path):
    begun, name = tmp_path / "begun", str(tmp_path / "begun")

    def mapfn(x):
        with open(name, "a") as file:
            file.write(f"{os.getpid()}\n")
        if begun.read_text().count("\n") == 1:
            time.sleep(60)
        return one(x)

    processes.worker(1)
    job = client.submit([1], mapfn, "sum", lease=60)
    (pid,) = map(int, eventually(file_lines(begun)))
    server.kill()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid))
    server.restart()
    (failure,) = eventually(job.errors)
    assert (failure.error_name, failure.pid) == ("WorkerDied", pid)
    assert dict(job.result(20)) == {1: 1}
    assert budgets_used(server, job) == {"lost:m0": 1}


@LINUX
def test_a_death_is_reported_before_the_worker_ends(server, client, processes, tmp_path):
    begun = tmp_path / "begun"

    def mapfn(x):
        begun.write_text(str(os.getpid()))
        time.sleep(60)

    worker = processes.worker(1)
    job = client.submit([1], mapfn, "sum", lease=60)
    pid = int(eventually(lambda: begun.exists() and begun.read_text()))
    server.kill()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_running(pid))
    worker.send(signal.SIGTERM)
    # The exit code depends on whether the worker has noticed the death.
    eventually(lambda: "finishing" in worker.log or "stopping" in worker.log)
    server.restart()
    assert worker.wait() == 0
    assert [failure.error_name for failure in job.errors()] == ["WorkerDied"]
    assert budgets_used(server, job) == {"lost:m0": 1}


@pytest.mark.parametrize("chunk", [1, 6])
def test_a_child_that_user_code_forked_does_not_go_on_as_an_executor(
    client, processes, tmp_path, chunk
):
    begun, name = tmp_path / "begun", str(tmp_path / "begun")

    def mapfn(x):
        with open(name, "a") as file:
            file.write(f"{x}\n")
        child = os.fork()
        if child == 0 and x % 2:
            sys.exit(x)
        return [(x, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else "a child")]

    processes.worker(1)
    found = dict(client.run(range(6), mapfn, "list", chunk=chunk, lease=60))
    assert found == {0: [0], 1: [1], 2: [0], 3: [3], 4: [0], 5: [5]}
    assert sorted(file_lines(begun)()) == list("012345")


@LINUX
def test_a_child_that_user_code_forked_does_not_overwrite_committed_chunks(
    server, client, processes, tmp_path
):
    name, counted, ended = str(tmp_path / "child"), tmp_path / "counted", tmp_path / "ended"

    def mapfn(x):
        if x:  # keeps the reduce stage closed
            while not ended.exists():
                time.sleep(0.01)
            return []
        child = os.fork()
        if child:
            with open(name, "w") as file:
                file.write(f"{child}\n")
        while not (child or counted.exists()):
            time.sleep(0.01)
        return [(key, ("parent" if child else "child!") + "." * 600) for key in range(20)]

    processes.worker(2)
    job = client.submit([0, 1], mapfn, "list", chunk=1, lease=60, partitions=1, backup=False)
    eventually(lambda: server.client().hexists(f"redismr:{{{job.id}}}:done", "0"))
    counted.touch()
    (child,) = map(int, file_lines(tmp_path / "child")())
    eventually(lambda: not is_running(child))
    ended.touch()
    assert {value[:6] for (value,) in dict(job.result(20)).values()} == {"parent"}


@LINUX
def test_a_second_signal_gives_everything_back_uncharged(server, client, processes, tmp_path):
    begun = tmp_path / "begun"

    def mapfn(x):
        with begun.open("a") as file:
            file.write(f"{x}\n")
        time.sleep(60)

    worker = processes.worker(2)
    job = client.submit(range(6), mapfn, "sum", chunk=1, lease=60)
    eventually(lambda: len(file_lines(begun)()) == 2)
    worker.send(signal.SIGTERM)
    worker.wait_for_output("finishing")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 1
    redis = server.client()
    assert redis.llen(f"redismr:{{{job.id}}}:ready") == 6
    assert redis.hlen(f"redismr:{{{job.id}}}:attempts") == 0
    assert budgets_used(server, job) == {}


def test_tasks_behind_a_long_task_are_given_back_at_sigterm(server, client, processes, tmp_path):
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    name = str(begun)

    def mapfn(x):
        if x >= 300:  # after batches of quick ones
            with open(name, "a") as file:
                file.write(f"{x}\n")
            while not gate.exists():
                time.sleep(0.01)
        return one(x)

    worker = processes.worker(1)
    job = client.submit(range(400), mapfn, "sum", chunk=1, lease=60, backup=False)
    eventually(file_lines(begun))
    worker.send(signal.SIGTERM)
    own = f"redismr:{{{job.id}}}:attempts"
    eventually(lambda: max(int(task[1:]) for task in server.client().hkeys(own)) == 300)
    assert worker.popen.poll() is None, "it finishes that task"
    gate.touch()
    assert worker.wait() == 0
    processes.worker(1)
    assert dict(job.result(20)) == dict.fromkeys(range(400), 1)
    assert sorted(map(int, file_lines(begun)())) == [*range(300, 400)]
    assert job.progress().retries == 0


@pytest.fixture
def executor(server):
    """An executor in this process, which the test drives."""
    ours, theirs = socket.socketpair()
    setup = ExecutorSetup(Slots(1).all[0], theirs, "w:1:0")
    connection = Connection(url=server.url, secret=SECRET)
    executor = Executor(setup, connection, Keyring(SECRET, "redismr"))
    yield executor
    executor.store.redis_client.close()
    ours.close()
    theirs.close()


def test_a_claim_that_has_not_started_is_given_back_at_sigterm(
    server, client, executor, monkeypatch
):
    ran = []
    job = client.submit(range(6), ran.append, "sum", chunk=1)
    claim = executor.store.claim

    def claim_then_stop(*args, **kwargs):
        granted = claim(*args, **kwargs)
        executor.slot.request_stop()
        return granted

    monkeypatch.setattr(executor.store, "claim", claim_then_stop)
    executor._serve_turn(JobHeader.read(executor.store, job.id), backup=False)
    assert ran == []
    assert server.client().lrange(f"redismr:{{{job.id}}}:ready", 0, -1) == [
        b"m%d" % i for i in range(6)
    ]
    assert server.client().hlen(f"redismr:{{{job.id}}}:attempts") == 0


def test_a_job_of_few_tasks_wakes_one_worker_which_wakes_others(
    server, client, executor, monkeypatch
):
    """The executor does not know yet how quick the tasks are, so it claims one."""
    monkeypatch.setattr(submitter, "SUBMIT_FLUSH_SECONDS", 60)
    monkeypatch.setattr(submitter, "LINGER_SECONDS", 60)
    redis = server.client()
    job = client.submit(range(3), one, "sum", chunk=1)
    (wake,) = redis.scan_iter("redismr:wake:*")
    assert redis.llen(wake) == 1
    redis.delete(wake)
    executor._run_batches = lambda _session, claim: claims.append(claim)
    claims = []
    executor._serve_turn(JobHeader.read(executor.store, job.id), backup=False)
    assert [claim.tasks for claim in claims] == [("m0",)]
    assert redis.llen(wake) == 2


def test_the_first_reducers_of_a_small_job_get_their_input_with_the_commit(client, executor):
    """The mapfn is of the standard library: a function of this module would load it twice."""
    job = client.submit([[(n, 1)] for n in range(3)], copy.copy, "sum", chunk=1)
    executor.store.map_outputs = None
    executor._serve_turn(JobHeader.read(executor.store, job.id), backup=False)
    assert dict(job.result(10)) == dict.fromkeys(range(3), 1)


def test_the_input_of_an_attempt_is_freed_with_it(client, executor):
    """The garbage collector may come late: executors held 1.1 GB after 2 GB of input."""
    job = client.submit([[(n, "x" * 1000)] for n in range(20)], copy.copy, "count", chunk=1)
    gc.collect()
    gc.disable()
    try:
        executor._serve_turn(JobHeader.read(executor.store, job.id), backup=False)
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Attempt)]
    finally:
        gc.enable()
    assert len(job.result(10)) == 20
