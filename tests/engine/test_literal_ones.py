"""Mapfns that yield only ``(key, 1)``: recognised by byte code, with the output of the map loop."""

from __future__ import annotations

import sys
from collections import Counter
from traceback import walk_tb
from types import FunctionType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.engine import buffer_limit, map_loops
from redismr.engine.kernel import UserCodeError, map_task
from redismr.engine.literal_ones import MapfnCalls, keys_only_mapfn
from redismr.engine.program import prepare_program
from redismr.errors import BadKey

BYTE_CODE_IS_KNOWN = sys.version_info < (3, 14)


def words(_name, text):
    for word in text.split():
        yield word, 1


def by_value(text):
    for word in text.split():
        if len(word) > 3:
            yield word.lower(), 1
        else:
            yield (word, 1)


def with_finally(_name, text):
    try:
        yield text, 1
    finally:
        yield text[:1], 1


LITERAL_ONES = [words, by_value, with_finally]


def two(_name, text):
    yield text, 2


def true(_name, text):
    yield text, True


def one_or_two(_name, text):
    yield text, 1 if text else 2


def two_or_one(_name, text):
    yield text, (text and 2) or 1


def some_ones(_name, text):
    yield text, 1
    yield text, len(text)


def a_constant_pair(_name, _text):
    yield "a", 1


def bare(_name, text):
    pair = text, 1
    yield pair


def either(_name, text):
    yield (text, 1) if text else [text, 1]


def triple(_name, text):
    yield text, text, 1


def delegating(name, text):
    yield from words(name, text)


def nested(_name, text):
    def inner():
        yield text, 1

    return list(inner())


def returning(_name, text):
    return ((word, 1) for word in text.split())


def sending(_name, text):
    yield (yield text, 1), 1


NOT_LITERAL_ONES = [
    two, true, one_or_two, two_or_one, some_ones, a_constant_pair, bare, either, triple, delegating,
    nested, returning, len, str.split, Counter, None,
]  # fmt: skip


@pytest.mark.parametrize("mapfn", LITERAL_ONES, ids=lambda f: f.__name__)
def test_mapfns_that_yield_only_ones_are_recognised(mapfn):
    assert bool(keys_only_mapfn(mapfn)) is BYTE_CODE_IS_KNOWN


class Compiled:
    """A compiled function: shows its former code, and runs other code."""

    __code__ = words.__code__

    def __call__(self, name, text):
        return [(text, 2)]


class Wrapped:
    """An object that holds a function as methods do, and does more than call it."""

    def __init__(self, function):
        self.__func__ = function

    def __call__(self, name, text):
        yield from self.__func__(name, text.lower())


class Counting:
    def method(self, text):
        yield text, 1


def test_a_method_is_recognised_and_an_object_that_only_shows_such_code_is_not():
    assert bool(keys_only_mapfn(Counting().method)) is BYTE_CODE_IS_KNOWN
    assert not keys_only_mapfn(Compiled())
    assert not keys_only_mapfn(Wrapped(words))


@pytest.mark.parametrize("mapfn", NOT_LITERAL_ONES, ids=lambda f: getattr(f, "__name__", "None"))
def test_a_mapfn_that_may_yield_anything_else_is_not_recognised(mapfn):
    assert not keys_only_mapfn(mapfn)


def total(_key, values):
    return sum(values)


def list_of_values(_key, values):
    return list(values)


def map_output(mapfn, reducer, texts, combinefn=None):
    program = prepare_program(mapfn, reducer, combinefn=combinefn, partitionfn=None, initfn=None)
    cursor, found = [0, 0], {}
    for partition, (keys, values) in map_task(program, enumerate(texts), 3, cursor):
        for key, value in zip(keys, values, strict=True):
            found.setdefault((partition, key), []).append(value)
    return list(found.items()), cursor


@pytest.mark.parametrize(
    "combinefn", [None, total, list_of_values], ids=["alone", "total", "list_of_values"]
)
@pytest.mark.parametrize("reducer", ["sum", "count", "mean", "list", "first", total, None])
@pytest.mark.parametrize("mapfn", [*LITERAL_ONES, sending], ids=lambda f: f.__name__)
@given(texts=st.lists(st.text("ab ", max_size=20), max_size=10))
def test_counting_gives_the_output_of_the_map_loop(mapfn, reducer, combinefn, texts):
    arity = mapfn.__code__.co_argcount
    other = (lambda v: list(mapfn(v))) if arity == 1 else (lambda k, v: list(mapfn(k, v)))
    expected = map_output(other, reducer, texts, combinefn)
    assert map_output(mapfn, reducer, texts, combinefn) == expected


def configured(_name, text, least=2, *, most=5):
    for word in text.split():
        if least <= len(word) <= most and word not in STOP:
            yield word, 1


def enclosed(text):
    def mapfn(name, _value):
        for word in text.split():
            yield (name, word), 1

    return mapfn


STOP = ("the",)


@pytest.mark.parametrize("mapfn", [configured, enclosed("a b a"), Counting().method])
def test_defaults_and_closures_are_kept(mapfn):
    given = (
        ["a the bb ccc toolong"] if mapfn.__code__.co_varnames[0] == "self" else ["", "a the bb"]
    )
    expected = list(mapfn(*given))
    assert expected
    if alone := keys_only_mapfn(mapfn):
        assert [(key, 1) for key in alone(*given)] == expected
    assert bool(alone) is BYTE_CODE_IS_KNOWN


def test_a_traceback_shows_the_lines_of_the_function():
    def mapfn(_key, value):
        yield value, 1
        yield 1 / value, 1

    code = mapfn.__code__
    with pytest.raises(UserCodeError) as info:
        map_output(mapfn, "sum", [0])
    *_, (frame, line) = walk_tb(info.value.__cause__.__traceback__)
    assert (frame.f_code.co_filename, line) == (__file__, code.co_firstlineno + 2)
    assert frame.f_code.co_qualname == code.co_qualname


def test_equal_functions_of_two_files_keep_their_names():
    code = words.__code__.replace(co_filename="elsewhere.py", co_qualname="other")
    found = [keys_only_mapfn(words), keys_only_mapfn(FunctionType(code, {}))]
    names = [(f.__code__.co_filename, f.__code__.co_qualname) for f in found if f]
    assert names == [(__file__, "words"), ("elsewhere.py", "other")][: 2 * BYTE_CODE_IS_KNOWN]


@pytest.mark.parametrize(
    ("name", "most", "combinefn"),
    [("MAP_BUFFER_KEYS", 72, None), ("MAP_BUFFER_VALUES", 640, total)],
)
def test_the_counter_is_flushed_within_a_record(monkeypatch, name, most, combinefn):
    monkeypatch.setattr(buffer_limit, "MAP_BUFFER_KEYS", 64)
    monkeypatch.setattr(buffer_limit, name, 64 if name == "MAP_BUFFER_KEYS" else 600)
    text = " ".join(str(n % 1000) for n in range(5000))
    program = prepare_program(words, "sum", combinefn=combinefn, partitionfn=None, initfn=None)
    outputs = MapfnCalls(str.split, [(0, text), (1, text)], takes_value_only=True)
    flushes = list(map_loops._map_literal_ones(program, outputs, 1, [0, 0]))
    assert max(sum(sum(values) for _, (_, values) in columns) for columns in flushes) <= most
    assert sum(sum(values) for columns in flushes for _, (_, values) in columns) == 10_000


@pytest.mark.parametrize("bad", [["x"], ({},)], ids=repr)
def test_a_key_that_is_not_hashable_is_named(bad):
    def mapfn(_key, value):
        yield value, 1

    with pytest.raises(UserCodeError) as info:
        map_output(mapfn, "sum", ["fine", bad])
    assert (info.value.function, info.value.ordinal, info.value.key) == ("mapfn", 1, 1)
    assert isinstance(info.value.__cause__, BadKey)
    assert "mapfn emitted a key of type" in str(info.value.__cause__)


@pytest.mark.parametrize("error", [TypeError, ValueError, StopIteration, SystemExit, KeyError])
def test_errors_of_mapfn_keep_their_cause_and_record(error):
    def mapfn(_key, value):
        yield value, 1
        if value == "bad":
            raise error("unhashable type: 'not this'")

    with pytest.raises(UserCodeError) as info:
        map_output(mapfn, "sum", ["fine", "bad", "never"])
    assert (info.value.ordinal, info.value.value) == (1, "bad")
    expected = RuntimeError if error is StopIteration else error
    assert type(info.value.__cause__) is expected


def test_an_error_of_the_source_is_not_blamed_on_mapfn():
    def records():
        yield "fine"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        map_output(words, "sum", records())
