"""Partitionfns of users: what they may do, and how a key in two partitions is found."""

from __future__ import annotations

import itertools
import math
import re

import pytest
from engine.in_memory import (
    EqualByName,
    reduce_in_one_loop,
    run_in_memory,
    sorted_reprs,
    splits_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from redismr.engine.kernel import UserCodeError, map_task
from redismr.engine.partition_check import KeyPlacements
from redismr.engine.program import prepare_program
from redismr.errors import BadKey


def test_with_a_partitionfn_any_hashable_key_will_do():
    program = prepare_program(None, "sum", partitionfn=lambda key, n: len(key.name) % n)
    splits = [[(EqualByName("a"), 1), (EqualByName("bb"), 1)], [(EqualByName("a"), 1)]]
    irregular = []
    pairs = run_in_memory(program, splits, 2, irregular=irregular)
    assert [(key.name, value) for key, value in pairs] == [("bb", 1), ("a", 2)]
    assert not any(irregular)


@pytest.mark.parametrize("bad", [-1, 2, "0", None, 0.0])
def test_a_partition_out_of_range_is_named(bad):
    with pytest.raises(UserCodeError) as info:
        run_in_memory(
            prepare_program(None, "sum", partitionfn=lambda _key, _n: bad), [[("a", 1)]], 2
        )
    assert info.value.function == "partitionfn"
    assert str(info.value.__cause__).startswith(f"partitionfn returned {bad!r} for key 'a'")


def test_errors_of_partitionfn_keep_their_cause():
    with pytest.raises(UserCodeError) as info:
        run_in_memory(
            prepare_program(None, "sum", partitionfn=lambda _key, n: n // 0), [[("a", 1)]]
        )
    assert info.value.function == "partitionfn"
    assert isinstance(info.value.__cause__, ZeroDivisionError)


class InconsistentPartitionfn:
    """A partitionfn that ignores the key, and returns the given numbers in turn."""

    def __init__(self, numbers):
        self.numbers = itertools.cycle(numbers)

    def __call__(self, _key, partitions):
        return next(self.numbers) % partitions


def emits_nothing(_key, _values):
    return iter(())


def emits_another_key(_key, values):
    yield "all", sum(values)


def of_items(items):
    return ((key, sum(values)) for key, values in items)


REDUCEFNS = [
    "sum",
    "list",
    "count",
    lambda _key, values: sum(values),
    emits_nothing,
    emits_another_key,
    of_items,
]


@pytest.mark.usefixtures("buffer_limits")
@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("reducer", REDUCEFNS)
@pytest.mark.parametrize("combinefn", [None, "sum"])
def test_a_key_in_two_partitions_is_found_for_every_reducer(reducer, passes, combinefn):
    for key in ("a", 1, (None, 2), EqualByName("a"), frozenset("b")):
        program = prepare_program(
            None, reducer, combinefn=combinefn, partitionfn=InconsistentPartitionfn([0, 2])
        )
        with pytest.raises(UserCodeError) as info:
            run_in_memory(program, [[(key, 1)], [(key, 1)]], 3, passes)
        assert (info.value.function, info.value.key) == ("partitionfn", key)
        assert isinstance(info.value.__cause__, BadKey)
        assert re.match(
            "partitionfn sent the key .* to partition 0 and to partition 2",
            str(info.value.__cause__),
        )


@pytest.mark.usefixtures("buffer_limits")
@settings(deadline=None)
@given(splits_of(st.integers()), st.lists(st.integers(0, 99), min_size=1), st.integers(1, 4))
def test_an_inconsistent_partitionfn_gives_right_results_or_an_error(splits, numbers, partitions):
    program = prepare_program(None, "sum", partitionfn=InconsistentPartitionfn(numbers))
    try:
        pairs = run_in_memory(program, splits, partitions)
    except UserCodeError as error:
        assert isinstance(error.__cause__, BadKey)
    else:
        assert len(pairs) == len(dict(pairs))
        assert sorted_reprs(pairs) == sorted_reprs(reduce_in_one_loop(splits, sum))


@pytest.mark.usefixtures("buffer_limits")
@settings(deadline=None)
@given(splits_of(st.integers()), st.integers(1, 4), st.integers(1, 3))
def test_a_partitionfn_of_the_key_alone_is_accepted(splits, partitions, passes):
    program = prepare_program(None, "sum", partitionfn=lambda key, n: hash(key) % n)
    assert sorted_reprs(run_in_memory(program, splits, partitions, passes)) == sorted_reprs(
        reduce_in_one_loop(splits, sum)
    )


@pytest.mark.parametrize("partitions", [1, 2])
def test_a_key_that_is_not_equal_to_its_copy_is_refused(partitions):
    for key in (
        object(),
        float("nan"),
        ("a", object()),
        frozenset((object(),)),
        (EqualByName("a"), math.nan),
    ):
        program = prepare_program(None, "sum", partitionfn=lambda _key, n: n - 1)
        with pytest.raises(UserCodeError) as info:
            run_in_memory(program, [[("a", 1), (key, 1)]], partitions)
        assert isinstance(info.value.__cause__, BadKey)
        assert "is not equal to its copy, and keys travel as copies" in str(info.value.__cause__)


def test_a_key_that_is_its_own_copy_is_accepted():
    program = prepare_program(None, "sum", partitionfn=lambda _key, n: n - 1)
    splits = [[(len, 1), (EqualByName, 1)], [(len, 1), (("a", EqualByName), 1)]]
    assert run_in_memory(program, splits, 2) == [
        (len, 2),
        (EqualByName, 1),
        (("a", EqualByName), 1),
    ]


def test_placements_are_not_counted_as_records():
    cursor = [0, 0]
    program = prepare_program(None, "list", partitionfn=lambda key, n: len(key) % n)
    blocks = list(map_task(program, [("a", 1), ("bb", 2), ("a", 3)], 2, cursor))
    assert cursor[1] == 3
    placements = [block for _, block in blocks if type(block[1]) is KeyPlacements]
    assert sorted(pair for block in placements for pair in zip(*block, strict=True)) == [
        ("a", 1),
        ("bb", 0),
    ]


@pytest.mark.parametrize("reducer", [emits_another_key, lambda items: [("all", len(list(items)))]])
def test_with_a_partitionfn_all_other_keys_of_a_reducer_are_irregular(reducer):
    irregular = []
    program = prepare_program(None, reducer, partitionfn=lambda key, n: 0 if key == "a" else 1)
    run_in_memory(program, [[("a", 1), ("b", 1)]], 2, irregular=irregular)
    assert irregular == [True, True]


def test_a_function_of_items_that_keeps_its_keys_has_no_irregular_keys():
    irregular = []
    program = prepare_program(None, of_items, partitionfn=lambda key, n: key % n)
    assert run_in_memory(program, [[(1, 1), (2, 1), (1, 5)]], 2, irregular=irregular) == [
        (2, 1),
        (1, 6),
    ]
    assert irregular == [False, False]
