"""``redismr run`` and ``redismr submit``."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile

import pytest

import redismr
from redismr import ctrl_c
from redismr.cli.unshown_results import keep_unless_shown
from redismr.core.status_rows import Progress
from redismr.errors import JobLost, SealError
from redismr.sources import csv

WORD_COUNT = "mapfn = print\nreducefn = 'sum'\nsource = {'a': 'text'}\n"


def test_prints_key_and_value_lines(fake_redismr, invoke, write_job_file):
    result = invoke("run", write_job_file(WORD_COUNT))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "b\t1\na\t2\n", "")
    (run_call,) = fake_redismr.run_calls
    assert (run_call.source, run_call.mapfn, run_call.reducefn) == ({"a": "text"}, print, "sum")
    assert (fake_redismr.client_calls[0].url, fake_redismr.client_calls[0].executors) == (
        None,
        None,
    )


def test_prints_json_lines(fake_redismr, invoke, write_job_file):
    stdout = invoke("run", write_job_file(WORD_COUNT), "--json").stdout
    assert [json.loads(line) for line in stdout.splitlines()] == [["b", 1], ["a", 2]]


@pytest.mark.parametrize("final", ["print", "1 / 0"])
def test_the_job_is_deleted_when_the_command_ends(fake_redismr, invoke, write_job_file, final):
    invoke("run", write_job_file(WORD_COUNT + f"def final(key, value): {final}\n"))
    assert fake_redismr.outcome.closed


RETURNS_42 = "def finishfn(results): return 42\n"
FINISHFN_FAILS = "def finishfn(results): 1 / 0\n"


@pytest.mark.parametrize(
    ("text", "command"),
    [("final = [].index\n", "redismr result wc-1"),
     (FINISHFN_FAILS, "redismr result wc-1 --no-finishfn"),
     ("def resultfn(txn, results): 1 / 0\n", "redismr result wc-1")],
)  # fmt: skip
def test_keeps_the_job_if_its_result_cannot_be_printed(
    fake_redismr, named_server_env, invoke, write_job_file, text, command
):
    result = invoke("run", write_job_file(WORD_COUNT + text))
    assert (result.exit_code, fake_redismr.outcome.kept, fake_redismr.outcome.closed) == (
        1,
        True,
        True,
    )
    assert f"the result of job wc-1 is kept for its ttl: {command}\n" in result.stderr


@pytest.mark.parametrize(
    ("text", "words", "suffix", "saved"),
    [("final = [].index\n", (), ".tsv", "b\t1\na\t2\n"),
     (FINISHFN_FAILS, (), ".tsv", "b\t1\na\t2\n"),
     ("def resultfn(txn, results): 1 / 0\n", ("--json",), ".jsonl", '["b", 1]\n["a", 2]\n'),
     (RETURNS_42 + "def resultfn(txn, outcome): 1 / 0\n", (), ".tsv", "42\n")],
)  # fmt: skip
def test_saves_an_unprinted_result_of_a_private_server_in_a_file(
    fake_redismr, invoke, write_job_file, work_folder, text, words, suffix, saved
):
    result = invoke("run", write_job_file(WORD_COUNT + text), *words)
    (file,) = work_folder.glob("redismr-result-*")
    assert f"the result is in {file}\n" in result.stderr
    assert (result.exit_code, file.suffix, file.read_text()) == (1, suffix, saved)
    assert fake_redismr.outcome.closed
    assert not fake_redismr.outcome.kept


def test_reports_a_result_that_cannot_be_saved_as_lost(
    fake_redismr, invoke, write_job_file, work_folder, monkeypatch
):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    monkeypatch.setattr(os, "getcwd", lambda: "/nowhere/else")
    message = invoke("run", write_job_file(WORD_COUNT + FINISHFN_FAILS)).stderr
    assert "the result is lost, as it cannot be saved (" in message
    assert "/nowhere/else" in message
    assert "`redismr up`, REDISMR_URL" in message


@pytest.mark.parametrize(
    "error", [JobLost("gone", job_id="wc-1"), SealError("altered"), KeyboardInterrupt()]
)
def test_saves_nothing_if_the_result_is_gone_or_after_ctrl_c(
    fake_redismr, invoke, write_job_file, work_folder, monkeypatch, capfd, error
):
    def sorted_(*_):
        raise error

    monkeypatch.setattr(fake_redismr.outcome, "sorted", sorted_)
    result = invoke("run", write_job_file(WORD_COUNT + "final = print\n"))
    assert list(work_folder.glob("redismr-result-*")) == []
    assert "the result" not in result.stderr + capfd.readouterr().err
    assert fake_redismr.outcome.closed
    assert result.exit_code == (130 if isinstance(error, KeyboardInterrupt) else 1)


def test_keeps_the_job_after_ctrl_c_while_printing(
    fake_redismr, named_server_env, invoke, write_job_file, monkeypatch, capfd
):
    monkeypatch.setattr(ctrl_c, "_printed", False)  # the message is printed once in a process
    result = invoke(
        "run", write_job_file(WORD_COUNT + "def final(k, v): raise KeyboardInterrupt\n")
    )
    assert (result.exit_code, fake_redismr.outcome.kept) == (130, True)
    assert capfd.readouterr().err == (
        "redismr: interrupted; the result of job wc-1 is kept for its ttl: redismr result wc-1\n"
    )


@pytest.mark.parametrize(
    ("raised", "code"), [("SystemExit('no')", 1), ("SystemExit(3)", 3), ("GeneratorExit", 1)]
)
def test_keeps_the_job_if_final_exits_with_an_error(
    fake_redismr, named_server_env, invoke, write_job_file, raised, code
):
    result = invoke("run", write_job_file(WORD_COUNT + f"def final(k, v): raise {raised}\n"))
    assert (result.exit_code, fake_redismr.outcome.kept) == (code, True)
    assert "the result of job wc-1 is kept for its ttl: redismr result wc-1\n" in result.stderr


def test_deletes_the_job_if_final_exits_with_success(
    fake_redismr, named_server_env, invoke, write_job_file
):
    result = invoke("run", write_job_file(WORD_COUNT + "def final(k, v): raise SystemExit\n"))
    assert (result.exit_code, result.stderr) == (0, "")
    assert (fake_redismr.outcome.kept, fake_redismr.outcome.closed) == (False, True)


def test_tells_how_to_get_the_result_after_the_server_was_lost_while_printing(
    fake_redismr, named_server_env, invoke, write_job_file
):
    text = "import redismr\ndef final(k, v): raise redismr.StoreUnavailable('no answer')\n"
    result = invoke("run", write_job_file(WORD_COUNT + text))
    assert (result.exit_code, fake_redismr.outcome.kept) == (3, True)
    assert result.stderr.splitlines()[-1] == (
        "redismr: the result of job wc-1 was left there. When Redis is back: redismr result wc-1"
    )


def test_keeps_the_job_after_an_error_about_another_job(
    fake_redismr, named_server_env, invoke, write_job_file
):
    text = "import redismr\ndef final(k, v): raise redismr.JobLost('gone', job_id='another')\n"
    assert invoke("run", write_job_file(WORD_COUNT + text)).exit_code == 1
    assert fake_redismr.outcome.kept


def test_does_not_close_the_value_that_finishfn_returns(fake_redismr):
    """The value may have a ``close`` of its own, which only the user calls."""
    finished = io.StringIO("kept")
    with keep_unless_shown(
        fake_redismr.outcome, lambda _results: finished, private=True
    ) as outcome:
        assert outcome is finished
    assert (finished.closed, fake_redismr.outcome.closed) == (False, True)


def test_top_prints_the_largest_values(fake_redismr, invoke, write_job_file):
    assert invoke("run", write_job_file(WORD_COUNT), "--top", "1").stdout == "a\t2\n"


def test_final_is_called_in_order_of_keys(fake_redismr, invoke, write_job_file):
    text = WORD_COUNT + "def final(key, value): print('final', key, value)\n"
    assert invoke("run", write_job_file(text)).stdout == "final a 2\nfinal b 1\n"


@pytest.mark.parametrize("flag", ["--json", "--top=1"])
@pytest.mark.parametrize("printer", ["final(key, value)", "finishfn(results)"])
def test_refuses_print_options_if_the_job_file_prints(
    fake_redismr, invoke, write_job_file, flag, printer
):
    result = invoke("run", write_job_file(WORD_COUNT + f"def {printer}: return 1\n"), flag)
    flag, printer = flag.partition("=")[0], printer.partition("(")[0]
    assert (result.exit_code, result.stdout, fake_redismr.run_calls) == (2, "", [])
    assert result.stderr.startswith(f"redismr: {flag} is about how results are printed")
    assert f"{printer} in wc.py decides that" in result.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--inline", "--url", "redis://db1"], "--inline and --url cannot be combined"),
        (["--inline", "-n", "2"], "--inline and -n cannot be combined"),
        (["--inline", "--wait", "2"], "--inline and --wait cannot be combined"),
        (["--inline", "--wait-for-server", "2"], "--inline and --wait-for-server cannot be"),
        (["--sort", "--top", "2"], "--top and --sort cannot be combined"),
        (["--lines", "--csv"], "--lines and --csv: give one of them"),
    ],
)
def test_refuses_options_that_cannot_be_combined(
    fake_redismr, invoke, write_job_file, words, message
):
    result = invoke("run", write_job_file(WORD_COUNT), *words)
    assert (result.exit_code, fake_redismr.run_calls, fake_redismr.client_calls) == (2, [], [])
    assert result.stderr.startswith(f"redismr: {message}")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--timeout", "nan"),
        ("--timeout", "0.0005"),
        ("--ttl", "inf"),
        ("--wait", "-1"),
        ("--wait-for-server", "inf"),
        ("--partitions", "0"),
        ("--priority", "9999999999999999999999"),
        ("--on-error", "True"),
        ("--on-error", "1.5"),
        ("--name", "\udcff"),
        ("--txn", "\ud800"),
        ("--txn", "x" * 2000),
    ],
)
def test_an_error_names_the_option_as_it_was_typed(
    fake_redismr, invoke, write_job_file, option, value
):
    result = invoke("run", write_job_file(WORD_COUNT), option, value)
    assert (result.exit_code, fake_redismr.run_calls, fake_redismr.client_calls) == (2, [], [])
    assert result.stderr.startswith(f"redismr: {option}=")


@pytest.mark.parametrize(
    ("body", "printed"),
    [("None", ""), ("len(results)", "2\n"), ("{'n': len(results)}", "n\t2\n")],
)
def test_prints_the_value_that_finishfn_returns(
    fake_redismr, invoke, write_job_file, body, printed
):
    text = WORD_COUNT + f"def finishfn(results): return {body}\n"
    assert invoke("run", write_job_file(text)).stdout == printed


@pytest.mark.parametrize("name", ["final(k, v)", "finishfn(results)"])
def test_shows_only_the_users_frames_of_an_error_in_final_or_finishfn(
    fake_redismr, invoke, write_job_file, name
):
    result = invoke("run", write_job_file(WORD_COUNT + f"def {name}:\n    1 / 0\n"))
    assert result.exit_code == 1
    first, *_, frame, line, hint = result.stderr.splitlines()
    assert first == "redismr: ZeroDivisionError: division by zero"
    assert frame == f'  File "wc.py", line 5, in {name.partition("(")[0]}'
    assert line == "    1 / 0"
    assert hint.startswith("redismr: the result is in ")
    assert "redismr/cli" not in result.stderr


def test_refuses_top_with_final(fake_redismr, invoke, write_job_file):
    assert (
        invoke("run", write_job_file(WORD_COUNT + "final = print\n"), "--top", "3").exit_code == 2
    )
    assert not fake_redismr.run_calls


def test_inputs_replace_the_source_of_the_job_file(fake_redismr, invoke, write_job_file):
    invoke("run", write_job_file(WORD_COUNT), "a.txt", "logs/*.gz")
    assert fake_redismr.run_calls[0].source == ("files", ["a.txt", "logs/*.gz"])


CSV_FILE = """
from redismr.sources import csv
mapfn = print
source = csv("none", delimiter=";", encoding="latin-1")
"""


@pytest.mark.usefixtures("named_server_env")
@pytest.mark.parametrize("subcommand", ["run", "submit"])
@pytest.mark.parametrize("text", [CSV_FILE, CSV_FILE.replace("source =", "source = lambda:")])
def test_inputs_are_read_with_the_settings_of_the_source(
    fake_redismr, invoke, write_job_file, subcommand, text
):
    for options, settings in [
        ([], {"encoding": "latin-1"}),
        (["--csv"], {"encoding": "latin-1"}),
        (["--encoding", "cp1252"], {"encoding": "cp1252"}),
        (["--errors", "replace"], {"encoding": "latin-1", "errors": "replace"}),
    ]:
        fake_redismr.run_calls.clear()
        result = invoke(subcommand, write_job_file(text), "a.csv", *options)
        assert result.exit_code == 0, result.stderr
        assert fake_redismr.run_calls[0].source == csv(["a.csv"], delimiter=";", **settings)


def test_a_source_of_another_kind_keeps_the_encoding(fake_redismr, invoke, write_job_file):
    invoke("run", write_job_file(CSV_FILE), "--lines", "a", "b")
    invoke("run", write_job_file(CSV_FILE), "--files", "--encoding", "utf-16", "--errors", "ignore")
    assert [run_call.source for run_call in fake_redismr.run_calls] == [
        ("lines", ["a", "b"], {"encoding": "latin-1", "errors": "strict"}),
        ("files", "none", {"encoding": "utf-16", "errors": "ignore"}),
    ]


def test_encoding_and_errors_apply_to_any_source_of_files(fake_redismr, invoke, write_job_file):
    options = ("--encoding", "latin-1", "--errors", "ignore")
    invoke("run", write_job_file(WORD_COUNT), "a.txt", *options)
    invoke("run", write_job_file("mapfn = print; source = 'b.txt'"), "--jsonl", *options)
    text_options = {"encoding": "latin-1", "errors": "ignore"}
    assert [run_call.source for run_call in fake_redismr.run_calls] == [
        ("files", ["a.txt"], text_options),
        ("jsonl", "b.txt", text_options),
    ]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            WORD_COUNT,
            ["--encoding", "latin-1"],
            "--encoding says how files are read, and the source in",
        ),
        (
            WORD_COUNT,
            ["--errors", "ignore"],
            "--errors says how files are read, and the source in wc.py",
        ),
        (
            CSV_FILE,
            ["--encoding", "latin-0"],
            "encoding='latin-0', errors='strict': unknown encoding",
        ),
        (CSV_FILE, ["--encoding", ""], "encoding='', errors='strict': unknown encoding"),
        (
            CSV_FILE,
            ["--errors", "no"],
            "encoding='latin-1', errors='no': unknown error handler name",
        ),
        (
            "from redismr.sources import files\nmapfn = print; source = files('a', binary=True)",
            ["b", "--errors", "ignore"],
            "an encoding or error handler is about text, and this source reads bytes (binary=True)",
        ),
    ],
)
def test_refuses_read_options_that_do_not_fit_the_source(
    fake_redismr, invoke, write_job_file, text, options, message
):
    result = invoke("run", write_job_file(text), *options)
    assert (result.exit_code, result.stderr.startswith(f"redismr: {message}")) == (2, True)
    assert not fake_redismr.run_calls


def test_names_a_source_function_that_raises_even_with_inputs(invoke, write_job_file):
    result = invoke("run", write_job_file("mapfn = print\ndef source():\n    1 / 0\n"), "a.txt")
    assert result.exit_code == 1
    assert "note: raised by source() in wc.py, which says how its input is read" in result.stderr


@pytest.mark.parametrize("kind", ["files", "lines", "text", "jsonl", "csv"])
def test_an_option_chooses_the_kind_of_source(fake_redismr, invoke, write_job_file, kind):
    invoke("run", write_job_file(WORD_COUNT), f"--{kind}", "a.txt")
    invoke("run", write_job_file("mapfn = print; source = 'b.txt'"), f"--{kind}")
    assert [run_call.source for run_call in fake_redismr.run_calls] == [
        (kind, ["a.txt"]),
        (kind, "b.txt"),
    ]


def test_refuses_a_kind_for_a_source_without_files(fake_redismr, invoke, write_job_file):
    result = invoke("run", write_job_file(WORD_COUNT), "--lines")
    assert result.exit_code == 2
    assert result.stderr == (
        "redismr: --lines says how files are read, and the source in wc.py names no files\n"
    )


def test_repl_refuses_kinds_without_text(fake_redismr, invoke):
    result = invoke("repl", "--csv")
    assert (result.exit_code, result.stderr) == (
        2, "redismr: --csv gives no text to count the words of: name a job FILE as well\n"
    )  # fmt: skip
    assert not fake_redismr.client_calls


def test_leaving_the_debugger_is_not_shown_as_an_error(invoke, write_job_file):
    text = "import pdb\nsource = [1]\ndef mapfn(key, value):\n"
    text += "    pdb.Pdb(readrc=False).set_trace()\n    yield key, value\n"
    result = invoke("run", write_job_file(text), "--inline")
    assert (result.exit_code, result.stderr) == (130, "redismr: stopped in the debugger\n")


@pytest.mark.parametrize(
    "job", ["from redismr import lines\nsource = lines('bad')\nmapfn = print",
            "def mapfn(key, value):\n    raise KeyboardInterrupt\nsource = [1]"]
)  # fmt: skip
def test_a_failed_inline_job_exits_like_one_on_workers(invoke, write_job_file, work_folder, job):
    (work_folder / "bad").write_bytes(b"\xff")
    result = invoke("run", write_job_file(job), "--inline")
    assert (result.exit_code, "attempt 1 of 1" in result.stderr) == (1, True)


def test_a_source_may_be_a_function(fake_redismr, invoke, write_job_file):
    invoke("run", write_job_file("mapfn = print\ndef source():\n    return [1, 2]\n"))
    assert fake_redismr.run_calls[0].source == [1, 2]


def test_reports_a_missing_source(fake_redismr, invoke, write_job_file):
    result = invoke("run", write_job_file("mapfn = print"))
    assert (result.exit_code, result.stderr[:27]) == (2, "redismr: wc.py has no sourc")


def test_params_of_the_command_line_override_those_of_the_file(
    fake_redismr, invoke, write_job_file
):
    text = WORD_COUNT + "params = {'a': 1, 'b': 2}\n"
    invoke(
        "run", write_job_file(text), "-P", "b=[3]", "-P", "c=plain=text", "-P", 'd="4"', "-P", "e="
    )
    assert fake_redismr.run_calls[0].options["params"] == {
        "a": 1, "b": [3], "c": "plain=text", "d": "4", "e": "",
    }  # fmt: skip


@pytest.mark.parametrize("given", ["novalue", "=x"])
def test_a_param_has_a_name_and_a_value(invoke, write_job_file, given):
    result = invoke("run", write_job_file(WORD_COUNT), "-P", given)
    assert result.exit_code == 2
    assert f"{given!r} is not key=value" in result.stderr


def test_options_of_the_command_line_override_those_of_the_file(
    fake_redismr, invoke, write_job_file
):
    text = WORD_COUNT + "options = dict(retries=1, partitions=5, seed=7)\n"
    invoke(
        "run", write_job_file(text), "--retries", "0", "--timeout", "2.5", "--sort", "--ttl", "60",
        "--priority", "-3", "--name", "n", "--txn", "t", "--wait", "9", "--each-worker",
        "--wait-for-server", "600",
    )  # fmt: skip
    options = fake_redismr.run_calls[0].options
    expected = {
        "retries": 0, "partitions": 5, "seed": 7, "task_timeout": 2.5, "sort": True, "ttl": 60,
        "priority": -3, "name": "n", "txn": "t", "wait_for_workers": 9,
        "each_worker": True, "wait_for_server": 600,
    }  # fmt: skip
    assert {name: options[name] for name in expected} == expected


def test_passes_only_options_that_were_given(fake_redismr, invoke, write_job_file):
    invoke("run", write_job_file(WORD_COUNT))
    assert not {"retries", "sort", "ttl", "txn", "partitions"} & set(
        fake_redismr.run_calls[0].options
    )


def test_inline_opens_no_client(fake_redismr, invoke, write_job_file):
    invoke("run", write_job_file(WORD_COUNT), "--inline")
    assert not fake_redismr.client_calls
    assert fake_redismr.run_calls[0].options["inline"] is True
    assert fake_redismr.run_calls[0].options["client"] is None


def test_passes_server_namespace_and_executors_to_the_client(fake_redismr, invoke, write_job_file):
    invoke("run", write_job_file(WORD_COUNT), "--url", "redis://x", "--namespace", "n", "-n", "3")
    opened = fake_redismr.client_calls[0]
    assert (opened.url, opened.namespace, opened.executors) == ("redis://x", "n", 3)


def test_tells_that_redis_url_is_ignored(fake_redismr, invoke, write_job_file, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://cache")
    assert "REDIS_URL" in invoke("run", write_job_file(WORD_COUNT)).stderr
    assert invoke("run", write_job_file(WORD_COUNT), "-q").stderr == ""


def test_a_pipe_gets_the_summary_of_a_job(fake_redismr, invoke, write_job_file):
    fake_redismr.progress = [Progress(job_id="j", state="mapping")] * 3
    fake_redismr.progress.append(Progress(job_id="j", state="succeeded", maps_done=1))
    fake_redismr.outcome.counters = {"words": 3}
    result = invoke("run", write_job_file(WORD_COUNT))
    assert result.stdout == "b\t1\na\t2\n"
    assert result.stderr.splitlines() == [
        "redismr: j succeeded: 1 map task, 0 reduce tasks, 0.0 MB shuffled, 0.0 s, words 3",
    ]


def test_a_pipe_gets_the_summary_of_a_failed_job(fake_redismr, invoke, write_job_file):
    fake_redismr.progress = [Progress(job_id="j", state="failed", maps_done=1, maps_total=2)]
    fake_redismr.outcome = redismr.JobFailed("job j failed: no luck", job_id="j")
    result = invoke("run", write_job_file(WORD_COUNT))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "redismr: j failed: 1/2 map tasks, 0/? reduce tasks, 0.0 MB shuffled, 0.0 s",
        "redismr: job j failed: no luck",
    ]


def test_quiet_draws_nothing(fake_redismr, invoke, write_job_file):
    invoke("run", write_job_file(WORD_COUNT), "--quiet")
    assert fake_redismr.run_calls[0].options["progress"] is False


def test_a_reader_that_closes_the_pipe_is_no_error(write_job_file):
    """Like `redismr run ... | head -1`, with a result larger than the buffer of a pipe."""
    code = (
        "import sys, redismr; from redismr.cli import main\n"
        "from contextlib import nullcontext\n"
        "from redismr.client.result_partitions import InMemoryPartitions\n"
        "from redismr.client.results import Results\n"
        "redismr.Client = lambda *a, **k: nullcontext()\n"
        "pairs = [(n, None) for n in range(200_000)]\n"
        "redismr.run = lambda *a, **k: Results(InMemoryPartitions(pairs))\n"
        f"sys.argv = ['redismr', 'run', {write_job_file(WORD_COUNT)!r}]; main()"
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
    def test_prints_the_id(self, fake_redismr, named_server_env, invoke, write_job_file):
        result = invoke("submit", write_job_file(WORD_COUNT), "a.txt", "--name", "n", "-P", "x=1")
        assert (result.exit_code, result.stdout, result.stderr) == (0, "wc-1\n", "")
        (run_call,) = fake_redismr.run_calls
        assert run_call.source == ("files", ["a.txt"])
        assert (run_call.options["name"], run_call.options["params"]) == ("n", {"x": 1})
        assert "resultfn" not in run_call.options
        assert "progress" not in run_call.options

    def test_quiet_prints_only_the_id(self, fake_redismr, named_server_env, invoke, write_job_file):
        text = write_job_file(WORD_COUNT + "final = print\n")
        assert "not used" in invoke("submit", text).stderr
        result = invoke("submit", text, "-q")
        assert (result.stdout, result.stderr) == ("wc-1\n", "")

    def test_needs_a_server(self, fake_redismr, invoke, write_job_file):
        result = invoke("submit", write_job_file(WORD_COUNT))
        assert result.exit_code == 2
        assert "REDISMR_URL" in result.stderr
        assert not fake_redismr.client_calls

    def test_tells_that_final_is_not_called(
        self, fake_redismr, named_server_env, invoke, write_job_file
    ):
        result = invoke("submit", write_job_file(WORD_COUNT + "final = print\n"))
        assert result.stdout == "wc-1\n"
        assert "redismr run" in result.stderr
