"""``redismr run`` and ``redismr submit``."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import redismr
from redismr.core.model import Progress

WC = "mapfn = print\nreducefn = 'sum'\nsource = {'a': 'text'}\n"


def test_lines(world, call, jobfile):
    result = call("run", jobfile(WC))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "b\t1\na\t2\n", "")
    (ran,) = world.ran
    assert (ran.source, ran.mapfn, ran.reducefn) == ({"a": "text"}, print, "sum")
    assert (world.opened[0].url, world.opened[0].executors) == (None, None)


def test_json(world, call, jobfile):
    stdout = call("run", jobfile(WC), "--json").stdout
    assert [json.loads(line) for line in stdout.splitlines()] == [["b", 1], ["a", 2]]


@pytest.mark.parametrize("final", ["print", "1 / 0"])
def test_the_job_is_gone_afterwards(world, call, jobfile, final):
    call("run", jobfile(WC + f"def final(key, value): {final}\n"))
    assert world.outcome.closed


def test_top(world, call, jobfile):
    assert call("run", jobfile(WC), "--top", "1").stdout == "a\t2\n"


def test_final_prints_all_there_is_in_order_of_keys(world, call, jobfile):
    text = WC + "def final(key, value): print('final', key, value)\n"
    assert call("run", jobfile(text), "--json").stdout == "final a 2\nfinal b 1\n"


@pytest.mark.parametrize(
    ("body", "printed"),
    [("None", ""), ("len(results)", "2\n"), ("{'n': len(results)}", "n\t2\n")],
)
def test_finishfn_decides_what_is_printed(world, call, jobfile, body, printed):
    text = WC + f"def finishfn(results): return {body}\n"
    assert call("run", jobfile(text)).stdout == printed


@pytest.mark.parametrize("name", ["final(k, v)", "finishfn(results)"])
def test_an_error_in_what_runs_here_is_the_users(world, call, jobfile, name):
    result = call("run", jobfile(WC + f"def {name}:\n    1 / 0\n"))
    assert result.exit_code == 1
    first, *_, frame, line = result.stderr.splitlines()
    assert first == "redismr: ZeroDivisionError: division by zero"
    assert frame == f'  File "wc.py", line 5, in {name.partition("(")[0]}'
    assert line == "    1 / 0"
    assert "redismr/cli" not in result.stderr


def test_top_does_not_go_with_final(world, call, jobfile):
    assert call("run", jobfile(WC + "final = print\n"), "--top", "3").exit_code == 2
    assert not world.ran


def test_inputs_come_before_the_files_source(world, call, jobfile):
    call("run", jobfile(WC), "a.txt", "logs/*.gz")
    assert world.ran[0].source == ("files", ["a.txt", "logs/*.gz"])


@pytest.mark.parametrize("kind", ["lines", "text", "jsonl", "csv"])
def test_kinds_of_source(world, call, jobfile, kind):
    call("run", jobfile(WC), f"--{kind}", "a.txt")
    call("run", jobfile("mapfn = print; source = 'b.txt'"), f"--{kind}")
    assert [ran.source for ran in world.ran] == [(kind, ["a.txt"]), (kind, "b.txt")]


def test_a_kind_is_for_names_of_files(world, call, jobfile):
    result = call("run", jobfile(WC), "--lines")
    assert result.exit_code == 2
    assert result.stderr == (
        "redismr: --lines is about names of files, and the source in wc.py is none\n"
    )


def test_a_source_may_be_a_function(world, call, jobfile):
    call("run", jobfile("mapfn = print\ndef source():\n    return [1, 2]\n"))
    assert world.ran[0].source == [1, 2]


def test_no_source(world, call, jobfile):
    result = call("run", jobfile("mapfn = print"))
    assert (result.exit_code, result.stderr[:27]) == (2, "redismr: wc.py has no sourc")


def test_params_from_the_file_and_over_them_from_the_command_line(world, call, jobfile):
    text = WC + "params = {'a': 1, 'b': 2}\n"
    call("run", jobfile(text), "-P", "b=[3]", "-P", "c=plain=text", "-P", 'd="4"', "-P", "e=")
    assert world.ran[0].options["params"] == {
        "a": 1, "b": [3], "c": "plain=text", "d": "4", "e": "",
    }  # fmt: skip


@pytest.mark.parametrize("given", ["novalue", "=x"])
def test_a_param_has_a_name_and_a_value(call, jobfile, given):
    result = call("run", jobfile(WC), "-P", given)
    assert result.exit_code == 2
    assert f"{given!r} is not key=value" in result.stderr


def test_options_from_the_file_and_over_them_from_the_command_line(world, call, jobfile):
    text = WC + "options = dict(retries=1, partitions=5, seed=7)\n"
    call(
        "run", jobfile(text), "--retries", "0", "--timeout", "2.5", "--sort", "--ttl", "60",
        "--priority", "-3", "--name", "n", "--txn", "t", "--wait", "9", "--each-worker",
    )  # fmt: skip
    options = world.ran[0].options
    expected = {
        "retries": 0, "partitions": 5, "seed": 7, "task_timeout": 2.5, "sort": True, "ttl": 60,
        "priority": -3, "name": "n", "txn": "t", "wait_for_workers": 9,
        "each_worker": True,
    }  # fmt: skip
    assert {name: options[name] for name in expected} == expected


def test_options_that_nobody_gave_are_not_passed(world, call, jobfile):
    call("run", jobfile(WC))
    assert not {"retries", "sort", "ttl", "txn", "partitions"} & set(world.ran[0].options)


def test_inline_opens_no_client(world, call, jobfile):
    call("run", jobfile(WC), "--inline")
    assert not world.opened
    assert world.ran[0].options["inline"] is True
    assert world.ran[0].options["client"] is None


def test_where_to_run(world, call, jobfile):
    call("run", jobfile(WC), "--url", "redis://x", "--namespace", "n", "-n", "3")
    opened = world.opened[0]
    assert (opened.url, opened.namespace, opened.executors) == ("redis://x", "n", 3)


def test_a_url_that_is_passed_over_is_said(world, call, jobfile, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://cache")
    assert "REDIS_URL" in call("run", jobfile(WC)).stderr
    assert call("run", jobfile(WC), "-q").stderr == ""


def test_a_pipe_sees_what_becomes_of_a_job(world, call, jobfile):
    world.progress = [Progress(job_id="j", state="mapping")] * 3
    world.progress.append(Progress(job_id="j", state="succeeded", maps_done=1))
    world.outcome.counters = {"words": 3}
    result = call("run", jobfile(WC))
    assert result.stdout == "b\t1\na\t2\n"
    assert result.stderr.splitlines() == [
        "redismr: j succeeded: 1 map task, 0 reduce tasks, 0.0 MB shuffled, 0.0 s, words 3",
    ]


def test_a_pipe_sees_how_a_job_failed(world, call, jobfile):
    world.progress = [Progress(job_id="j", state="failed", maps_done=1, maps_total=2)]
    world.outcome = redismr.JobFailed("job j failed: no luck", job_id="j")
    result = call("run", jobfile(WC))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "redismr: j failed: 1/2 map tasks, 0/? reduce tasks, 0.0 MB shuffled, 0.0 s",
        "redismr: job j failed: no luck",
    ]


def test_quiet_draws_nothing(world, call, jobfile):
    call("run", jobfile(WC), "--quiet")
    assert world.ran[0].options["progress"] is False


def test_a_reader_that_leaves_is_no_error(jobfile):
    """As `redismr run ... | head -1`, with a result larger than a pipe holds."""
    code = (
        "import sys, redismr; from redismr.cli import main\n"
        "from contextlib import nullcontext\n"
        "redismr.Client = lambda *a, **k: nullcontext()\n"
        "redismr.run = lambda *a, **k: dict.fromkeys(range(200_000))\n"
        f"sys.argv = ['redismr', 'run', {jobfile(WC)!r}]; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"0\tnull\n"
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait() == 0


class TestSubmit:
    def test_prints_the_id(self, world, server, call, jobfile):
        result = call("submit", jobfile(WC), "a.txt", "--name", "n", "-P", "x=1")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "wc-1\n", "")
        (ran,) = world.ran
        assert ran.source == ("files", ["a.txt"])
        assert (ran.options["name"], ran.options["params"]) == ("n", {"x": 1})
        assert ran.options["resultfn"] is None
        assert "progress" not in ran.options

    def test_quiet_prints_nothing_else(self, world, server, call, jobfile):
        text = jobfile(WC + "final = print\n")
        assert "not used" in call("submit", text).stderr
        result = call("submit", text, "-q")
        assert (result.stdout, result.stderr) == ("wc-1\n", "")

    def test_needs_a_server(self, world, call, jobfile):
        result = call("submit", jobfile(WC))
        assert result.exit_code == 2
        assert "REDISMR_URL" in result.stderr
        assert not world.opened

    def test_says_what_is_not_run(self, world, server, call, jobfile):
        result = call("submit", jobfile(WC + "final = print\n"))
        assert result.stdout == "wc-1\n"
        assert "redismr run" in result.stderr
