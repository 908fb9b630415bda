"""A forked child has copies of its parent's results, clients and servers, and ends none."""

from __future__ import annotations

import subprocess
import sys

import pytest
from support import eventually, is_running
from system.processes import run_command, shell_env, write_script

ENDS = """
    import gc, multiprocessing, os, sys, time
    import redismr

    def mapfn(x):
        yield x % 3, "v" * 1000

    def exits():
        global results
        del results
        gc.collect()
        sys.exit()

    def closes():
        client.close()
        results.close()

    def leaves_the_block():
        with client, results:
            pass

    def raises():
        raise ZeroDivisionError

    def becomes_another():
        os.execv(sys.executable, [sys.executable, "-c", ""])

    def reads():
        assert whole(results)
        assert len(results[0]) == 1000

    def has_a_job_of_its_own():
        assert dict(redismr.run([1], mapfn, "count", client=client)) == {1: 1}
        assert client.jobs()

    def forked_by_multiprocessing():
        fork = multiprocessing.get_context("fork")
        with fork.Pool(2) as pool:
            assert pool.map(length, range(3)) == [1000] * 3

    def length(key):
        return len(results[key])

    def whole(results):
        return {k: len(v) for k, v in results.items()} == {0: 1000, 1: 1000, 2: 1000}

    WAYS = [exits, closes, leaves_the_block, raises, becomes_another, reads, has_a_job_of_its_own,
            forked_by_multiprocessing]

    if __name__ == "__main__":
        client = redismr.Client(executors=2)
        results = client.run(range(3000), mapfn, "list")
        for way in WAYS:
            pid = os.fork()
            if pid == 0:
                sys.stderr = open(os.devnull, "w") if way is raises else sys.stderr
                way()
                sys.exit()
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            print(way.__name__, status, whole(results))
        assert len(client.jobs()) == 1
"""
RIGHT = """exits 0 True
closes 0 True
leaves_the_block 0 True
raises 1 True
becomes_another 0 True
reads 0 True
has_a_job_of_its_own 0 True
forked_by_multiprocessing 0 True
"""


def test_however_a_child_ends_its_parent_keeps_the_results(processes, client, tmp_path):
    """Both go on to use the server; the job is deleted when the parent ends."""
    processes.worker(2)
    done = run_command(sys.executable, write_script(tmp_path, ENDS), url=processes.url)
    assert (done.stdout, done.stderr) == (RIGHT, "")
    assert client.jobs() == []


def test_however_a_child_ends_its_parent_keeps_its_server(tmp_path):
    done = run_command(sys.executable, write_script(tmp_path, ENDS), secret=None)
    assert (done.stdout, done.stderr) == (RIGHT, "")


@pytest.mark.parametrize("where", ["source", "progress"])
def test_a_child_that_is_forked_while_a_job_runs_does_not_cancel_it(
    processes, client, tmp_path, where
):
    program = f"""
        import os, sys, redismr

        def leaves(*_):
            pid = os.fork()
            if pid == 0:
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
            return 1

        def mapfn(x):
            yield x, 1

        if __name__ == "__main__":
            source = (leaves() + n for n in range(3)) if {where == "source"} else range(1, 4)
            progress = leaves if {where == "progress"} else None
            print(dict(redismr.run(source, mapfn, "sum", progress=progress)))
    """
    processes.worker(1)
    # Python 3.12 and newer warn of a fork in a process with threads, as the submitter is.
    quiet = "-W", "ignore:This process:DeprecationWarning"
    done = run_command(sys.executable, *quiet, write_script(tmp_path, program), url=processes.url)
    assert (done.stdout, done.stderr) == ("{1: 1, 2: 1, 3: 1}\n", "")
    assert client.jobs() == []


def test_a_child_keeps_nothing_of_its_parents_alive(tmp_path):
    """Server and worker end with the parent, although the child goes on."""
    program = """
        import os, subprocess, sys, time, redismr

        if __name__ == "__main__":
            dict(redismr.run([1], lambda x: [(x, 1)], "sum"))
            said = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True)
            rows = [line.split() for line in said.stdout.splitlines()]
            ours = [pid for pid, parent in rows if int(parent) == os.getpid()]
            pid = os.fork()
            if pid == 0:
                os.close(1)
                os.read(0, 1)
                os._exit(0)
            print(*ours)
    """
    with subprocess.Popen(
        [sys.executable, write_script(tmp_path, program)],
        env=shell_env(secret=None), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        assert parent.stdin and parent.stdout
        started = [int(pid) for pid in parent.stdout.read().split()]
        assert len(started) >= 2
        eventually(lambda: not any(map(is_running, started)), message="kept alive by the child")
        parent.stdin.close()
    assert parent.returncode == 0
