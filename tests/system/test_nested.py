"""User functions may run jobs of their own, start programs, and log."""

from __future__ import annotations

import signal
import sys

import pytest
from support import eventually, is_running
from system.processes import parent_of

INNER = """
import redismr

def mapfn(n):
    yield n % 2, n

print(dict(redismr.run(range(4), mapfn, "sum", client=redismr.Client(executors=1))))
"""


def evens_and_odds(n):
    import redismr

    def mapfn(i):
        yield i % 2, i

    yield n, dict(redismr.run(range(n), mapfn, "sum", client=redismr.Client(executors=1)))


def test_a_job_inside_a_mapfn_has_a_private_server(client, processes):
    """User functions do not get the secret of the worker's server. All ends with the worker."""
    worker = processes.worker()
    assert dict(client.run([4, 5], evens_and_odds, "first")) == {4: {0: 2, 1: 4}, 5: {0: 6, 1: 4}}
    descendants = worker.descendants()
    executor = worker.executors()[0]
    assert [pid for pid in descendants if parent_of(pid) == executor], "its server and worker"
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    eventually(lambda: not any(map(is_running, descendants)))


def test_a_job_inside_a_mapfn_of_a_local_worker(embedded):
    assert dict(embedded.run([4], evens_and_odds, "first")) == {4: {0: 2, 1: 4}}


def test_a_program_that_a_mapfn_starts_has_a_private_server(client, processes, tmp_path):
    program = tmp_path / "inner.py"
    program.write_text(INNER)
    words = [sys.executable, str(program)]

    def mapfn(n):
        import subprocess

        ran = subprocess.run(words, capture_output=True, text=True, check=False)
        yield n, ran.stdout or ran.stderr

    processes.worker()
    assert dict(client.run([1], mapfn, "first")) == {1: "{0: 2, 1: 4}\n"}


@pytest.mark.parametrize("quiet", [[], ["--quiet"]])
def test_user_functions_set_up_their_own_logging(client, processes, quiet):
    """The settings of the worker's own log do not matter."""

    def mapfn(n):
        import logging

        logging.basicConfig(level=logging.INFO, format="mine: %(message)s")
        logging.getLogger("any").info("the record %s", n)
        yield n, n

    worker = processes.worker(1, *quiet, ready=not quiet)
    assert dict(client.run([7], mapfn, "first")) == {7: 7}
    worker.wait_for_output("mine: the record 7\n")
    assert ("waiting for jobs" in worker.log) == (not quiet)


def test_count_in_a_process_of_a_mapfn_is_refused(client, processes):
    def mapfn(x):
        import multiprocessing
        import subprocess
        import sys

        import redismr

        child = multiprocessing.get_context("fork").Process(target=redismr.count, args=("forked",))
        child.start()
        child.join()
        subprocess.run([sys.executable, "-c", "import redismr; redismr.count('new')"], check=True)
        redismr.count("here")
        yield x, child.exitcode

    worker = processes.worker()
    results = client.run([1], mapfn, "sum")
    assert (dict(results), results.counters) == ({1: 0}, {"here": 1})
    assert "count('forked') was called in a process that a task has started" in worker.log
    assert "count('new') was called outside a task: it is not counted" in worker.log
