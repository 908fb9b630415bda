"""Subcommands for jobs and workers on a server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from redismr.core.events import Event
from redismr.core.model import Failure
from redismr.core.status_rows import JobInfo, WorkerInfo
from redismr.core.task_errors import make_task_error
from redismr.errors import JobTimeout, SealError

pytestmark = pytest.mark.usefixtures("named_server_env")

FAILURE = Failure(
    kind="error", stage="map", task="m12", function="mapfn", error_module="builtins",
    error_name="ZeroDivisionError", message="division by zero", where="record 3 of a.gz",
    attempt=2, attempts=4,
)  # fmt: skip


def job_info(job_id, age):
    return JobInfo(
        job_id=job_id, txn=job_id, name="", state="mapping", maps_done=0, maps_total=None,
        reduces_done=0, reduces_total=4, age=age, ttl=60.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [("jobs",), ("workers",), ("watch", "j"), ("result", "j"), ("errors", "j"), ("cancel", "j"),
     ("delete", "j"), ("listen",), ("worker",)],
)  # fmt: skip
def test_without_a_server_subcommands_tell_what_to_set(invoke, monkeypatch, words):
    monkeypatch.delenv("REDISMR_URL")
    result = invoke(*words)
    assert result.exit_code == 2
    assert "REDISMR_URL" in result.stderr


def test_the_client_gets_url_secret_and_namespace(fake_redismr, invoke):
    invoke("jobs", "--namespace", "n")
    (opened,) = fake_redismr.client_calls
    assert opened.url == "redis://db1:6379/0"
    assert (opened.secret, opened.namespace) == ("e3b1a9f07d5c2864", "n")


def test_jobs_newest_first(fake_redismr, invoke):
    fake_redismr.job_rows = [job_info("old", 9.0), job_info("new", 1.0)]
    lines = invoke("jobs").stdout.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["JOB", "new", "old"]
    assert json.loads(invoke("jobs", "--json").stdout.splitlines()[0])["job_id"] == "new"


def test_all_lists_finished_runs_too(fake_redismr, invoke):
    fake_redismr.job_rows = [job_info("old", 9.0), replace(job_info("run", 1.0), deleted=True)]
    assert [line.split("\t")[0] for line in invoke("jobs").stdout.splitlines()] == ["JOB", "old"]
    _titles, run, _old = invoke("jobs", "--all").stdout.splitlines()
    assert run.startswith("run\t")
    assert run.endswith("\tdeleted")
    assert json.loads(invoke("jobs", "--all", "--json").stdout.splitlines()[0])["deleted"] is True


def test_workers_are_listed(fake_redismr, invoke):
    fake_redismr.worker_rows = [
        WorkerInfo(
            worker_id="w1", host="web3", pid=1, python="3.12", native=True, protocol=1, key_id="ab",
            executors=4, busy=3, tasks=118, beat_age=0.5, problem="python 3.12, not 3.11",
        )
    ]  # fmt: skip
    titles, row = invoke("workers").stdout.splitlines()
    assert titles.split("\t")[:3] == ["WORKER", "HOST", "PID"]
    assert row == "w1\tweb3\t1\t3.12\tab\t3/4\t118\t0.5\tyes\tpython 3.12, not 3.11"


def test_watch_until_it_ends(fake_redismr, invoke, fake_job):
    fake_redismr.jobs_by_id["wc-1"] = fake_job("wc-1", steps=3)
    result = invoke("watch", "wc-1")
    assert result.exit_code == 0
    assert result.stderr.startswith("wc-1 succeeded: 1 map task, ")
    assert result.stderr.count("\n") == 1


def test_watch_a_job_that_fails(fake_redismr, invoke, fake_job):
    fake_redismr.jobs_by_id["wc-1"] = fake_job(
        "wc-1", steps=2, error=make_task_error(FAILURE, "wc-1")
    )
    result = invoke("watch", "wc-1")
    assert result.exit_code == 1
    assert "wc-1 failed: " in result.stderr
    assert "redismr: ZeroDivisionError: division by zero" in result.stderr


def test_result_prints_pairs(fake_redismr, invoke, fake_job):
    fake_redismr.jobs_by_id["wc-1"] = fake_job("wc-1", results={"b": 1, "a": 2})
    assert invoke("result", "wc-1").stdout == "b\t1\na\t2\n"
    assert invoke("result", "wc-1", "--sort").stdout == "a\t2\nb\t1\n"
    assert invoke("result", "wc-1", "--top", "1").stdout == "a\t2\n"
    assert invoke("result", "wc-1", "--json").stdout == '["b", 1]\n["a", 2]\n'


def test_result_prints_the_value_that_finishfn_returned(fake_redismr, invoke, fake_job):
    fake_redismr.jobs_by_id["wc-1"] = job = fake_job("wc-1")
    job.results = 42
    assert invoke("result", "wc-1").stdout == "42\n"
    result = invoke("result", "wc-1", "--top", "3")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "something else of them (int): add --no-finishfn\n" in result.stderr


def test_result_of_a_job_whose_finishfn_fails(fake_redismr, invoke, fake_job):
    fake_redismr.jobs_by_id["wc-1"] = job = fake_job("wc-1", results={"a": 1})

    def result(timeout, *, finish):
        return job.results if not finish else 1 / 0

    job.result = result
    failed = invoke("result", "wc-1")
    assert failed.exit_code == 1
    assert "without its finishfn: redismr result wc-1 --no-finishfn" in failed.stderr
    assert invoke("result", "wc-1", "--no-finishfn").stdout == "a\t1\n"


@pytest.mark.parametrize("subcommand", ["watch", "result"])
def test_wait_for_server_is_passed_on(fake_redismr, invoke, fake_job, subcommand):
    fake_redismr.jobs_by_id["wc-1"] = fake_job("wc-1")
    invoke(subcommand, "wc-1")
    invoke(subcommand, "wc-1", "--wait-for-server", "600")
    assert fake_redismr.attach_calls == [{}, {"wait_for_server": 600}]


def test_result_waits_with_the_option_wait(fake_redismr, invoke, fake_job):
    fake_redismr.jobs_by_id["wc-1"] = job = fake_job("wc-1", steps=3, results={"a": 1})
    assert invoke("result", "wc-1", "--wait").stdout == "a\t1\n"
    assert job.steps == 0


def test_result_of_a_running_job(fake_redismr, invoke, fake_job):
    fake_redismr.jobs_by_id["wc-1"] = fake_job("wc-1", error=JobTimeout("wc-1 is still mapping"))
    result = invoke("result", "wc-1")
    assert (result.exit_code, result.stderr) == (
        3, "redismr: wc-1 is still mapping\nredismr: to wait for it: redismr result wc-1 --wait\n"
    )  # fmt: skip


def test_errors_prints_failures(fake_redismr, invoke, fake_job):
    fake_redismr.jobs_by_id["wc-1"] = fake_job("wc-1", failures=[FAILURE])
    assert invoke("errors", "wc-1").stdout == (
        "TASK\tATTEMPT\tKIND\tFUNCTION\tERROR\tWHERE\n"
        "m12\t2\terror\tmapfn\tZeroDivisionError: division by zero\trecord 3 of a.gz\n"
    )
    assert json.loads(invoke("errors", "wc-1", "--json").stdout)["attempts"] == 4


def test_errors_prints_skipped_records_too(fake_redismr, invoke, fake_job):
    skipped = replace(FAILURE, kind="skipped", where="record 9 of a.gz")
    fake_redismr.jobs_by_id["wc-1"] = fake_job(
        "wc-1", failures=[FAILURE], skipped=([skipped], 1001)
    )
    result = invoke("errors", "wc-1")
    kinds = [line.split("\t")[2] for line in result.stdout.splitlines()]
    assert kinds == ["KIND", "error", "skipped"]
    assert result.stderr == "redismr: and 1,000 more records skipped\n"


@pytest.mark.parametrize("subcommand", ["watch", "result"])
def test_prints_the_number_of_skipped_records(fake_redismr, invoke, fake_job, subcommand):
    fake_redismr.jobs_by_id["wc-1"] = fake_job("wc-1", skipped=([FAILURE], 1001))
    last = invoke(subcommand, "wc-1").stderr.splitlines()[-1]
    assert last == "redismr: 1,001 records skipped: redismr errors wc-1"


def test_errors_prints_failures_even_if_skipped_records_cannot_be_read(
    fake_redismr, invoke, fake_job
):
    altered = SealError("the manifest m0 of job wc-1 was altered")
    fake_redismr.jobs_by_id["wc-1"] = fake_job("wc-1", failures=[FAILURE], skipped=altered)
    result = invoke("errors", "wc-1")
    assert "division by zero" in result.stdout
    assert result.stderr == f"redismr: {altered}\n"
    assert result.exit_code != 0


def test_cancel_and_delete(fake_redismr, invoke, fake_job):
    fake_redismr.jobs_by_id |= {"a": fake_job("a", steps=1), "b": fake_job("b")}
    assert invoke("cancel", "a", "b").stdout == "a\tcancelled\nb\thad already ended\n"
    assert invoke("delete", "a").stdout == "a\tdeleted\n"
    assert fake_redismr.jobs_by_id["a"].deleted
    assert not fake_redismr.jobs_by_id["b"].deleted


@pytest.mark.parametrize("subcommand", ["watch", "result", "errors", "cancel", "delete"])
def test_an_unknown_job_is_a_usage_error(fake_redismr, invoke, subcommand):
    result = invoke(subcommand, "nowhere")
    assert (result.exit_code, result.stderr) == (2, "redismr: there is no job nowhere\n")


@pytest.mark.parametrize(
    ("words", "listen_call"),
    [([], (None, None)), (["orders"], ("orders", None)), (["wc-1"], (None, "wc-1"))],
)
def test_listen_prints_events_of_a_job_a_transaction_or_all(
    fake_redismr, invoke, words, listen_call
):
    fake_redismr.job_rows = [job_info("wc-1", 1.0)]
    fake_redismr.events = [Event("wc-1", "t", 1, "succeeded", {})]
    (line,) = invoke("listen", *words).stdout.splitlines()
    assert json.loads(line)["kind"] == "succeeded"
    assert fake_redismr.listen_calls == [listen_call]
