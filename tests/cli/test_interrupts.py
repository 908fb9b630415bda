"""Ctrl-C at each stage of a command: exit code 130, one line, no traceback, never lost."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap

import pytest

INTERRUPT_ON_IMPORT = """
    import os, signal, sys

    class Trap:
        def find_spec(self, name, path=None, target=None):
            if name == os.environ.get("INTERRUPT_ON_IMPORT"):
                os.kill(os.getpid(), signal.SIGINT)

    sys.meta_path.insert(0, Trap())
    if os.environ.get("TRAP_SEED") and os.environ.get("PYTHONHASHSEED") == "0":
        os.kill(os.getpid(), signal.SIGINT)
"""

JOB_FILE = """
    import atexit, os, signal, time, weakref

    def interrupt(*_):
        os.kill(os.getpid(), signal.SIGINT)

    class Thing:
        pass

    source = [1]
    def mapfn(x):
        yield x, 1
"""

INTERRUPTED_LINE = "redismr: interrupted\n"


@pytest.fixture
def run_command(work_folder):
    """A function that runs a command, interrupts its import of ``trap``, and returns its end."""
    (work_folder / "sitecustomize.py").write_text(textwrap.dedent(INTERRUPT_ON_IMPORT))

    def run(*words, trap="", stderr=subprocess.PIPE, **environ):
        path = os.pathsep.join([str(work_folder), os.environ["PYTHONPATH"]])
        done = subprocess.run(
            [sys.executable, "-m", "redismr", *words],
            env={**os.environ, "PYTHONPATH": path, "INTERRUPT_ON_IMPORT": trap, **environ},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, text=True,
            timeout=30, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize(
    "trap",
    [
        "redismr.import_watcher",
        "redismr.__main__",
        "redismr.cli",
        "click",
        "redismr.cli.cmd_run",
        "redismr.local",
    ],
)
def test_while_modules_are_imported(run_command, write_job_file, trap):
    file = write_job_file(textwrap.dedent(JOB_FILE))
    assert run_command("run", "--inline", file, trap=trap) == (130, "", INTERRUPTED_LINE)


def test_in_a_callback_whose_exceptions_python_drops(run_command, write_job_file):
    dropped = """
    thing = Thing()
    kept = weakref.ref(thing, interrupt)
    del thing
    time.sleep(60)
    """
    file = write_job_file(textwrap.dedent(JOB_FILE + dropped))
    assert run_command("run", "--inline", file) == (130, "", INTERRUPTED_LINE)


def test_a_second_time_during_the_cleanup_after_the_first(run_command, write_job_file):
    twice = """
    try:
        interrupt()
        time.sleep(60)
    finally:
        interrupt()
        time.sleep(60)
    """
    file = write_job_file(textwrap.dedent(JOB_FILE + twice))
    assert run_command("run", "--inline", file) == (130, "", INTERRUPTED_LINE)


@pytest.mark.parametrize("first", ["", "interrupt()"])
def test_at_the_end_of_the_process(run_command, write_job_file, first):
    at_exit = f"""
    atexit.register(time.sleep, 60)
    atexit.register(interrupt)
    {first}
    """
    file = write_job_file(textwrap.dedent(JOB_FILE + at_exit))
    code, _, stderr = run_command("run", "--inline", file)
    assert (code, stderr) == (130, INTERRUPTED_LINE)


def test_while_a_worker_restarts_python(run_command):
    worker = ("worker", "--url", "redis://127.0.0.1:1")
    secret = {"REDISMR_SECRET": "e3b1a9f07d5c2864", "PYTHONHASHSEED": "random"}
    assert run_command(*worker, TRAP_SEED="1", **secret) == (130, "", INTERRUPTED_LINE)


def test_on_a_terminal_the_message_has_a_line_of_its_own(run_command):
    controller_fd, terminal_fd = pty.openpty()
    try:
        assert run_command("secret", trap="click", stderr=terminal_fd)[:2] == (130, "")
        assert os.read(controller_fd, 1000) == b"\r\nredismr: interrupted\r\n"
    finally:
        os.close(controller_fd)
        os.close(terminal_fd)


def test_a_process_that_ignores_interrupts_still_does(run_command):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code, stdout, stderr = run_command("secret", trap="click")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, len(stdout), stderr) == (0, 65, "")


def test_importing_redismr_leaves_the_interrupt_handler_of_a_program(work_folder):
    code = "import signal, redismr; print(signal.getsignal(2) is signal.default_int_handler)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
