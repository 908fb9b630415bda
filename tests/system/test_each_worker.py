"""S13: with ``each_worker`` every worker runs one map task, and the source may be endless."""

from __future__ import annotations

import itertools
import os
import threading

import pytest
from support import eventually
from system.crew import file_lines

import redismr
from redismr.client import each


def who(number, item):
    """Who ran which item."""
    yield os.getppid(), item


def logging_to(path, gate=None):
    """A mapfn that notes who runs it, and then waits for a file, if one is named."""
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


class InThread:
    """A run under way."""

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


def test_s13_each_connected_worker_gets_one_task_of_an_endless_source(crew, client, tmp_path):
    for executors in (1, 2, 3):
        crew.worker(executors)
    eventually(lambda: len(client.workers()) == 3)
    gate = tmp_path / "gate"
    mapfn = logging_to(tmp_path / "log", gate)
    job = InThread(client, itertools.count(), mapfn, each_worker=True)
    lines = file_lines(tmp_path / "log")
    eventually(lambda: len(lines()) == 3)
    gate.touch()
    assert sorted(job.result()) == [0, 1, 2]
    assert len(lines()) == len(set(lines())) == 3
    assert len({line.split()[1] for line in lines()}) == 3


def test_s13_who_joins_while_others_still_map_gets_one_too(crew, client, tmp_path):
    crew.worker(2)
    gate, lines = tmp_path / "gate", file_lines(tmp_path / "log")
    job = InThread(
        client, itertools.count(), logging_to(tmp_path / "log", gate), "list", each_worker=True
    )
    eventually(lambda: len(lines()) == 1)
    crew.worker(2)
    eventually(lambda: len(lines()) == 2)
    gate.touch()
    result = job.result()
    assert sorted(result) == [0, 1]
    assert result[0] != result[1]


def test_s13_a_source_with_fewer_items_than_workers_is_enough_for_some(crew, client):
    for _ in range(3):
        crew.worker()
    eventually(lambda: len(client.workers()) == 3)
    assert sum(map(len, client.run(["only"], who, each_worker=True).values())) == 1
    assert dict(client.run([], who, each_worker=True)) == {}


@pytest.mark.slow
def test_s13_no_task_is_given_to_another_worker_when_one_dies(crew, client, tmp_path, monkeypatch):
    monkeypatch.setattr(each, "SILENT_SECONDS", 6.0)  # a beat comes every 5
    gate, lines = tmp_path / "gate", file_lines(tmp_path / "log")
    crew.worker()
    victim = crew.worker()
    eventually(lambda: len(client.workers()) == 2)
    mapfn = logging_to(tmp_path / "log", gate)
    job = InThread(client, itertools.count(), mapfn, each_worker=True, lease=1)
    eventually(lambda: len(lines()) == 2)
    victim.kill()
    gate.touch()
    assert len(job.result()) == 1
    assert len(lines()) == 2


def test_s13_nobody_there_is_said_and_ends_where_it_is_to_end(crew, client):
    with pytest.raises(redismr.NoWorkers, match="no workers are connected"):
        client.run(itertools.count(), who, each_worker=True, wait_for_workers=0.5)


def test_s13_an_error_on_a_worker_ends_the_job(crew, client):
    def mapfn(number, item):
        raise ZeroDivisionError(f"of item {item}")

    crew.worker()
    crew.worker()
    with pytest.raises(redismr.MapError, match="of item"):
        client.run(itertools.count(), mapfn, each_worker=True)


def test_s13_inline_is_one_worker():
    result = redismr.run(itertools.count(5), who, each_worker=True, inline=True)
    assert list(result.values()) == [[5]]


def test_each_worker_is_true_or_false():
    with pytest.raises(redismr.ConfigError, match="each_worker"):
        redismr.run([], who, each_worker=1, inline=True)
