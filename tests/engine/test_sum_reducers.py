"""User functions that only sum up: replaced by the named "sum", with equal results."""

from __future__ import annotations

import sys
from functools import reduce
from operator import add
from types import FunctionType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.engine.kernel import map_task, reduce_task
from redismr.engine.program import prepare_program
from redismr.engine.reducers import REDUCERS
from redismr.engine.sum_reducers import use_named_sum

SUM = REDUCERS["sum"]
BYTE_CODE_IS_KNOWN = sys.version_info < (3, 14)


def words(_name, text):
    for word in text.split():
        yield word, 1


def lengths(_name, text):
    for word in text.split():
        yield word, len(word)


def total(_key, values):
    """Have a docstring, which is no part of what a call does."""
    return sum(values)


def named(_word, counts):
    result = sum(counts)
    return result  # noqa: RET504


def looped(k, vs):
    result = 0
    for v in vs:
        result += v
    return result


def from_one(_key, values):
    result = 1
    for value in values:
        result += value
    return result


def from_nothing(_key, values):
    result = 0.0
    for value in values:
        result += value
    return result


def of_the_key(key, _values):
    return sum(key)


def longest(_key, values):
    return max(values)


def starred(_key, *values):
    return sum(values)


def in_pairs(_key, values):
    yield "all", sum(values)


def folded(_key, values):
    return reduce(add, values)


def with_another_builtin_sum():
    return FunctionType(total.__code__, {"__builtins__": {"sum": max}})


def with_own_sum():
    return FunctionType(total.__code__, {"sum": max})


def enclosed():
    sum = max  # noqa: A001

    def total(_key, values):
        return sum(values)

    return total


SUMS = [total, named, looped, lambda _k, v: sum(v)]
NOT_SUMS = [
    from_one, from_nothing, of_the_key, longest, starred, in_pairs, folded, with_own_sum(),
    with_another_builtin_sum(), enclosed(), "max", "count", None,
]  # fmt: skip


def program_of(mapfn, reducefn, combinefn=None):
    return prepare_program(mapfn, reducefn, combinefn=combinefn)


@pytest.mark.parametrize("combinefn", [None, *SUMS], ids=lambda f: getattr(f, "__name__", "none"))
@pytest.mark.parametrize("reducefn", ["sum", *SUMS], ids=lambda f: getattr(f, "__name__", f))
def test_known_ways_to_write_a_sum_of_ones_are_replaced(reducefn, combinefn):
    program = program_of(words, reducefn, combinefn)
    found = use_named_sum(program)
    assert (
        found is program if not BYTE_CODE_IS_KNOWN else (found.reduce, found.combine) == (SUM, None)
    )


@pytest.mark.parametrize("other", NOT_SUMS, ids=lambda f: getattr(f, "__name__", str(f)))
def test_other_functions_stay(other):
    program = program_of(words, other)
    assert use_named_sum(program) is program
    combined = program_of(words, total, other)
    named = other is None and BYTE_CODE_IS_KNOWN
    assert use_named_sum(combined).reduce is (SUM if named else combined.reduce)


def test_a_sum_of_other_values_than_ones_stays():
    """The user's function adds floats from left to right, the named reducer exactly."""
    program = program_of(lengths, total, total)
    assert use_named_sum(program) is program


def run(program, texts):
    partitions = {}
    for partition, block in map_task(program, enumerate(texts), 2, [0, 0]):
        partitions.setdefault(partition, []).append(block)
    pairs = {}
    for partition, blocks in partitions.items():
        for (keys, values), irregular in reduce_task(program, blocks, [0, 0], partition, 2):
            assert not irregular
            pairs.update(zip(keys, values, strict=True))
    return pairs


@pytest.mark.parametrize("combinefn", [None, total], ids=["alone", "combined"])
@pytest.mark.parametrize("reducefn", SUMS, ids=lambda f: f.__name__)
@given(texts=st.lists(st.text("ab ", max_size=20), max_size=10))
def test_the_result_equals_that_of_the_function(reducefn, combinefn, texts):
    program = program_of(words, reducefn, combinefn)
    assert run(use_named_sum(program), texts) == run(program, texts)
