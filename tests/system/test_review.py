"""Bugs that a review found: each test fails without the fix."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support import eventually, is_running
from system.processes import shell_env

import redismr


def run_script(tmp_path, text, *arguments, timeout=60):
    script = tmp_path / "script.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True, text=True, timeout=timeout, cwd=tmp_path, check=False, env=shell_env(),
    )  # fmt: skip


def test_loaded_code_is_not_reused_for_other_params(tmp_path):
    done = run_script(
        tmp_path,
        "import redismr\n"
        "cache = {}\n"
        "def mapfn(x):\n"
        "    if 'n' not in cache:\n"
        "        cache['n'] = redismr.param('n')\n"
        "    yield 'sum', cache['n']\n"
        "for n in (1, 100):\n"
        "    print(redismr.run(range(3), mapfn, 'sum', params={'n': n})['sum'])\n",
    )
    assert done.stdout.split() == ["3", "300"], done.stderr


def test_a_function_with_a_cache_travels(tmp_path):
    done = run_script(
        tmp_path,
        "import functools, redismr\n"
        "@functools.lru_cache(maxsize=7)\n"
        "def double(x):\n"
        "    return 2 * x\n"
        "def mapfn(x):\n"
        "    yield 'sum', double(x)\n"
        "print(redismr.run(range(4), mapfn, 'sum')['sum'])\n",
    )
    assert done.stdout.split() == ["12"], done.stderr


def test_processes_of_user_code_obey_sigterm():
    def mapfn(x):
        child = subprocess.Popen(["sleep", "60"])
        child.terminate()
        yield "status", child.wait(20)

    assert redismr.run([1], mapfn, "sum")["status"] == -signal.SIGTERM


def test_a_local_worker_that_died_is_replaced(tmp_path):
    mark = tmp_path / "died"

    def mapfn(x):
        if not mark.exists():
            mark.touch()
            os.kill(os.getppid(), signal.SIGKILL)  # the fork server, and with it the worker
        yield "n", 1

    with redismr.Client(executors=1) as client:
        found = client.run(range(3), mapfn, "sum", chunk=1, lease=0.5, lost_leases=9)
    assert dict(found) == {"n": 3}


def test_a_forked_child_does_not_keep_the_workers_alive(tmp_path):
    done = run_script(
        tmp_path,
        "import os, sys, redismr, time\n"
        "r = redismr.run([1], lambda x: [('pid', os.getppid())], 'sum', inline=False)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.close(0); os.close(1); os.close(2)\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "print(child, r['pid'])\n"
        "sys.stdout.flush()\n"
        "os.kill(os.getpid(), 9)\n",
    )
    child, fork_server = map(int, done.stdout.split())
    try:
        eventually(lambda: not is_running(fork_server), message="the worker outlived its client")
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_job_file_that_runs_itself_is_refused(tmp_path):
    (tmp_path / "wc.py").write_text(
        "import redismr\ndef mapfn(x):\n    yield x, 1\nprint(redismr.run([1], mapfn, 'sum'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "redismr", "run", "wc.py"],
        capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False, env=shell_env(),
    )  # fmt: skip
    assert done.returncode == 2
    assert "runs its job by itself" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("again", [lambda g: g, redismr.pairs])
def test_a_spent_generator_is_refused(again):
    source = ((x, x) for x in range(3))
    assert len(redismr.run(again(source), lambda k, v: [(k, v)], inline=True)) == 3
    with pytest.raises(redismr.ConfigError, match="read to its end already"):
        redismr.run(again(source), lambda k, v: [(k, v)], inline=True)


def test_errors_of_run_show_no_frames_of_redismr(tmp_path):
    done = run_script(tmp_path, "import redismr\nredismr.run('none*.txt', len)\n")
    assert "no file matches" in done.stderr
    assert done.stderr.count("File ") <= 2, done.stderr
