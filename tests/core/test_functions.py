from __future__ import annotations

import functools
from collections import Counter

import pytest

from redismr.core.aggregate import BUILTINS, REDUCERS
from redismr.core.functions import Grouped, check_functions, prepare
from redismr.errors import ConfigError


def of_value(value):
    return [("value", value)]


def of_pair(key, value):
    return [(key, value)]


def with_default(value, extra=None):
    return [("value", value)]


def starred(*args):
    return [args]


def key_and_rest(key, *rest):
    return [(key, rest)]


class Mapper:
    def __call__(self, key, value):
        return [(key, value)]

    def method(self, value):
        return [("value", value)]


@pytest.mark.parametrize(
    ("mapfn", "expected"),
    [
        (of_value, [("value", "v")]),
        (of_pair, [("k", "v")]),
        (with_default, [("value", "v")]),
        (starred, [("k", "v")]),
        (key_and_rest, [("k", ("v",))]),
        (Mapper(), [("k", "v")]),
        (Mapper().method, [("value", "v")]),
        (lambda value: [("value", value)], [("value", "v")]),
        (functools.partial(of_pair, "p"), [("p", "v")]),
    ],
)
def test_required_positional_parameters_decide_how_mapfn_is_called(mapfn, expected):
    program = prepare(mapfn)
    assert (program.mapfn("v") if program.by_value else program.mapfn("k", "v")) == expected


def wrapped(decorator):
    """A decorator that keeps names and signature as ``functools.wraps`` does."""
    return lambda f: functools.wraps(f)(decorator(f))


timed = wrapped(lambda f: lambda *args, **kwargs: f(*args, **kwargs))
value_only = wrapped(lambda f: lambda key, value: f(value))
pair_of = wrapped(lambda f: lambda value: f("made", value))
injecting = wrapped(lambda f: lambda *args: f("db", *args))
keyed = wrapped(lambda f: lambda *args: f(*args, db="db"))
method_timed = wrapped(lambda f: lambda self, *args: f(self, *args))
method_value_only = wrapped(lambda f: lambda self, key, value: f(self, value))


class Decorated:
    """A decorator that is a class, and methods under decorators."""

    def __init__(self, f):
        functools.update_wrapper(self, f)
        self.f = f

    def __call__(self, key, value):
        return self.f(value)

    @method_timed
    def of_value(self, value):
        return [("value", value)]

    @timed
    def of_pair(self, key, value):
        return [(key, value)]

    @method_value_only
    def narrowed(self, value):
        return [("value", value)]


class Passing(Decorated):
    def __call__(self, *args):
        return self.f(*args)


class TimedCall:
    @timed
    def __call__(self, value):
        return [("value", value)]


@functools.singledispatch
def dispatched(value):
    return [("value", value)]


@functools.singledispatch
def dispatched_pair(key, value):
    return [(key, value)]


def of_three(db, key, value):
    return [(db + key, value)]


def of_keyword(key, value, *, db):
    return [(key, value + db)]


@pytest.mark.parametrize(
    ("mapfn", "expected"),
    [
        (timed(of_value), [("value", "v")]),
        (timed(of_pair), [("k", "v")]),
        (timed(timed(with_default)), [("value", "v")]),
        (timed(starred), [("k", "v")]),
        (value_only(of_value), [("value", "v")]),
        (timed(value_only(of_value)), [("value", "v")]),
        (value_only(timed(of_value)), [("value", "v")]),
        (pair_of(of_pair), [("made", "v")]),
        (injecting(of_three), [("dbk", "v")]),
        (keyed(of_keyword), [("k", "vdb")]),
        (functools.partial(timed(of_pair), "p"), [("p", "v")]),
        (functools.lru_cache(of_value), [("value", "v")]),
        (functools.lru_cache(of_pair), [("k", "v")]),
        (functools.cache(value_only(of_value)), [("value", "v")]),
        (dispatched, [("value", "v")]),
        (dispatched_pair, [("k", "v")]),
        (Decorated(of_value), [("value", "v")]),
        (Passing(of_value), [("value", "v")]),
        (Passing(of_pair), [("k", "v")]),
        (TimedCall(), [("value", "v")]),
        (Decorated(None).of_value, [("value", "v")]),
        (Decorated(None).of_pair, [("k", "v")]),
        (Decorated(None).narrowed, [("value", "v")]),
    ],
)
def test_a_decorated_function_is_called_as_it_is_written(mapfn, expected):
    program = prepare(mapfn)
    assert (program.mapfn("v") if program.by_value else program.mapfn("k", "v")) == expected


def test_other_functions_are_called_as_they_are_written():
    """A reducer of items under a decorator; an initfn or a partitionfn that is given something."""
    of_items = wrapped(lambda f: lambda key, values: f(values))(sum)
    assert not prepare(of_pair, of_items).reduce.items
    assert prepare(of_pair, timed(lambda items: items)).reduce.items
    assert prepare(of_pair, initfn=wrapped(lambda f: lambda: f("db"))(lambda db: db)).initfn
    assert prepare(of_pair, initfn=wrapped(lambda f: lambda *a: f("db"))(lambda db: db)).initfn
    assert prepare(of_pair, partitionfn=wrapped(lambda f: lambda k, n: f(k))(hash)).partitionfn
    with pytest.raises(ConfigError, match="takes 3 arguments"):
        prepare(wrapped(lambda f: lambda a, b, c: f(a))(of_value))


def test_a_class_that_takes_the_value():
    assert prepare(Counter).by_value


def test_without_a_signature_a_key_and_a_value_are_given():
    assert not prepare(max).by_value


def test_no_mapfn_is_no_mapfn():
    assert prepare(None, "sum").mapfn is None


@pytest.mark.parametrize(("builtin", "name"), BUILTINS)
def test_builtins_are_the_named_reducers(builtin, name):
    assert prepare(of_pair, builtin).reduce is REDUCERS[name]


def test_every_documented_name_is_known():
    assert {*"sum count min max mean list set first any all len".split()}  # noqa: SIM905 == set(REDUCERS)


def test_no_reducefn_keeps_the_values():
    assert prepare(of_pair).reduce is REDUCERS["list"]


def test_a_named_combiner_of_the_same_name_is_the_reducers_own():
    assert prepare(of_pair, "sum", combinefn=sum).combine is None
    assert prepare(of_pair, "max", combinefn="sum").combine == Grouped(REDUCERS["sum"])


@pytest.mark.parametrize(
    ("function", "items"),
    [
        (lambda items: items, True),
        (lambda key, values: values, False),
        (lambda *args: args, False),
        (lambda key, values, extra=0: values, False),
    ],
)
def test_the_two_forms_are_told_apart(function, items):
    program = prepare(of_pair, function, combinefn=function)
    assert program.reduce.items is items
    assert program.combine.items is items


async def asynchronous(key, value):
    return [(key, value)]


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ({"mapfn": 7}, "mapfn must be a function, not 7"),
        ({"mapfn": "sum"}, "mapfn must be a function"),
        ({"mapfn": lambda: 0}, r"mapfn must take \(value\) or \(key, value\)"),
        ({"mapfn": lambda a, b, c: 0}, "takes 3 arguments"),
        ({"mapfn": lambda value, *, needed: 0}, "keyword argument 'needed'"),
        ({"mapfn": asynchronous}, "async"),
        ({"reducefn": "sums"}, "'sums' is not a named reducer; there are: sum count"),
        ({"reducefn": 7}, "reducefn must be a function"),
        ({"reducefn": lambda a, b, c: 0}, r"\(key, values\) or \(items\)"),
        ({"combinefn": "nothing"}, "combinefn='nothing'"),
        ({"partitionfn": lambda key: 0}, r"partitionfn must take \(key, partitions\)"),
        ({"partitionfn": "sum"}, "partitionfn must be a function"),
        ({"initfn": lambda a: 0}, "initfn must take no arguments"),
    ],
)
def test_what_cannot_work_is_refused_at_once(functions, words):
    with pytest.raises(ConfigError, match=words):
        check_functions(**{"mapfn": of_pair, **functions})


def test_generous_signatures_are_fine():
    check_functions(of_pair, partitionfn=lambda *a: 0, initfn=lambda *a, **k: 0)
    check_functions(of_pair, partitionfn=lambda key, n, salt=0: 0, initfn=lambda x=1: 0)
