"""Scripts without a guard that are imported: their job must not start itself, without end.

All recursions in here are bounded: by two nets, of which each test takes away one at most.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import REPOSITORY
from system.processes import run_command, write_script

JOB = """
    import os, redismr

    with open(os.environ["LOADS"], "a") as loads:
        loads.write(os.environ.get("REDISMR_DEPTH", "0") + "\\n")

    def mapfn(x):
        yield x % 2, 1

    def go():
        print(dict(redismr.run(range(4), mapfn, "sum")))

    go()
"""
NO_FIRST_NET = "import redismr.process_guards as p; p.refuse_while_loading = lambda: None"
SECOND_NET_FAR_BELOW = "import redismr.process_guards as p; p.MAX_DEPTH = 5"

IN_A_THREAD = """
import threading
thread = threading.Thread(target=__import__, args=["job"])
thread.start()
thread.join()
"""
IMPORTED = {
    "-c": ["-c", "import job"],
    "a main": ["main.py"],
    "REPL": ["-i", "-c", "import job"],
    "runpy": ["-c", "import runpy; runpy.run_path('job.py')"],
    "package": ["-c", "import pkg.job"],
    "pytest": ["-m", "pytest", "-p", "no:valkey", "test_job.py"],
    "thread": ["-c", IN_A_THREAD],
}
SCRIPTS = {
    "script": ["job.py"],
    "module": ["-m", "pkg.job"],
    "runpy": ["-c", "import runpy; runpy.run_path('job.py', run_name='__main__')"],
    "text": ["-c", "exec(open('job.py').read())"],
}


@pytest.fixture
def folder(tmp_path):
    write_script(tmp_path, JOB, "job.py")
    (tmp_path / "pkg").mkdir()
    write_script(tmp_path / "pkg", JOB, "job.py")
    for name in ("main.py", "test_job.py"):
        (tmp_path / name).write_text("import job\n")
    return tmp_path


def python(folder, words, name="loads", **env):
    """Run a program; return its output, and how often its module was loaded at each depth."""
    loads = folder / name
    done = run_command(sys.executable, *words, cwd=folder, secret=None, LOADS=str(loads), **env)
    return done, Counter(map(int, loads.read_text().split()))


def at_once(folder, ways):
    with ThreadPoolExecutor(4) as pool:
        outcomes = pool.map(lambda way: python(folder, ways[way], f"loads of {way}"), ways)
        return dict(zip(ways, outcomes, strict=True))


def test_an_imported_module_that_runs_a_job_gets_one_clear_error(folder):
    for way, (done, loads) in at_once(folder, IMPORTED).items():
        printed = done.stdout + done.stderr
        place = folder / ("pkg/job.py" if way == "package" else "job.py")
        where = "job.py" if way == "runpy" else str(place)
        assert f"{where}, line 13, calls run() while it is imported" in printed, (way, printed)
        assert 'Put the call under `if __name__ == "__main__":`' in printed, way
        assert "attempt 1 of 4" in printed, (way, "it is not tried again")
        assert loads[0] == 1, way
        assert set(loads) == {0, 1}, (way, loads)


def test_the_same_text_runs_as_a_script(folder):
    for way, (done, loads) in at_once(folder, SCRIPTS).items():
        assert (done.stdout, done.stderr) in {("{0: 2, 1: 2}\n", ""), ("{1: 2, 0: 2}\n", "")}, way
        assert loads == {0: 1}, way


def test_the_load_guard_alone_is_enough(folder):
    (folder / "sitecustomize.py").write_text(SECOND_NET_FAR_BELOW)
    path = {"PYTHONPATH": f"{folder}:{REPOSITORY}"}
    done, loads = python(folder, ["-c", "import job"], **path)
    assert "calls run() while it is imported" in done.stderr
    assert set(loads) == {0, 1}


def test_the_depth_guard_alone_is_enough(folder):
    """The job stops at a small depth, and the message arrives at the top."""
    (folder / "sitecustomize.py").write_text(NO_FIRST_NET)
    path = {"PYTHONPATH": f"{folder}:{REPOSITORY}"}
    done, loads = python(folder, ["-c", "import job"], **path)
    assert "MapError: RunawayJob: this is a job inside a job, 3 deep" in done.stderr, done.stderr
    assert 'put the call under `if __name__ == "__main__":`' in done.stderr
    assert max(loads) == 3
    assert sum(loads.values()) <= 1 + 3 * 4, loads


def test_a_mapfn_that_runs_its_own_job_is_stopped(tmp_path):
    program = """
        import redismr

        def mapfn(x):
            yield x, dict(redismr.run([x], mapfn, "first", retries=0))

        if __name__ == "__main__":
            redismr.run([1], mapfn, "first", retries=0)
    """
    done = run_command(sys.executable, write_script(tmp_path, program), secret=None)
    assert "RunawayJob: this is a job inside a job, 3 deep" in done.stderr


def test_nested_executors_share_the_cores_of_the_one_above():
    code = (
        "import os; from redismr.workers import cores\n"
        "from redismr.workers.process_setup import prepare_process\n"
        "prepare_process(1); prepare_process(max(1, cores() // 4)); print(cores(), os.environ['REDISMR_DEPTH'])"  # noqa: E501
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 2\n"
