"""Backups of slow tasks; tasks that wait behind a slow one go to other executors."""

from __future__ import annotations

import os
import pathlib
import signal
import time

import pytest
from support import eventually, is_running
from system.processes import file_lines

import redismr

LEASE = 60
"""A lease that no test outlasts, so that nothing happens because a lease ran out."""


class Straggler:
    """Functions whose first attempt at one key hangs until the test ends it; others are quick."""

    def __init__(self, folder) -> None:
        folder.mkdir(exist_ok=True)
        self.first, self.gate, self.log = folder / "first", folder / "gate", folder / "log"
        self.lines = file_lines(self.log)

    def function(self, key, result):
        first, gate, log = str(self.first), str(self.gate), str(self.log)

        def hang(x, value):
            redismr.count("calls")
            with open(log, "a") as file:
                file.write(f"{x} {os.getpid()}\n")
            if x == key:
                try:
                    os.close(os.open(first, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return result(x, value)
                while not os.path.exists(gate):
                    time.sleep(0.005)
            return result(x, value)

        return hang

    def attempts(self, key):
        """Return the pids of the processes that began the key."""
        return [int(line.split()[1]) for line in self.lines() if line.split()[0] == str(key)]


@pytest.fixture
def straggler(tmp_path):
    straggler = Straggler(tmp_path / "straggler")
    yield straggler
    straggler.gate.write_text("")


def two_workers(processes, executors=1):
    workers = [processes.worker(executors) for _ in range(2)]
    for worker in workers:
        worker.executors(executors)
    return workers


def test_a_hanging_map_is_finished_by_its_backup_and_counted_once(client, processes, straggler):
    two_workers(processes)
    mapfn = straggler.function(3, lambda x, _: [(x % 2, x)])
    job = client.submit(range(8), mapfn, "list", chunk=1, lease=LEASE)
    results = job.result(30)
    assert dict(results) == {0: [0, 2, 4, 6], 1: [1, 3, 5, 7]}
    assert results.counters["calls"] == 8
    hung, backup = straggler.attempts(3)
    assert hung != backup
    assert job.progress().retries == 0
    # The executor of the hanging attempt is replaced.
    eventually(lambda: not is_running(hung))
    assert dict(client.run([7], lambda x: [(x, 1)], "sum")) == {7: 1}


def test_a_hanging_reduce_is_finished_by_its_backup_and_counted_once(client, processes, straggler):
    two_workers(processes)
    reducefn = straggler.function(3, lambda _key, values: sum(values))
    job = client.submit(
        range(40), lambda x: [(x % 8, x)], reducefn, chunk=5, lease=LEASE, partitions=4
    )
    results = job.result(30)
    assert dict(results) == {key: sum(range(key, 40, 8)) for key in range(8)}
    assert results.counters["calls"] == 8
    assert len(straggler.attempts(3)) == 2
    assert job.progress().retries == 0


def test_a_job_may_forbid_backups(client, processes, tmp_path):
    """The idle executors finish the straggler of another job, which is younger."""
    two_workers(processes, 2)
    alone, helped = Straggler(tmp_path / "alone"), Straggler(tmp_path / "helped")
    mapfn = alone.function(1, lambda x, _: [(x, 1)])
    first = client.submit(range(4), mapfn, "sum", chunk=1, lease=LEASE, backup=False)
    eventually(lambda: alone.attempts(1))
    mapfn = helped.function(1, lambda x, _: [(x, 1)])
    second = client.submit(range(4), mapfn, "sum", chunk=1, lease=LEASE)
    assert dict(second.result(30)) == dict.fromkeys(range(4), 1)
    assert len(helped.attempts(1)) == 2
    assert len(alone.attempts(1)) == 1
    assert first.state == "mapping"
    alone.gate.write_text("")
    assert dict(first.result(30)) == dict.fromkeys(range(4), 1)
    assert len(alone.attempts(1)) == 1


def test_the_batch_of_a_stopped_executor_is_taken_over_before_its_lease_ends(
    client, processes, tmp_path
):
    marker = str(tmp_path / "stopped")

    def mapfn(x):
        redismr.count("calls")
        if x == 300:
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
                os.kill(os.getpid(), signal.SIGSTOP)
            except FileExistsError:
                pass
        return [(x % 3, x)]

    workers = two_workers(processes)
    results = client.run(range(1000), mapfn, "sum", chunk=1, lease=LEASE)
    assert dict(results) == {key: sum(range(key, 1000, 3)) for key in range(3)}
    assert results.counters["calls"] == 1000
    assert any("did not begin in time" in worker.log for worker in workers)


def test_a_batch_that_turns_out_slow_is_shared(client, processes, tmp_path):
    """The batch is sized for quick tasks and holds eight slow ones: other executors take some."""
    log = tmp_path / "log"
    name = str(log)

    def mapfn(x):
        if 200 <= x < 208:
            with open(name, "a") as file:
                file.write(f"{x}\n")
            time.sleep(0.15)
        return [(0, 1)]

    processes.worker(1)
    job = client.submit(range(600), mapfn, "sum", chunk=1, lease=LEASE)
    eventually(lambda: len(file_lines(log)()) == 8)
    assert job._read_status().maps_done > 200
    assert dict(job.result(30)) == {0: 600}
    assert len(file_lines(log)()) == 8
    assert job.progress().retries == 0


class Meeting:
    """Calls with a folder: the first waits for the test, the others wait for a second process."""

    def __init__(self, folder):
        self.folder, self.gate, self.first = str(folder), folder / "gate", folder / "first"

    @staticmethod
    def attend(folder):
        if folder:
            place = pathlib.Path(folder)
            (place / f"pid{os.getpid()}").touch()
            try:
                os.close(os.open(place / "first", os.O_CREAT | os.O_EXCL))
                eventually((place / "gate").exists, 30)
            except FileExistsError:
                eventually(lambda: len(list(place.glob("pid*"))) == 2)
        return os.getpid()

    def held(self, client, processes, source, *functions, **options):
        """Run a job whose tasks one process got together; a second process comes later."""
        options |= {"backup": False, "retries": 0}
        worker = processes.worker(1)
        for _ in range(5):
            client.run(source(""), *functions, **options)
        (executor,) = worker.executors()
        os.kill(executor, signal.SIGSTOP)
        job = client.submit(source(self.folder), *functions, **options)
        os.kill(executor, signal.SIGCONT)
        eventually(self.first.exists)
        processes.worker(1).executors()
        self.gate.touch()
        return job


@pytest.fixture
def meeting(tmp_path):
    (folder := tmp_path / "meeting").mkdir()
    return Meeting(folder)


def test_a_slow_job_is_shared_though_the_last_one_of_its_code_was_quick(client, processes, meeting):
    attend = meeting.attend
    job = meeting.held(
        client, processes, lambda folder: [folder] * 3, lambda x: [(attend(x), 1)], "sum", chunk=1
    )
    assert len(job.result(30)) == 2


def test_slow_reducers_are_shared_though_those_of_the_last_job_were_quick(
    client, processes, meeting
):
    attend = meeting.attend
    job = meeting.held(
        client, processes, lambda folder: dict.fromkeys(range(3), folder),
        lambda number, folder: [(number, folder)], lambda _key, folders: attend(folders[0]),
        partitions=3, partitionfn=lambda key, n: key % n,
    )  # fmt: skip
    assert len(set(job.result(30).values())) == 2
