"""Error screens."""

from __future__ import annotations

import io
import json

import pytest

from redismr.core.model import Failure, TracebackLine
from redismr.core.task_errors import make_task_error
from redismr.errors import ConfigError, StoreUnavailable
from redismr.ui.error_screens import error_screen, failure_screen, print_error, print_message


@pytest.fixture(autouse=True)
def no_debugging(monkeypatch):
    monkeypatch.setenv("REDISMR_DEBUG", "")


def raised_by(function, *args):
    with pytest.raises(Exception) as caught:
        function(*args)
    return caught.value


def printed(error):
    stream = io.StringIO()
    print_error(error, stream)
    return stream.getvalue()


FAILURE = Failure(
    kind="error",
    stage="map",
    task="m12",
    function="mapfn",
    error_module="builtins",
    error_name="ZeroDivisionError",
    message="division by zero",
    frames=(TracebackLine("wc.py", 6, "mapfn", "x = 1 / 0"),),
    where="record 2001 of a.gz",
    value="'BAD'",
)


def test_an_error_of_redismr_is_shown_as_its_text():
    assert printed(ConfigError("retries=-1 must be more")) == "redismr: retries=-1 must be more\n"


def test_notes_are_shown():
    error = StoreUnavailable("no answer")
    error.add_note("is it running?")
    assert printed(error) == "redismr: no answer\nis it running?\n"


def test_an_error_without_text_is_shown_as_its_class():
    assert printed(ConfigError()) == "redismr: ConfigError\n"


def test_a_task_error_shows_its_lines_and_no_traceback():
    text = printed(make_task_error(FAILURE, "wc-1"))
    assert text.startswith("redismr: ZeroDivisionError: division by zero\n  in mapfn, on record")
    assert "x = 1 / 0" in text
    assert "Traceback" not in text
    assert len(text.splitlines()) <= 15


def test_a_failure_looks_like_the_error_it_raises():
    assert failure_screen(FAILURE, "wc-1") == str(make_task_error(FAILURE, "wc-1"))


def test_an_error_in_users_code_shows_the_users_frames_only():
    def finishfn():
        return json.loads("{")

    lines = printed(raised_by(finishfn)).splitlines()
    assert lines[0].startswith("redismr: JSONDecodeError: Expecting property name")
    assert '    return json.loads("{")' in lines
    assert not any("json/decoder.py" in line for line in lines)


def test_a_deep_recursion_is_short():
    def recurse(n):
        return recurse(n + 1)

    assert len(printed(raised_by(recurse, 0)).splitlines()) <= 18


def test_a_bug_of_redismr_is_shown_with_the_whole_traceback():
    assert error_screen(TypeError("ours")) == ""
    assert printed(TypeError("ours")) == "TypeError: ours\n"
    within_python = raised_by(json.loads, "{")
    within_python.__traceback__ = within_python.__traceback__.tb_next.tb_next
    assert "Traceback (most recent call last)" in printed(within_python)


def test_debugging_shows_tracebacks(monkeypatch):
    monkeypatch.setenv("REDISMR_DEBUG", "1")

    def fail():
        raise ConfigError("no")

    assert printed(raised_by(fail)).startswith("Traceback (most recent call last):")


def test_escape_codes_are_dropped():
    assert printed(ConfigError("a\x1b[2Jb")) == "redismr: a[2Jb\n"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour(monkeypatch, no_color, coloured):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = io.StringIO()
    stream.isatty = lambda: True
    print_message("hello", stream)
    assert ("\x1b" in stream.getvalue()) is coloured
    assert stream.getvalue().endswith(" hello\n")
