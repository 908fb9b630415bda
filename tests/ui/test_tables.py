"""Listings on a terminal, in a pipe, and as JSON."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest
from ui.terminal import Terminal

from redismr.core.events import Event
from redismr.core.model import Failure
from redismr.core.status_rows import JobInfo, WorkerInfo
from redismr.ui import tables


def job(**fields):
    defaults = {
        "job_id": "wc-1", "txn": "wc-1", "name": "", "state": "mapping", "maps_done": 2,
        "maps_total": None, "reduces_done": 0, "reduces_total": 4, "age": 75.5, "ttl": 86324.5,
    }  # fmt: skip
    return JobInfo(**(defaults | fields))


WORKER = WorkerInfo(
    worker_id="w1", host="web3", pid=4117, python="3.12", native=True, protocol=1,
    key_id="9a02beef", executors=4, busy=3, tasks=118, beat_age=0.42,
)  # fmt: skip


def printed(rows, columns, *, stream=None, as_json=False):
    stream = stream or io.StringIO()
    tables.print_rows(rows, columns, stream, as_json=as_json)
    return re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())  # bold titles


def test_a_pipe_gets_tabs_and_bare_numbers():
    assert printed([job(cause="a\tb\nc")], tables.JOB_COLUMNS) == (
        "JOB\tTXN\tNAME\tSTATE\tMAP TASKS\tREDUCE TASKS\tAGE\tTTL\tCAUSE\n"
        "wc-1\t\t\tmapping\t2/?\t0/4\t75.5\t86324.5\ta b c\n"
    )


def test_json_has_every_field():
    (line,) = printed([WORKER], tables.WORKER_COLUMNS, as_json=True).splitlines()
    assert json.loads(line)["key_id"] == "9a02beef"
    assert json.loads(line)["problem"] == ""


def test_an_event_as_json():
    stream = io.StringIO()
    tables.print_json_rows([Event("j", "t", 1, "partition", {"partition": 3})], stream)
    assert json.loads(stream.getvalue()) == {
        "job": "j", "txn": "t", "seq": 1, "kind": "partition", "data": {"partition": 3},
    }  # fmt: skip


def test_a_terminal_gets_a_table_without_empty_columns():
    head, row = printed([job()], tables.JOB_COLUMNS, stream=Terminal()).splitlines()
    assert re.split("  +", head) == ["JOB", "STATE", "MAP TASKS", "REDUCE TASKS", "AGE", "TTL"]
    assert row.split() == ["wc-1", "mapping", "2/?", "0/4", "76s", "24h"]


def test_a_table_prints_no_control_codes_of_names():
    text = printed([job(name="\x1b[2J[red]x[/red] :smile:")], tables.JOB_COLUMNS, stream=Terminal())
    assert "\x1b" not in text
    assert "[2J[red]x[/red] :smile:" in text


def test_workers_fit_80_columns():
    text = printed([WORKER], tables.WORKER_COLUMNS, stream=Terminal())
    assert max(map(len, text.splitlines())) <= 80
    assert text.splitlines()[1].split() == [
        "w1",
        "web3",
        "4117",
        "3.12",
        "9a02beef",
        "3/4",
        "118",
        "0.4s",
        "yes",
    ]


def test_no_rows_print_no_table():
    assert printed([], tables.JOB_COLUMNS, stream=Terminal()) == ""
    assert printed([], tables.JOB_COLUMNS, as_json=True) == ""


def test_a_pipe_gets_titles_even_without_rows():
    """A script can always skip the first line."""
    assert printed([], tables.FAILURE_COLUMNS) == "TASK\tATTEMPT\tKIND\tFUNCTION\tERROR\tWHERE\n"


LONG_VALUES = {
    "jobs": (
        [job(
            job_id="tfz1ab-0123456789abcdef", txn="nightly-2026-11-28", name="words of all books",
            state="failed", maps_done=999, maps_total=1234,
            cause="ZeroDivisionError: division by zero in mapfn on record 17 of logs/access.log",
        )] * 2,
        tables.JOB_COLUMNS,
    ),
    "workers": (
        [replace(
            WORKER, worker_id="web3-4117-9a02", host="web3.example.com",
            problem="the jobs need Python 3.13, and this worker runs Python 3.11",
        )] * 2,
        tables.WORKER_COLUMNS,
    ),
    "errors": (
        [Failure(
            kind="error", stage="map", task="m12", function="mapfn", error_module="builtins",
            error_name="ZeroDivisionError", message="division by zero " * 9,
            where="record 17 of logs/access.log (line 17, byte 1044)",
        )] * 2,
        tables.FAILURE_COLUMNS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("listing", LONG_VALUES)
def test_no_row_is_wider_than_the_terminal(monkeypatch, listing, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    rows, shape = LONG_VALUES[listing]
    lines = printed(rows, shape, stream=Terminal()).splitlines()
    assert len(lines) == 1 + len(rows)
    assert max(map(len, lines)) <= columns
    assert "…" in lines[1] or columns == 40, "what is cut is marked"
    assert lines[1].startswith(str(shape[0].value(rows[0])) + "  "), "whole, to be copied"


@pytest.mark.parametrize(("columns", "expected"), [(40, "failed"), (80, "Zero"), (120, "nightly-")])
def test_a_wider_terminal_shows_more_columns(monkeypatch, columns, expected):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert expected in printed(*LONG_VALUES["jobs"], stream=Terminal())
