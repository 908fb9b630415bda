from __future__ import annotations

import functools
from collections import Counter

import pytest

from redismr.engine.program import GroupFunction, check_functions, prepare_program
from redismr.engine.reducers import BUILTIN_REDUCERS, REDUCERS
from redismr.errors import ConfigError


def takes_value(value):
    return [("value", value)]


def takes_key_and_value(key, value):
    return [(key, value)]


def with_default(value, extra=None):
    return [("value", value)]


def takes_any_number(*args):
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
        (takes_value, [("value", "v")]),
        (takes_key_and_value, [("k", "v")]),
        (with_default, [("value", "v")]),
        (takes_any_number, [("k", "v")]),
        (key_and_rest, [("k", ("v",))]),
        (Mapper(), [("k", "v")]),
        (Mapper().method, [("value", "v")]),
        (lambda value: [("value", value)], [("value", "v")]),
        (functools.partial(takes_key_and_value, "p"), [("p", "v")]),
    ],
)
def test_required_positional_parameters_decide_how_mapfn_is_called(mapfn, expected):
    program = prepare_program(mapfn)
    assert (program.mapfn("v") if program.takes_value_only else program.mapfn("k", "v")) == expected


def decorator_from(decorator):
    """Return a decorator that keeps name and signature, as ``functools.wraps`` does."""
    return lambda f: functools.wraps(f)(decorator(f))


timed = decorator_from(lambda f: lambda *args, **kwargs: f(*args, **kwargs))
value_only = decorator_from(lambda f: lambda key, value: f(value))
pair_of = decorator_from(lambda f: lambda value: f("made", value))
injecting = decorator_from(lambda f: lambda *args: f("db", *args))
keyed = decorator_from(lambda f: lambda *args: f(*args, db="db"))
method_timed = decorator_from(lambda f: lambda self, *args: f(self, *args))
method_value_only = decorator_from(lambda f: lambda self, key, value: f(self, value))


class Decorated:
    """A decorator that is a class, with decorated methods."""

    def __init__(self, f):
        functools.update_wrapper(self, f)
        self.f = f

    def __call__(self, key, value):
        return self.f(value)

    @method_timed
    def takes_value(self, value):
        return [("value", value)]

    @timed
    def takes_key_and_value(self, key, value):
        return [(key, value)]

    @method_value_only
    def narrowed(self, value):
        return [("value", value)]


class PassingArguments(Decorated):
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


def takes_three(db, key, value):
    return [(db + key, value)]


def takes_keyword(key, value, *, db):
    return [(key, value + db)]


@pytest.mark.parametrize(
    ("mapfn", "expected"),
    [
        (timed(takes_value), [("value", "v")]),
        (timed(takes_key_and_value), [("k", "v")]),
        (timed(timed(with_default)), [("value", "v")]),
        (timed(takes_any_number), [("k", "v")]),
        (value_only(takes_value), [("value", "v")]),
        (timed(value_only(takes_value)), [("value", "v")]),
        (value_only(timed(takes_value)), [("value", "v")]),
        (pair_of(takes_key_and_value), [("made", "v")]),
        (injecting(takes_three), [("dbk", "v")]),
        (keyed(takes_keyword), [("k", "vdb")]),
        (functools.partial(timed(takes_key_and_value), "p"), [("p", "v")]),
        (functools.lru_cache(takes_value), [("value", "v")]),
        (functools.lru_cache(takes_key_and_value), [("k", "v")]),
        (functools.cache(value_only(takes_value)), [("value", "v")]),
        (dispatched, [("value", "v")]),
        (dispatched_pair, [("k", "v")]),
        (Decorated(takes_value), [("value", "v")]),
        (PassingArguments(takes_value), [("value", "v")]),
        (PassingArguments(takes_key_and_value), [("k", "v")]),
        (TimedCall(), [("value", "v")]),
        (Decorated(None).takes_value, [("value", "v")]),
        (Decorated(None).takes_key_and_value, [("k", "v")]),
        (Decorated(None).narrowed, [("value", "v")]),
    ],
)
def test_a_decorated_function_is_called_as_it_is_written(mapfn, expected):
    program = prepare_program(mapfn)
    assert (program.mapfn("v") if program.takes_value_only else program.mapfn("k", "v")) == expected


def test_other_functions_are_called_as_they_are_written():
    """Reducers of items, initfns and partitionfns under decorators."""
    of_items = decorator_from(lambda f: lambda key, values: f(values))(sum)
    assert not prepare_program(takes_key_and_value, of_items).reduce.takes_items
    assert prepare_program(takes_key_and_value, timed(lambda items: items)).reduce.takes_items
    assert prepare_program(
        takes_key_and_value, initfn=decorator_from(lambda f: lambda: f("db"))(lambda db: db)
    ).initfn
    assert prepare_program(
        takes_key_and_value, initfn=decorator_from(lambda f: lambda *a: f("db"))(lambda db: db)
    ).initfn
    assert prepare_program(
        takes_key_and_value, partitionfn=decorator_from(lambda f: lambda k, n: f(k))(hash)
    ).partitionfn
    with pytest.raises(ConfigError, match="takes 3 arguments"):
        prepare_program(decorator_from(lambda f: lambda a, b, c: f(a))(takes_value))


def test_a_class_may_be_the_mapfn():
    assert prepare_program(Counter).takes_value_only


def test_a_mapfn_without_signature_gets_key_and_value():
    assert not prepare_program(max).takes_value_only


def test_without_a_mapfn_the_program_has_none():
    assert prepare_program(None, "sum").mapfn is None


@pytest.mark.parametrize("builtin", BUILTIN_REDUCERS)
def test_builtins_are_the_named_reducers(builtin):
    assert prepare_program(takes_key_and_value, builtin).reduce is REDUCERS[builtin.__name__]


def test_every_documented_name_is_known():
    names = "sum count min max mean list set first any all len"
    assert set(names.split()) == set(REDUCERS)


def test_no_reducefn_keeps_the_values():
    assert prepare_program(takes_key_and_value).reduce is REDUCERS["list"]


def test_a_combiner_of_the_same_name_as_the_reducer_is_dropped():
    assert prepare_program(takes_key_and_value, "sum", combinefn=sum).combine is None
    assert prepare_program(takes_key_and_value, "max", combinefn="sum").combine == GroupFunction(
        REDUCERS["sum"]
    )


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
    program = prepare_program(takes_key_and_value, function, combinefn=function)
    assert program.reduce.takes_items is items
    assert program.combine.takes_items is items


async def asynchronous(key, value):
    return [(key, value)]


@pytest.mark.parametrize(
    ("functions", "message"),
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
def test_functions_that_cannot_work_are_refused_at_once(functions, message):
    with pytest.raises(ConfigError, match=message):
        check_functions(**{"mapfn": takes_key_and_value, **functions})


def test_signatures_that_accept_more_arguments_are_accepted():
    check_functions(takes_key_and_value, partitionfn=lambda *a: 0, initfn=lambda *a, **k: 0)
    check_functions(takes_key_and_value, partitionfn=lambda key, n, salt=0: 0, initfn=lambda x=1: 0)
