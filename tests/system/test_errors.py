"""Errors of user functions: users see them, and workers survive them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pdb  # noqa: T100
import signal
import sys
import time

import pytest
from system.processes import ONE_SERVER_KIND

import redismr
from redismr.cli.exit_codes import exit_code_for


def emit_item(x):
    return [(x, 1)]


def check_lines(error):
    text = str(error)
    assert len(text.splitlines()) <= 16, text
    assert "redismr/workers" not in text, text
    return text


def still_works(client):
    return dict(client.run([1, 2], emit_item, "sum")) == {1: 1, 2: 1}


def test_mapfn_raises(client_with_worker):
    def mapfn(key, value):
        return [(key, 1 / value)]

    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        client_with_worker.run({"good": 1, "bad": 0}, mapfn, "sum", retries=0)
    assert isinstance(caught.value, redismr.MapError)
    text = check_lines(caught.value)
    assert "'bad'" in text
    assert "return [(key, 1 / value)]" in text
    assert "attempt 1 of 1" in text
    assert caught.value.job_id in text
    assert caught.value.failure.function == "mapfn"


def test_the_line_and_byte_of_a_record_are_named(client_with_worker, tmp_path):
    (tmp_path / "log").write_text("1\n2\nx\n")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        client_with_worker.run(
            redismr.lines(tmp_path / "log"), lambda s: [(int(s), 1)], "sum", retries=0
        )
    text = check_lines(caught.value)
    assert f"{tmp_path}/log (line 3, byte 4)" in text
    assert "'x'" in text


def test_reducefn_raises(client_with_worker):
    def reducefn(key, values):
        raise LookupError(f"no {key}")

    with pytest.raises(LookupError, match="no 7") as caught:
        client_with_worker.run([7], emit_item, reducefn, retries=0)
    assert isinstance(caught.value, redismr.ReduceError)
    assert "in reducefn" in check_lines(caught.value)
    assert "key = 7" in str(caught.value)


def test_combinefn_raises(client_with_worker):
    def combinefn(key, values):
        raise ArithmeticError("combined")

    with pytest.raises(ArithmeticError, match="combined") as caught:
        client_with_worker.run([7], emit_item, "sum", combinefn=combinefn, retries=0)
    assert isinstance(caught.value, redismr.MapError)
    assert "in combinefn" in check_lines(caught.value)


def test_partitionfn_raises(client_with_worker):
    def partitionfn(key, n):
        return {}[key]

    with pytest.raises(KeyError) as caught:
        client_with_worker.run([7], emit_item, "sum", partitionfn=partitionfn, retries=0)
    assert isinstance(caught.value, redismr.MapError)
    assert "in partitionfn" in check_lines(caught.value)


def test_a_partition_out_of_range_is_named(client_with_worker):
    with pytest.raises(redismr.MapError, match="partition"):
        client_with_worker.run([7], emit_item, "sum", partitionfn=lambda _key, n: n, retries=0)


def test_initfn_raises(client_with_worker):
    def initfn():
        raise RuntimeError("no model")

    with pytest.raises(RuntimeError, match="no model") as caught:
        client_with_worker.run([7], emit_item, "sum", initfn=initfn, retries=0)
    assert isinstance(caught.value, redismr.MapError)
    check_lines(caught.value)


def test_retries_are_used_up(client_with_worker, tmp_path):
    log = tmp_path / "log"

    def mapfn(x):
        with log.open("a") as file:
            file.write("x\n")
            tries = file.tell()
        raise ValueError(f"try {tries}")

    with pytest.raises(ValueError, match="try") as caught:
        client_with_worker.run([1], mapfn, "sum", retries=2)
    assert len(log.read_text().splitlines()) == 3
    assert "attempt 3 of 3" in str(caught.value)


def test_the_same_error_on_two_executors_ends_the_job_at_once(client_with_worker, tmp_path):
    log = tmp_path / "log"

    def mapfn(x):
        with log.open("a") as file:
            file.write("x\n")
        raise ValueError("same")

    with pytest.raises(ValueError, match="same"):
        client_with_worker.run([1], mapfn, "sum", retries=50)
    assert len(log.read_text().splitlines()) < 51


def test_a_long_message_is_cut(client_with_worker):
    def mapfn(x):
        raise ValueError("\n".join(["long" * 100] * 100))

    with pytest.raises(ValueError, match="long") as caught:
        client_with_worker.run([1], mapfn, "sum", retries=0)
    check_lines(caught.value)


def test_an_error_of_finishfn_is_raised_unchanged(client_with_worker):
    error = LookupError("mine")

    def finishfn(_results):
        raise error

    with pytest.raises(LookupError) as caught:
        client_with_worker.run([1], emit_item, "sum", finishfn=finishfn)
    assert caught.value is error


def test_an_error_of_resultfn_is_raised_unchanged(client_with_worker):
    error = LookupError("mine")

    def resultfn(_txn, _results):
        raise error

    with pytest.raises(LookupError) as caught:
        client_with_worker.run([1], emit_item, "sum", resultfn=resultfn)
    assert caught.value is error


# ------------------------------------------------------------------------- survival


def recurse(x):
    return recurse(x)


def exit_system(_x):
    sys.exit(3)


def interrupt(_x):
    raise KeyboardInterrupt


def run_out_of_memory(_x):
    raise MemoryError


def raise_stop_iteration(_x):
    raise StopIteration


def raise_generator_exit(_x):
    raise GeneratorExit


def raise_cancelled(_x):
    raise asyncio.CancelledError


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no text")


def unprintable(_x):
    raise Unprintable


@pytest.mark.parametrize(
    ("mapfn", "expected"),
    [
        (recurse, RecursionError),
        (exit_system, redismr.MapError),
        (interrupt, redismr.MapError),
        (run_out_of_memory, MemoryError),
        (raise_stop_iteration, redismr.MapError),
        (raise_generator_exit, redismr.MapError),
        (raise_cancelled, redismr.MapError),
        (unprintable, redismr.MapError),
    ],
)
def test_a_worker_survives_exceptions(client_with_worker, shared_worker, mapfn, expected):
    before = shared_worker.started[0].executors(2)
    with pytest.raises(expected) as caught:
        client_with_worker.run([5], mapfn, "sum", retries=0)
    assert isinstance(caught.value, redismr.MapError)
    assert "  in mapfn, on item 0 (key 0)\n     key = 0\n     value = 5\n" in check_lines(
        caught.value
    )
    assert still_works(client_with_worker)
    assert len(shared_worker.started[0].executors(2)) == len(before)


def test_an_exception_that_is_raised_again_and_again_shows_its_frames_once(client_with_worker):
    error = LookupError("kept")

    def mapfn(_x):
        error.args = (os.getpid(), *error.args)  # two equal errors would end the job
        raise error

    with pytest.raises(LookupError) as caught:
        client_with_worker.run([5], mapfn, "sum", retries=3)
    assert len(caught.value.failure.frames) == 1


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_worker_survives_exceptions_of_a_reducefn(client_with_worker, error):
    def reducefn(_key, _values):
        raise error

    with pytest.raises(redismr.ReduceError, match=r"in reducefn\n     key = 5\n     value = \[1\]"):
        client_with_worker.run([5], emit_item, reducefn, retries=0)
    assert still_works(client_with_worker)


class CannotUnpickle:
    def __setstate__(self, _state):
        raise ValueError("cannot make")

    def __getstate__(self):
        return 1


def exit_with_3(*_):
    sys.exit(3)


@ONE_SERVER_KIND
@pytest.mark.parametrize(
    ("source", "functions", "kind", "message", "tries"),
    [
        ("bad.txt", {}, redismr.BadInput, "bad.txt, line 2, byte 2: not utf-8", 1),
        (redismr.csv, {}, redismr.BadInput, "not utf-8", 1),
        ([CannotUnpickle()], {}, redismr.BadValue, "cannot be made again", 1),
        (
            [1],
            {"mapfn": lambda key, _: [(key, CannotUnpickle())], "reducefn": "list"},
            redismr.BadValue,
            "cannot be made again from a pickle, as a worker has to: ValueError: cannot make. Emit",
            1,
        ),
        ([1], {"mapfn": exit_with_3}, redismr.MapError, "  in mapfn, on item 0 (key 0)", 0),
        ([1], {"initfn": exit_with_3}, redismr.MapError, "  in initfn\n", 0),
        ([1], {"combinefn": exit_with_3}, redismr.MapError, "  in combinefn\n     key = 1", 0),
        ([1], {"partitionfn": exit_with_3}, redismr.MapError, "  in partitionfn\n     key = 1", 0),
        ([1], {"reducefn": exit_with_3}, redismr.ReduceError, "  in reducefn\n     key = 1", 0),
    ],
)
def test_inline_raises_as_workers_do(
    client_with_worker, tmp_path, source, functions, kind, message, tries
):
    (tmp_path / "bad.txt").write_bytes(b"a\n\xe9\n")
    if not isinstance(source, list):
        name = tmp_path / "bad.txt"
        source = source(name) if callable(source) else name
    functions = {"mapfn": lambda _, v: [(v, 1)], "reducefn": "sum"} | functions
    errors = []
    for options in ({"inline": True}, {"client": client_with_worker}):
        with pytest.raises(redismr.TaskError) as caught:
            redismr.run(source, **functions, **options, retries=3 if tries else 0)
        errors.append(caught.value)
    inline, remote = errors
    assert isinstance(inline, kind) and isinstance(remote, kind)
    assert exit_code_for(inline) == exit_code_for(remote) == 1
    assert message in str(inline) and message in str(remote)
    assert str(inline).count("/bad.txt") <= 1 and str(remote).count("/bad.txt") <= 1
    assert inline.failure.frames == remote.failure.frames
    assert not tries or remote.failure.attempt == tries


@ONE_SERVER_KIND
@pytest.mark.parametrize(
    ("role", "options"),
    [("mapfn", {"on_error": "skip"}), ("reducefn", {"on_error": "skip"}), ("initfn", {})],
)
def test_a_debugger_on_a_worker_fails_at_once_and_names_inline(client_with_worker, role, options):
    def look(*_):
        breakpoint()  # noqa: T100

    functions = {"mapfn": emit_item, "reducefn": "sum", role: look}
    with pytest.raises(
        redismr.DebuggerError, match=r"inline=True \(redismr run --inline\)"
    ) as caught:
        client_with_worker.run([5], **functions, **options)
    assert caught.value.failure.attempt == 1
    assert caught.value.failure.function == role
    assert caught.value.failure.frames[-1].text.startswith("breakpoint()")


def test_pdb_on_a_worker_fails_as_a_debugger(client_with_worker):
    def mapfn(x):
        pdb.set_trace()  # noqa: T100
        yield x, 1

    with pytest.raises(redismr.DebuggerError, match="on item 0") as caught:
        client_with_worker.run([5], mapfn, "sum", on_error="skip")
    assert caught.value.failure.attempt == 1
    assert still_works(client_with_worker)


def exit_at_once(_x):
    os._exit(9)


def exit_clean(_x):
    os._exit(0)


def segfault(_x):
    ctypes.string_at(0)


def kill_itself(_x):
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("mapfn", "message"),
    [
        (exit_at_once, "status 9"),
        (exit_clean, "status 0"),
        (segfault, "SIGSEGV"),
        (kill_itself, "SIGSEGV"),
    ],
)
def test_a_worker_survives_the_death_of_an_executor(client_with_worker, mapfn, message):
    with pytest.raises(redismr.MapError, match=message) as caught:
        client_with_worker.run(
            [1, 2, 3], lambda x: mapfn(x) if x == 2 else emit_item(x), lost_leases=0, chunk=3
        )
    assert "item 1" in str(caught.value) or "record 2" in str(caught.value)
    assert still_works(client_with_worker)


def test_a_task_is_retried_when_its_process_died(client_with_worker, tmp_path):
    def mapfn(x):
        marker = tmp_path / "died"
        if not marker.exists():
            marker.write_text("")
            os._exit(1)
        return emit_item(x)

    assert dict(client_with_worker.run([1], mapfn, "sum")) == {1: 1}


def test_task_timeout_kills(client_with_worker):
    def mapfn(x):
        while True:
            time.sleep(0.01)

    with pytest.raises(redismr.MapError, match="longer than task_timeout") as caught:
        client_with_worker.run([1], mapfn, "sum", task_timeout=0.3, lost_leases=0, lease=0.6)
    check_lines(caught.value)
    assert still_works(client_with_worker)
