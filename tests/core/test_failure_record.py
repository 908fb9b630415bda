"""Failures: from an exception to text, through JSON, and back to an exception for the user."""

from __future__ import annotations

import builtins
import copy
import functools
import json
import pickle
import sys
import traceback
import types
from dataclasses import replace
from typing import Any, Self

import numpy as np
import pytest

import redismr.errors
from redismr.core.failure_capture import NOT_GIVEN, make_failure
from redismr.core.job_payloads import decode_failure, encode_failure
from redismr.core.model import Failure
from redismr.core.task_errors import imported_class, make_task_error
from redismr.errors import (
    BadPair,
    BadValue,
    CodeError,
    JobFailed,
    MapError,
    ReduceError,
    SourceError,
    TaskError,
)

PLAIN = (StopIteration, StopAsyncIteration, GeneratorExit, SystemExit, KeyboardInterrupt)
ODD_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "UnicodeDecodeError": ("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "UnicodeEncodeError": ("ascii", "\xff", 0, 1, "ordinal not in range"),
    "UnicodeTranslateError": ("\xff", 0, 1, "no"),
    "SyntaxError": ("invalid syntax", ("wc.py", 3, 1, "x = = 1", 3, 4)),
    "OSError": (2, "No such file", "logs/a"),
    "ExceptionGroup": ("several", [ValueError("a"), KeyError("b")]),
    "BaseExceptionGroup": ("several", [KeyboardInterrupt()]),
}


def builtin_exceptions() -> list[type[BaseException]]:
    found = {
        v for v in vars(builtins).values() if isinstance(v, type) and issubclass(v, BaseException)
    }
    return sorted(found, key=lambda cls: cls.__name__)


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


def failure(exc: BaseException, **more: Any) -> Failure:
    defaults: dict[str, Any] = {
        "stage": "map",
        "task": "m12",
        "function": "mapfn",
        "where": "record 2001 of logs/a.gz (line 2001, byte 104417)",
        "value": "BAD not-a-number",
        "attempt": 4,
        "attempts": 4,
        "python": "3.12.1",
    }
    return replace(make_failure(exc, **{**defaults, **more}), host="web3", pid=4117)


def divide(value: int) -> float:
    return value / 0


def test_the_whole_text() -> None:
    try:
        divide(1)
    except ZeroDivisionError as caught:
        error = make_task_error(failure(caught), "wc-7f3a")
    lines = str(error).splitlines()
    assert lines[:4] == [
        "ZeroDivisionError: division by zero",
        "  in mapfn, on record 2001 of logs/a.gz (line 2001, byte 104417)",
        "     value = 'BAD not-a-number'",
        "  job wc-7f3a, task m12, attempt 4 of 4 (worker web3:4117), python 3.12.1",
    ]
    assert lines[4] == "  Worker traceback (your frames only):"
    assert lines[7].endswith(", in divide") and __file__ in lines[7]
    assert lines[8] == "      return value / 0"
    assert len(lines) == 9
    shown = "".join(traceback.format_exception(error))
    assert shown == f"redismr.MapError: {error}\n"


@pytest.mark.parametrize("original", builtin_exceptions(), ids=lambda cls: cls.__name__)
def test_every_builtin_exception(original: type[BaseException]) -> None:
    exc = raised(original(*ODD_ARGUMENTS.get(original.__name__, ("it broke",))))
    error = make_task_error(failure(exc), "job1")
    first = str(error).splitlines()[0]
    assert first == f"{type(exc).__name__}: {exc}"
    assert isinstance(error, MapError)
    plain = original is not BaseException and (
        issubclass(original, PLAIN) or not issubclass(original, Exception)
    )
    assert isinstance(error, original) is not plain
    assert not isinstance(error, PLAIN)
    shown = "".join(traceback.format_exception(error))
    assert first in shown and "task m12" in shown
    with pytest.raises(MapError):
        raise error
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert str(twin) == str(error)
        assert twin.__class__.__mro__[1:] == error.__class__.__mro__[1:]
        assert twin.failure == error.failure and twin.job_id == "job1"


class Odd(ValueError):
    def __new__(cls, code: int, *, strict: bool) -> Self:
        return super().__new__(cls, code)

    def __init__(self, code: int, *, strict: bool) -> None:
        super().__init__(f"code {code}, strict {strict}")
        self.code = code

    def __str__(self) -> str:
        return f"odd {self.code}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("never pickled")

    @property
    def failure(self) -> str:
        raise RuntimeError("not yours")


class Closed(OSError):
    __slots__ = ("args2",)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class Picky(Exception):
    def __init_subclass__(cls, *, reason: str) -> None:
        raise AssertionError(reason)


class Meta(type):
    def __call__(cls, *args: Any) -> Any:
        raise RuntimeError("made by a factory only")


class Factory(LookupError, metaclass=Meta):
    pass


class Liar(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class Outer:
    class Inner(KeyError):
        pass


def test_user_classes_with_odd_construction() -> None:
    error = make_task_error(failure(raised(Odd(3, strict=True))), "j")
    assert isinstance(error, Odd) and isinstance(error, ValueError)
    assert str(error).startswith("Odd: odd 3\n")
    assert error.failure is not None and error.failure.error_name == "Odd"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_user_classes_that_cannot_be_a_second_base_stay_plain() -> None:
    for exc in (Closed(2, "gone"), Picky("no"), Factory.__new__(Factory)):
        error = make_task_error(failure(exc), "j")
        assert isinstance(error, MapError)
        assert str(error).startswith(type(exc).__name__)
        assert pickle.loads(pickle.dumps(error)).failure == error.failure


def test_nested_classes_are_found_and_locals_are_not() -> None:
    assert isinstance(make_task_error(failure(Outer.Inner("x")), "j"), Outer.Inner)

    class Local(ValueError):
        pass

    error = make_task_error(failure(Local("x")), "j")
    assert type(error) is MapError
    assert "Local: x" in str(error)


def test_nothing_is_imported_to_find_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lazy_module")
    module.__getattr__ = lambda name: pytest.fail("a module hook ran")  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    assert imported_class("lazy_module", "Error") is None
    sys.modules.pop("tomllib", None)
    assert imported_class("tomllib", "TOMLDecodeError") is None
    assert "tomllib" not in sys.modules
    assert imported_class("builtins", "len") is None
    assert imported_class("", "") is None


def test_the_caller_may_resolve_classes() -> None:
    given = failure(ValueError("x"))
    assert type(make_task_error(given, "j", lambda module, name: None)) is MapError


def test_record_errors_keep_their_class() -> None:
    error = make_task_error(failure(BadPair("mapfn yielded 'ab', not a pair")), "j")
    assert isinstance(error, MapError) and isinstance(error, BadPair)
    assert isinstance(error, TypeError)


def test_nested_job_errors() -> None:
    inner = make_task_error(failure(raised(ValueError("deep"))), "inner")
    assert isinstance(make_task_error(failure(inner), "outer"), MapError)
    for exc in (JobFailed("x"), TaskError("x"), CodeError("x"), Exception("x")):
        assert str(make_task_error(failure(exc), "outer")).startswith(type(exc).__name__)


def test_reduce_side() -> None:
    error = make_task_error(
        failure(ValueError(), stage="reduce", task="r3", function="reducefn", key=None)
    )
    assert isinstance(error, ReduceError)
    assert str(error).splitlines()[0] == "ValueError"
    assert "     key = None" in str(error)
    assert "job" not in str(error).splitlines()[4]


@pytest.mark.parametrize("kind", ["crash", "timeout", "lost"])
def test_a_dead_executor(kind: str) -> None:
    given = Failure(
        kind=kind,
        stage="map",
        task="m3",
        function="mapfn",
        error_module="",
        error_name="",
        message="the executor died by SIGSEGV",
        where="record 3 of a.txt",
        host="web3",
        pid=12,
        attempt=1,
        attempts=4,
    )
    error = make_task_error(given, "j1")
    assert type(error) is MapError
    assert str(error).splitlines() == [
        "the executor died by SIGSEGV",
        "  in mapfn, on record 3 of a.txt",
        "  job j1, task m3, attempt 1 of 4 (worker web3:12)",
    ]


def test_failures_of_sources_and_of_redismr_read_well() -> None:
    text = str(make_task_error(failure(OSError(2, "no"), function="source"), "j"))
    assert "  while reading the input, on record 2001" in text
    assert "  on record 2001" in str(make_task_error(failure(OSError(2, "no"), function=""), "j"))


def test_only_the_users_frames() -> None:
    try:
        json.loads("{")
    except ValueError as caught:
        frames = failure(caught).frames
    assert [frame.function for frame in frames] == ["test_only_the_users_frames"]
    assert frames[0].text == 'json.loads("{")'


def test_no_frames_if_none_is_the_users() -> None:
    mapfn = functools.partial(json.loads, "{")
    try:
        mapfn()
    except ValueError as caught:
        caught.__traceback__ = caught.__traceback__ and caught.__traceback__.tb_next
        assert caught.__traceback__
        given = failure(caught)
    assert given.frames == ()
    assert "traceback" not in str(make_task_error(given))


def test_frames_of_cython_are_those_of_the_library_that_has_them() -> None:
    generator = np.random.default_rng(0)
    try:
        generator.choice(5, size=-1)
    except ValueError as caught:
        shown = traceback.extract_tb(caught.__traceback__)
        frames = failure(caught).frames
    assert any(frame.filename.endswith(".pyx") for frame in shown)
    assert [frame.file for frame in frames] == [__file__]


def test_a_source_error_names_the_only_place() -> None:
    try:
        try:
            b"\xe9".decode()
        except UnicodeDecodeError as error:
            raise SourceError("f, line 3, byte 7: not utf-8") from error
    except SourceError as caught:
        text = str(make_task_error(failure(caught, function="source", where="", value=NOT_GIVEN)))
    assert text.splitlines()[:3] == [
        "SourceError: f, line 3, byte 7: not utf-8",
        "  while reading the input",
        "  task m12, attempt 4 of 4 (worker web3:4117), python 3.12.1",
    ]
    assert len(text.splitlines()) == 3


class Unmakeable:
    def __setstate__(self, state: object) -> None:
        raise ValueError("cannot make")


def test_a_record_error_has_the_frames_of_its_cause() -> None:
    try:
        try:
            Unmakeable().__setstate__(0)
        except ValueError as error:
            raise BadValue("it cannot be made again") from error
    except BadValue as caught:
        caught.__traceback__ = None
        frames = failure(caught).frames
    assert [frame.function for frame in frames][-1] == "__setstate__"


def test_frames_of_redismr_are_dropped() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    try:
        redismr.errors.JobError(Bad(), bad=1)  # type: ignore[call-arg, arg-type]
    except TypeError as caught:
        assert len(failure(caught).frames) == 1


def sink(depth: int) -> None:
    sink(depth + 1)


def test_deep_recursion_is_capped() -> None:
    try:
        sink(0)
    except RecursionError as caught:
        given = failure(caught)
    assert len(given.frames) == 6
    assert given.frames[0].function == "test_deep_recursion_is_capped"
    assert len(str(make_task_error(given, "j")).splitlines()) <= 15


def test_everything_at_once_stays_on_one_screen() -> None:
    def deep(n: int) -> None:
        if n:
            deep(n - 1)
        exc = ValueError("\n".join(["many lines"] * 50) + "x" * 9000)
        for i in range(20):
            exc.add_note(f"note {i} " + "y" * 500)
        raise exc from KeyError("first")

    try:
        deep(20)
    except ValueError as caught:
        given = failure(caught, key="k" * 500, value=list(range(10**6)))
    text = str(make_task_error(given, "j"))
    assert len(text.splitlines()) <= 16
    assert len(given.message) <= 500 and len(given.key) <= 120 and len(given.value) <= 120
    assert all(len(note) <= 160 for note in given.notes) and len(given.notes) == 3
    assert decode_failure(encode_failure(given)) == given


def test_causes_and_groups_are_notes() -> None:
    try:
        try:
            {}["name"]
        except KeyError as key_error:
            raise ValueError("no such user") from key_error
    except ValueError as caught:
        assert failure(caught).notes == ("raised after KeyError: 'name'",)
    group = ExceptionGroup("several", [ValueError("a"), OSError("b")])
    assert failure(group).notes == ("sub-exception 1: ValueError: a", "sub-exception 2: OSError: b")


def test_no_terminal_codes_are_left() -> None:
    class Record:
        def __repr__(self) -> str:
            return "\x1b]0;owned\x07\x9b2J\u202edrow"

    exc = ValueError("a\x1b[2J\r\x00b\ud800 \u2066c")
    given = failure(exc, value=Record(), where="record \x1b[1m of x")
    text = str(make_task_error(given, "j"))
    assert text.replace("\n", "").isprintable()
    assert text.encode()
    assert decode_failure(encode_failure(given)) == given


def test_hostile_objects() -> None:
    class Angry:
        __notes__ = "not a list"

        def __repr__(self) -> str:
            raise RuntimeError

    given = failure(Liar(), value=Angry(), key=10**5000)
    assert given.message == "<its str() raises RuntimeError>"
    assert "Angry" in given.value
    assert given.key
    exc = ValueError("x")
    exc.__notes__ = "not a list"  # type: ignore[assignment]
    assert failure(exc).notes == ()


def test_decoding_is_lenient_to_newer_fields_and_strict_to_nonsense() -> None:
    given = failure(raised(ValueError("x")))
    newer = {**json.loads(encode_failure(given)), "colour": "blue"}
    assert decode_failure(json.dumps(newer).encode()) == given
    for nonsense in (b"", b"[]", b"{}", b'{"frames":[1]}', b"3"):
        with pytest.raises(ValueError):
            decode_failure(nonsense)
