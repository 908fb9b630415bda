"""With ``each_worker`` every worker runs one map task, and the source may be endless."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time

import pytest
from support import eventually
from system.processes import file_lines

import redismr
from redismr.client import per_worker
from redismr.store import Store


def executor_and_item(number, item):
    """Return the pid that ran the item."""
    yield os.getppid(), item


def logging_to(path, gate=None):
    """Return a mapfn that logs its pid, and then waits for a file, if ``gate`` names one."""
    log, gate = str(path), gate and str(gate)

    def mapfn(number, item):
        import os
        import time

        with open(log, "a") as file:
            file.write(f"{item} {os.getppid()}\n")
        while gate and not os.path.exists(gate):
            time.sleep(0.01)
        return [(item, os.getppid())]

    return mapfn


class RunInThread:
    """A ``run`` in a thread."""

    def __init__(self, client, *args, **options):
        self.outcome = self.error = None
        self._thread = threading.Thread(target=self._run, args=(client, args, options))
        self._thread.start()

    def _run(self, client, args, options):
        try:
            self.outcome = dict(client.run(*args, **options))
        except BaseException as exc:
            self.error = exc

    def result(self, timeout=60):
        self._thread.join(timeout)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error
        return self.outcome


def test_s13_each_connected_worker_gets_one_task_of_an_endless_source(processes, client, tmp_path):
    for executors in (1, 2, 3):
        processes.worker(executors)
    eventually(lambda: len(client.workers()) == 3)
    gate = tmp_path / "gate"
    mapfn = logging_to(tmp_path / "log", gate)
    job = RunInThread(client, itertools.count(), mapfn, each_worker=True)
    lines = file_lines(tmp_path / "log")
    eventually(lambda: len(lines()) == 3)
    gate.touch()
    assert sorted(job.result()) == [0, 1, 2]
    assert len(lines()) == len(set(lines())) == 3
    assert len({line.split()[1] for line in lines()}) == 3


def test_s13_a_worker_that_joins_while_others_map_gets_a_task(processes, client, tmp_path):
    processes.worker(2)
    gate, lines = tmp_path / "gate", file_lines(tmp_path / "log")
    job = RunInThread(
        client, itertools.count(), logging_to(tmp_path / "log", gate), "list", each_worker=True
    )
    eventually(lambda: len(lines()) == 1)
    processes.worker(2)
    eventually(lambda: len(lines()) == 2)
    gate.touch()
    result = job.result()
    assert sorted(result) == [0, 1]
    assert result[0] != result[1]


def test_s13_a_source_with_fewer_items_than_workers_is_enough_for_some(processes, client):
    for _ in range(3):
        processes.worker()
    eventually(lambda: len(client.workers()) == 3)
    assert sum(map(len, client.run(["only"], executor_and_item, each_worker=True).values())) == 1
    assert dict(client.run([], executor_and_item, each_worker=True)) == {}


@pytest.mark.slow
def test_s13_no_task_is_given_to_another_worker_when_one_dies(
    processes, client, tmp_path, monkeypatch
):
    monkeypatch.setattr(per_worker, "WORKER_SILENT_SECONDS", 6.0)  # a heartbeat comes every 5 s
    gate, lines = tmp_path / "gate", file_lines(tmp_path / "log")
    processes.worker()
    victim = processes.worker()
    eventually(lambda: len(client.workers()) == 2)
    mapfn = logging_to(tmp_path / "log", gate)
    job = RunInThread(client, itertools.count(), mapfn, each_worker=True, lease=1)
    eventually(lambda: len(lines()) == 2)
    victim.kill()
    gate.touch()
    assert len(job.result()) == 1
    assert len(lines()) == 2


def workers_given_a_task(client, admin):
    """Return the workers that got a task of the newest job."""
    job = client.jobs()[0].job_id
    fields = admin.hkeys(f"redismr:{{{job}}}:meta")
    return {field.decode()[9:] for field in fields if field.startswith(b"assigned:")}


def test_s13_a_worker_that_has_been_silent_for_long_gets_nothing(processes, server, client):
    processes.worker()
    admin = server.client()
    ((worker, row),) = eventually(lambda: admin.hgetall("redismr:workers").items())
    row = json.loads(row) | {"beat": int(time.time() * 1000) - 20_000}
    admin.hset("redismr:workers", "killed:1:abc", json.dumps(row))
    assert (
        len(client.submit(itertools.count(), executor_and_item, each_worker=True).result(20)) == 1
    )
    assert workers_given_a_task(client, admin) == {worker.decode()}


class BusyAndIdleWorker:
    """Two workers: one is in another job until ``release``, the other is idle."""

    def __init__(self, processes, server, client, folder):
        self.admin, self.client, self.gate = server.client(), client, folder / "busy"
        self.worker, lines = processes.worker(), file_lines(folder / "other")
        mapfn = logging_to(folder / "other", self.gate)
        self.job = RunInThread(client, ["other"], mapfn, backup=False)
        eventually(lambda: len(lines()) == 1)
        (self.id,) = map(bytes.decode, self.admin.hkeys("redismr:workers"))
        processes.worker()
        eventually(lambda: len(client.workers()) == 2)

    def wait_until_both_have_tasks(self, lines):
        """Wait until both workers got a task and the idle worker has done its task."""
        eventually(
            lambda: len(workers_given_a_task(self.client, self.admin)) == 2 and len(lines()) == 1
        )
        assert self.id in workers_given_a_task(self.client, self.admin)

    def release(self):
        self.gate.touch()
        self.job.result()


def test_s13_a_worker_that_leaves_before_its_turn_is_not_waited_for(
    processes, server, client, tmp_path, monkeypatch
):
    monkeypatch.setattr(per_worker, "WORKER_SILENT_SECONDS", 1e9)
    monkeypatch.setattr(per_worker, "ROW_MISSING_SECONDS", 0.5)
    busy, lines = (
        BusyAndIdleWorker(processes, server, client, tmp_path),
        file_lines(tmp_path / "log"),
    )
    job = RunInThread(client, itertools.count(), logging_to(tmp_path / "log"), each_worker=True)
    busy.wait_until_both_have_tasks(lines)
    busy.worker.send(signal.SIGTERM)
    busy.worker.wait_for_output("finishing the running tasks")
    busy.release()
    assert len(job.result()) == 1
    assert len(lines()) == 1


@pytest.mark.slow
def test_s13_a_worker_whose_row_was_lost_gets_a_task(
    processes, server, client, tmp_path, monkeypatch
):
    monkeypatch.setattr(per_worker, "ROW_MISSING_SECONDS", 60.0)  # a heartbeat comes every 5 s
    busy, lines = (
        BusyAndIdleWorker(processes, server, client, tmp_path),
        file_lines(tmp_path / "log"),
    )
    job = RunInThread(client, itertools.count(), logging_to(tmp_path / "log"), each_worker=True)
    busy.wait_until_both_have_tasks(lines)
    busy.admin.delete("redismr:workers")
    eventually(lambda: len(client.workers()) == 2)
    busy.release()
    assert len(job.result()) == 2
    assert len(lines()) == 2


def test_s13_a_failover_in_the_middle_is_reported(processes, server, client, tmp_path):
    for _ in range(2):
        processes.worker()
    eventually(lambda: len(client.workers()) == 2)
    gate, lines = tmp_path / "gate", file_lines(tmp_path / "log")
    mapfn = logging_to(tmp_path / "log", gate)
    job = RunInThread(client, itertools.count(), mapfn, each_worker=True)
    eventually(lambda: len(lines()) == 2)
    server.client().hset(f"redismr:{{{client.jobs()[0].job_id}}}:meta", "maps_added", 1)
    with pytest.raises(redismr.JobFailed, match="its workers cannot be asked again"):
        job.result()
    assert client.jobs()[0].state == "cancelled"
    gate.touch()


def test_s13_a_failover_before_the_close_is_reported(processes, server, client, monkeypatch):
    close, admin = Store.close, server.client()

    def rewound(self, job, *args):
        admin.hset(f"redismr:{{{job}}}:meta", "maps_added", 0)
        return close(self, job, *args)

    monkeypatch.setattr(Store, "close", rewound)
    processes.worker()
    with pytest.raises(redismr.JobFailed, match="its workers cannot be asked again"):
        client.run(itertools.count(), executor_and_item, each_worker=True)


def test_s13_no_worker_is_reported_and_ends_the_job_in_time(processes, client):
    with pytest.raises(redismr.NoWorkers, match="no workers are connected"):
        client.run(itertools.count(), executor_and_item, each_worker=True, wait_for_workers=0.5)


def test_s13_an_error_on_a_worker_ends_the_job(processes, client):
    def mapfn(number, item):
        raise ZeroDivisionError(f"of item {item}")

    processes.worker()
    processes.worker()
    with pytest.raises(redismr.MapError, match="of item"):
        client.run(itertools.count(), mapfn, each_worker=True)


def test_s13_inline_is_one_worker():
    result = redismr.run(itertools.count(5), executor_and_item, each_worker=True, inline=True)
    assert list(result.values()) == [[5]]


def test_each_worker_is_true_or_false():
    with pytest.raises(redismr.ConfigError, match="each_worker"):
        redismr.run([], executor_and_item, each_worker=1, inline=True)


def test_workers_with_rare_heartbeats_are_not_given_up_early(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(per_worker.time, "monotonic", lambda: now[0])
    liveness = per_worker.WorkerLiveness()
    for _ in range(20):  # one second each, and no news
        now[0] += 1
        liveness.update(0, {"seldom": 0}, slowdown=5.0)
    assert liveness.silent_workers(["seldom"]) == []
    rows = {"a": {"every_ms": 5000}, "b": {"every_ms": 25_000}, "c": {}}
    assert per_worker._beat_slowdown(rows) == 5.0
    assert per_worker._beat_slowdown({"evil": {"every_ms": 10**12}}) == 5.0
    assert per_worker._beat_slowdown({}) == 1.0
