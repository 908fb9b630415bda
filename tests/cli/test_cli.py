"""The command group: help, exit codes, and how errors are shown."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

import redismr
from redismr import errors, native
from redismr.cli import SUBCOMMANDS, cli, exit_codes
from redismr.core.model import Failure
from redismr.core.task_errors import make_task_error, source_raised_error


def python(*words, **options):
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, **options
    )


def test_help_lists_every_subcommand(invoke):
    help_text = invoke("--help").stdout
    assert all(f"\n  {subcommand} " in help_text for subcommand in SUBCOMMANDS)


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_subcommand_has_help_and_a_line_in_the_table(invoke, subcommand):
    result = invoke(subcommand, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: redismr {subcommand} ")
    assert SUBCOMMANDS[subcommand][1].endswith(".")


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_option_has_help(subcommand):
    command = cli.get_command(None, subcommand)
    for param in command.params:
        if isinstance(param, click.Option) and not param.hidden:
            assert param.help, param.name


@pytest.mark.parametrize("subcommand", ["jobs", "workers", "errors", "result", "run"])
def test_listings_have_json(subcommand):
    assert "--json" in {
        opt for param in cli.get_command(None, subcommand).params for opt in param.opts
    }


def test_help_imports_no_subcommand_and_nothing_heavy():
    code = (
        "import sys; sys.argv = ['redismr', '--help']; import redismr.cli\n"
        "try: redismr.cli.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'rich', 'redis', 'cloudpickle', 'redismr.client', 'redismr.cli.cmd_run'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    assert python("-c", code).stderr == ""


def test_python_dash_m():
    done = python("-m", "redismr", "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"redismr {redismr.__version__} ({native.DESCRIPTION})\n"


def test_the_c_extension_can_be_switched_off():
    done = python("-m", "redismr", "--version", env={**os.environ, "REDISMR_NATIVE": "0"})
    assert done.stdout.endswith(" (without the C extension)\n")


@pytest.mark.parametrize("words", [["nonsense"], ["run"], ["run", "--nonsense"], ["jobs", "x"]])
def test_usage_errors(invoke, words):
    result = invoke(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith("redismr: ")
    assert "--help" in result.stderr
    assert result.stdout == ""


def test_a_missing_role_is_a_usage_error_of_one_line(invoke):
    result = invoke("acl")
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "'ROLE'. Choose from: worker, submitter, monitor (see `redismr acl --help`)" in line


FAILURE = Failure(
    kind="error", stage="map", task="m1", function="mapfn",
    error_module="builtins", error_name="EOFError", message="no more",
)  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("x"), 2),
        (errors.SourceError("x"), 2),
        (errors.SourceRaised("x"), 1),
        (source_raised_error("x", ConnectionError("x")), 1),
        (errors.JobNotFound("x"), 2),
        (errors.WrongSecret("x"), 2),
        (errors.StoreUnavailable("x"), 3),
        (errors.NoWorkers("x"), 3),
        (errors.JobTimeout("x"), 3),
        (errors.JobCancelled("x"), 130),
        (errors.JobFailed("x"), 1),
        (errors.CodeError("x"), 1),
        (errors.SealError("x"), 1),
        (errors.MapError("x"), 1),
    ],
)
def test_exit_codes(fake_redismr, named_server_env, invoke, error, code):
    fake_redismr.jobs_by_id["j"] = fake_job = type("Job", (), {})()
    fake_job.result = lambda timeout=None, finish=True: (_ for _ in ()).throw(error)
    result = invoke("result", "j")
    assert (result.exit_code, result.stderr.splitlines()[0]) == (code, "redismr: x")
    assert exit_codes.exit_code_for(error) == code


@pytest.mark.parametrize("name", ["EOFError", "BrokenPipeError", "OSError", "ValueError"])
def test_an_error_of_user_code_is_never_taken_for_one_of_click(
    fake_redismr, invoke, write_job_file, name
):
    """A MapError also has the class that user code raised, and click handles some classes."""
    failure = Failure(
        kind="error", stage="map", task="m1", function="mapfn",
        error_module="builtins", error_name=name, message="no more",
    )  # fmt: skip
    fake_redismr.outcome = make_task_error(failure, "wc-1")
    result = invoke("run", write_job_file("mapfn = print; source = {}"))
    assert result.exit_code == 1
    assert result.stderr.startswith(f"redismr: {name}: no more\n")


def test_ctrl_c(fake_redismr, invoke, write_job_file):
    fake_redismr.outcome = KeyboardInterrupt()
    result = invoke("run", write_job_file("mapfn = print; source = {}"))
    assert (result.exit_code, result.stdout) == (130, "")


@pytest.mark.parametrize("where", ["option", "environment"])
def test_debug_shows_tracebacks(invoke, monkeypatch, where):
    if where == "environment":
        monkeypatch.setenv("REDISMR_DEBUG", "1")
    result = invoke("jobs", *(["--debug"] if where == "option" else []))
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert "ConfigError: no server is named" in result.stderr


def test_secret_is_different_each_time(invoke):
    first, second = invoke("secret").stdout, invoke("secret").stdout
    assert first != second
    assert len(first.strip()) >= 32


def test_warnings_of_redismr_are_one_line_and_others_stay_as_they_are(write_job_file):
    file = write_job_file(
        "import warnings\n"
        "from redismr.user_warnings import warn_user\n"
        "source = [1]\n"
        "def mapfn(x): yield x, 1\n"
        "for _ in range(2): warn_user('too big')\n"
        "warnings.warn('old', stacklevel=1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "redismr", "run", "--inline", file],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    our_warning, other_warning, line = done.stderr.splitlines()
    assert our_warning == "redismr: too big"
    assert (other_warning, line.strip()) == (
        "wc.py:6: UserWarning: old",
        "warnings.warn('old', stacklevel=1)",
    )
