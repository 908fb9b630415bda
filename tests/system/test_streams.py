"""Standard streams that are closed, full or not read, of every command: a table."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import eventually
from system.processes import run_command, shell_env, write_script

import redismr
from redismr.cli import SUBCOMMANDS

JOB = """
    source = range(40)
    def mapfn(x):
        print("a print on the worker", flush=True)
        yield x, "x" * 500
"""
CLOSED = "<&- >&- 2>&-"


@pytest.fixture(scope="module")
def streams_setup(tmp_path_factory):
    """A server, a worker without open streams, a job that succeeded and one that failed."""
    folder = tmp_path_factory.mktemp("streams")
    write_script(folder, JOB, "job.py")
    (folder / "typed").write_text(f"{folder}/job.py\n" * 2)
    with redismr.serve() as server:
        url, secret = server.connection.url, server.connection.secret
        env = shell_env(url, secret, PYTHONUNBUFFERED="", TMPDIR=str(folder))
        worker = subprocess.Popen(
            ["bash", "-c", f"exec {sys.executable} -m redismr worker -n 1 {CLOSED}"], env=env
        )
        with redismr.Client(url, secret=secret) as client:
            eventually(client.workers, 20)
            done = client.submit(range(40), lambda x: [(x, "x" * 500)])
            failed = client.submit([1], lambda x: 1 // 0, retries=0)
            assert done.wait(20) and failed.wait(20)
            assert done.state == "succeeded"
            ids = SimpleNamespace(done=done.id, failed=failed.id)
            yield SimpleNamespace(folder=folder, env=env, client=client, worker=worker, ids=ids)
            assert worker.poll() is None, "its jobs are done, whatever becomes of its prints"
            worker.terminate()
            assert worker.wait(20) == 0


COMMANDS = {
    # name: (what is typed, lines that it prints or None for any number above 0, exit code)
    "run": ("run job.py", 40, 0),
    "run embedded": ("run -n 1 job.py", 40, 0),
    "run inline": ("run --inline job.py | sed '/a print/d'", None, 0),
    "submit": ("submit job.py", 1, 0),
    "jobs": ("jobs", None, 0),
    "watch": ("watch {done}", 0, 0),
    "result": ("result {done}", 40, 0),
    "result of a failed job": ("result {failed}", 0, 1),
    "errors": ("errors {failed}", 2, 0),
    "cancel": ("cancel {done}", 1, 0),
    "workers": ("workers --json", None, 0),
    "worker": ("worker -n 1 --burst", 0, 0),
    "repl": ("repl < typed", None, 0),
    "secret": ("secret", 1, 0),
    "acl": ("acl worker", 1, 0),
    "mincemeat": ("mincemeat -P 1", 0, 3),
    "octo": ("octo client", 0, 2),
    "delete": ("delete nosuch", 0, 2),
    "help": ("--help", None, 0),
    "usage": ("nonsense", 0, 2),
}


def shell(streams_setup, typed, streams=""):
    words = typed.format(**vars(streams_setup.ids))
    env = streams_setup.env
    if words.startswith("run -n"):
        env = {name: text for name, text in env.items() if not name.startswith("REDISMR_")}
    command = f"set -o pipefail; {sys.executable} -m redismr {words}"
    if " | " in command:
        command = command.replace(" | ", f" {streams} | ")
    else:
        command += f" {streams}"
    return subprocess.run(
        ["bash", "-c", command], env=env, cwd=streams_setup.folder, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def run_all(streams_setup, streams, commands=COMMANDS):
    """Run all commands with these streams, some at a time."""
    with ThreadPoolExecutor(3) as pool:
        outcomes = pool.map(lambda name: shell(streams_setup, COMMANDS[name][0], streams), commands)
        return list(zip(commands, outcomes, strict=True))


def test_every_command_is_in_the_table():
    words = {typed.split()[0] for typed, _, _ in COMMANDS.values()} | {"up", "listen"}
    assert words >= set(SUBCOMMANDS)


@pytest.mark.parametrize("streams", ["<&- 2>&-", "2>/dev/full"])
def test_output_is_right_whatever_else_is_closed_or_full(streams_setup, streams):
    commands = COMMANDS if "<" in streams else ["run", "run embedded", "result", "worker"]
    commands = [name for name in commands if name != "repl" or "<" not in streams]
    for name, done in run_all(streams_setup, streams, commands):
        _, lines, code = COMMANDS[name]
        assert done.returncode == code, (name, done)
        found = len(done.stdout.splitlines())
        assert found == lines or (lines is None and found), (name, done.stdout)
        assert done.stderr == "", name


RESULTS = {"run": 1, "run embedded": 1, "submit": 1, "result": 1, "repl": 2}
"""Commands, and how many results each could not print."""


@pytest.mark.parametrize(
    ("streams", "why"),
    [
        (">/dev/full", "No space left on device"),
        (">&-", "Bad file descriptor"),
        ("| true", "Broken pipe"),
    ],
)
def test_output_that_is_lost_is_one_line_of_error_and_an_exit_code(streams_setup, streams, why):
    """The error line names the place of the result, and the result is there."""
    commands = [name for name, (typed, *_) in COMMANDS.items() if " | " not in typed]
    if streams != ">/dev/full":
        commands = [*RESULTS, "jobs"] if streams == ">&-" else RESULTS
    for name, done in run_all(streams_setup, streams, commands):
        _, lines, code = COMMANDS[name]
        assert "Traceback" not in done.stderr, (name, done.stderr)
        assert done.returncode == (code if lines == 0 else 4), (name, done)
        if lines == 0:
            continue
        error_lines = done.stderr.replace("a print on the worker\n", "").splitlines()
        hints = [line for line in error_lines if re.search("redismr result |result is in", line)]
        assert len(hints) == RESULTS.get(name, 0), (name, error_lines)
        for hint in hints:
            assert count_result_keys(streams_setup, hint) == (12 if name == "repl" else 40), (
                name,
                hint,
            )
        lost = f"redismr: cannot write to standard output: {why}"
        about = [line.partition(";")[0] for line in error_lines if "Transaction" not in line]
        assert about == [lost], (name, error_lines)


def count_result_keys(streams_setup, message):
    """Return how many keys the result has to which an error message leads."""
    if saved := re.search(r"the result is in (\S+)$", message):
        return len(Path(saved[1]).read_text().splitlines())
    job = re.search(r"redismr result (\S+)( --wait)?$", message)
    return len(streams_setup.client.attach(job[1]).result(20))


def test_without_any_stream_the_exit_code_tells(streams_setup):
    for streams in (CLOSED, ">/dev/full 2>/dev/full"):
        for name, done in run_all(
            streams_setup, streams, ["run", "run embedded", "submit", "secret"]
        ):
            assert (done.returncode, done.stdout, done.stderr) == (4, "", ""), name


def test_a_pipe_that_is_closed_later_gives_no_error(streams_setup):
    for typed in ("run -q job.py", "result {done}", "--help"):
        done = shell(streams_setup, typed, "| head -1")
        assert (done.returncode, done.stderr) == (0, ""), typed
        assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("typed", ["--help", "--version", "run --help", "jobs"])
def test_a_pipe_that_was_closed_before_gives_no_error(streams_setup, typed):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "redismr", *typed.split()], env=streams_setup.env, cwd=streams_setup.folder,  # noqa: E501
        stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
    )  # fmt: skip
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_function_of_an_inline_job_that_prints_to_a_full_disk(streams_setup):
    done = shell(streams_setup, "run --inline job.py", ">/dev/full")
    assert done.returncode == 4
    assert done.stderr == (
        "redismr: cannot write to standard output: No space left on device; a function of the job "
        "printed there, so the job has failed\n"
    )


def test_endless_commands_end_when_their_output_is_lost(streams_setup):
    with ThreadPoolExecutor(2) as pool:
        up = pool.submit(shell, streams_setup, "up -n 1", ">/dev/full")
        listen = pool.submit(shell, streams_setup, "listen", ">/dev/full")
        while not listen.done():  # it may not listen yet
            dict(streams_setup.client.run([1], lambda x: [(x, 1)], "sum"))
        for done in (up.result(), listen.result()):
            assert (done.returncode, done.stderr) == (
                4, "redismr: cannot write to standard output: No space left on device\n",
            )  # fmt: skip


PROGRAM = """
    import os, sys, redismr

    def mapfn(x):
        print("a print on the worker", flush=True)
        print("another", file=sys.stderr)
        os.system("echo and one of a child")
        yield x, x

    if __name__ == "__main__":
        found = dict(redismr.run(range(4), mapfn, "sum", progress=True))
        with open("found", "w") as file:
            file.write(str(sum(found.values())))
"""


@pytest.mark.parametrize(
    "streams", ["<&-", ">&-", "2>&-", CLOSED, "2>/dev/full", ">/dev/full 2>/dev/full"]
)
def test_a_program_has_its_result_and_ends_well(tmp_path, streams):
    write_script(tmp_path, PROGRAM)
    done = run_command(
        "bash", "-c", f"{sys.executable} script.py {streams}",
        cwd=tmp_path, secret=None,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
    assert (tmp_path / "found").read_text() == "6"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_pipe_that_is_full_for_a_while_is_waited_for(unbuffered):
    """A parent with an event loop, which shares the pipe, has made it non-blocking."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    code = (
        "from redismr import standard_streams; standard_streams.use_safe_streams(strict=True)\n"
        "print('x' * 1_000_000); import sys; sys.stdout.flush()"
    )
    env = shell_env(PYTHONUNBUFFERED=unbuffered)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=writer, env=env)
    os.close(writer)
    with open(reader) as pipe:
        assert len(pipe.read()) == 1_000_001
    assert child.wait(10) == 0
