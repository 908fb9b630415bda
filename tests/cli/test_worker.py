"""``redismr worker`` and ``redismr up``."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from support import eventually

from redismr import workers as worker_package
from redismr.cli import cmd_up as up_module
from redismr.cli import cmd_workers as worker_module
from redismr.config import WorkerOptions

SECRET = "e3b1a9f07d5c2864"


@pytest.fixture
def main_calls(monkeypatch):
    """The arguments of each call of ``redismr.workers.main``, which is replaced."""
    calls = []

    def main(connection, options):
        calls.append((connection, options))
        return 7

    monkeypatch.setitem(vars(worker_package), "main", main)
    monkeypatch.setattr(worker_module, "fix_hash_seed", lambda: None)
    return calls


@pytest.mark.usefixtures("named_server_env")
def test_passes_options_on_and_exits_with_the_code_of_the_supervisor(invoke, main_calls):
    words = ["-n", "3", "--burst", "--max-tasks", "9", "--parent-pipe", "5", "-q"]
    assert invoke("worker", *words, "--namespace", "n").exit_code == 7
    ((connection, options),) = main_calls
    assert (connection.url, connection.secret) == ("redis://db1:6379/0", SECRET)
    assert connection.namespace == "n"
    assert options == WorkerOptions(executors=3, burst=True, max_tasks=9, parent_pipe=5, quiet=True)


@pytest.mark.usefixtures("named_server_env")
def test_default_is_one_executor_per_core(invoke, main_calls):
    invoke("worker")
    assert main_calls[0][1].executors == worker_package.cores() >= 1


def test_string_hashes_are_the_same_in_every_worker():
    code = (
        "import sys; from redismr.cli.cmd_workers import fix_hash_seed; fix_hash_seed()\n"
        "print(sys.argv[1:], hash('whale'))"
    )
    environ = {name: text for name, text in os.environ.items() if name != "PYTHONHASHSEED"}
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code, "a", "b"],
            env=environ | extra, capture_output=True, text=True, check=True,
        ).stdout
        for extra in ({}, {}, {"PYTHONHASHSEED": "5"}, {"PYTHONHASHSEED": "0"})
    }  # fmt: skip
    assert len(outputs) == 1
    assert outputs.pop().startswith("['a', 'b'] ")


def test_a_python_that_ignores_its_environment_is_not_restarted_forever():
    code = (
        f"import sys; sys.path.insert(0, {os.environ['PYTHONPATH']!r})\n"
        "from redismr.cli.cmd_workers import fix_hash_seed; fix_hash_seed(); print('on')"
    )
    done = subprocess.run(
        [sys.executable, "-E", "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == "on\n"


def run_up(*words, environ=None):
    """Start `redismr up`, read its two lines, and send Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "redismr", "up", *words],
        env={**os.environ, **(environ or {})},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        lines = [process.stdout.readline(), process.stdout.readline()]
        process.send_signal(signal.SIGINT)
        rest, stderr = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    return SimpleNamespace(lines=lines, rest=rest, stderr=stderr, code=process.returncode)


def test_up_prints_how_to_join_and_ends_on_ctrl_c():
    up = run_up("-n", "0")
    export, worker = up.lines
    assert export.startswith("export REDISMR_URL=redis://redismr:")
    assert "@127.0.0.1:" in export
    assert len(export.split("REDISMR_SECRET=")[1].strip()) == 64
    assert worker == "redismr worker\n"
    assert (up.rest, up.stderr, up.code) == ("", "", 0)


def test_up_explains_its_lines_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    up_module._print_join_help(1, any_machine=False, url_is_stable=False)
    up_module._print_join_help(2, any_machine=True, url_is_stable=True)
    assert capsys.readouterr().err == (
        "redismr: the server runs until Ctrl-C, with 1 local executor. To join it from this "
        "machine (others: --bind 0.0.0.0), type these lines, new at each start without --port "
        "and REDISMR_SECRET:\n"
        "redismr: the server runs until Ctrl-C, with 2 local executors. To join it from any "
        "machine, type these lines:\n"
    )


def test_up_uses_the_secret_of_the_environment():
    up = run_up("-n", "0", environ={"REDISMR_SECRET": SECRET})
    assert up.lines[0].endswith(f"REDISMR_SECRET={SECRET}\n")


def test_up_has_the_same_url_after_a_restart():
    """The URL can stand in a unit file, and --print shows the URL before the first start."""
    words = ("--port", str(free_port()), "--namespace", "team1")
    given = {"REDISMR_SECRET": SECRET}
    first, again = (run_up("-n", "0", *words, environ=given).lines for _ in range(2))
    printed = subprocess.run(  # ends by itself
        [sys.executable, "-m", "redismr", "up", "--print", *words],
        env={**os.environ, **given}, capture_output=True, text=True,
    )  # fmt: skip
    assert first == again == printed.stdout.splitlines(keepends=True)
    assert f":{words[1]}/0 REDISMR_SECRET={SECRET} REDISMR_NAMESPACE=team1\n" in first[0]
    assert printed.returncode == 0


@pytest.mark.parametrize("words", [(), ("--port", "6380")])
def test_up_print_refuses_a_url_that_changes_at_each_start(invoke, words):
    result = invoke("up", "--print", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "needs a --port and a REDISMR_SECRET" in result.stderr


def test_up_quiet_prints_no_secret():
    words = ["up", "-n", "0", "-q", "--port", str(port := free_port())]
    process = subprocess.Popen(
        [sys.executable, "-m", "redismr", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        eventually(lambda: is_listening(port))
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20) == ("", None)
    finally:
        process.kill()
        process.wait()


def free_port():
    """Return a port that no process listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_listening(port):
    """True if a process listens on the port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_up_on_a_wildcard_prints_an_address_that_others_can_reach():
    up = run_up("-n", "0", "--bind", "0.0.0.0")  # noqa: S104
    assert f"@{up_module._advertised_address('*')}:" in up.lines[0]


def test_up_reports_an_invalid_address(invoke):
    result = invoke("up", "-n", "0", "--bind", "300.1.1.1")
    assert result.exit_code == 2
    assert result.stderr.startswith("redismr: cannot serve on 300.1.1.1: ")
    assert "Unknown error" not in result.stderr


def test_up_reports_a_port_in_use(invoke):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = invoke("up", "-n", "0", "--port", str(other.getsockname()[1]))
    assert result.exit_code == 2
    assert "in use" in result.stderr
