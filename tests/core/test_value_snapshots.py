"""Snapshots keep a value as it was, whatever happens to the original afterwards."""

from __future__ import annotations

import array
import copy
import itertools
import pickle
import re
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import PurePosixPath
from threading import Lock
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.core.codec import decode_block, encode_block
from redismr.core.pickled_snapshots import CannotSnapshot, PickledSnapshot
from redismr.core.value_snapshots import (
    IMMUTABLE_TYPES,
    Snapshotter,
    private_copy,
    take_pair_snapshot,
    take_snapshot,
)


class Plain:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is type(self) and vars(other) == vars(self)

    __hash__ = None


@dataclass(slots=True)
class Slotted:
    x: object


class Rows(list):
    pass


class Own:
    """A class that tells pickle how to make its instances."""

    def __init__(self, x):
        self.x = x

    def __reduce__(self):
        return Own, (self.x,)

    def __eq__(self, other):
        return type(other) is Own and other.x == self.x

    __hash__ = None


class Colour(Enum):
    RED = 1


class Point(NamedTuple):
    x: object
    y: object


leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
)


def nested_values(parts):
    return st.one_of(
        st.lists(parts, max_size=4),
        st.lists(parts, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=2), parts, max_size=3),
        st.dictionaries(st.tuples(st.integers()), parts, max_size=2),
        st.sets(st.integers(), max_size=3),
        st.binary(max_size=4).map(bytearray),
        parts.map(Plain),
        parts.map(Slotted),
        parts.map(Own),
        st.lists(parts, max_size=3).map(Rows),
        st.lists(parts, max_size=3).map(deque),
        st.tuples(parts, parts).map(lambda two: Point(*two)),
    )


values = st.recursive(leaves, nested_values, max_leaves=30)


def change_in_place(value, seen=None):
    """Change every part of a value that can be changed."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return
    seen.add(id(value))
    parts = list(value.values()) if isinstance(value, dict) else []
    parts += value if isinstance(value, (list, tuple, deque)) else []
    parts += [value.x] if isinstance(value, (Plain, Slotted, Own)) else []
    for part in parts:
        change_in_place(part, seen)
    if isinstance(value, (list, deque)):
        value.append("spoilt")
    elif isinstance(value, dict):
        value["spoilt"] = 1
    elif isinstance(value, set):
        value.add("spoilt")
    elif isinstance(value, bytearray):
        value += b"spoilt"
    elif isinstance(value, (Plain, Slotted, Own)):
        value.x = "spoilt"


def round_trip(kept):
    return pickle.loads(pickle.dumps(kept, 5))


@given(values)
def test_a_snapshot_is_the_value_as_it_was(value):
    before, snapshotter = copy.deepcopy(value), Snapshotter()
    kept, live, alone = snapshotter.take(value), private_copy(value), take_snapshot(value)
    change_in_place(value)
    for now in (round_trip(kept), live, round_trip(alone)):
        assert repr(now) == repr(before) or now == before
        assert type(now) is type(before)


@given(st.lists(values, min_size=1, max_size=5), st.data())
def test_each_of_several_is_as_it_was_when_it_came(several, data):
    snapshotter, kept, before = Snapshotter(), [], []
    for value in several:
        for _ in range(data.draw(st.integers(1, 3))):
            before.append(copy.deepcopy(value))
            kept.append(snapshotter.take(value))
        if data.draw(st.booleans()):
            change_in_place(value)
            before.append(copy.deepcopy(value))
            kept.append(snapshotter.take(value))
            change_in_place(value)
    assert round_trip(kept) == before


def test_what_cannot_change_is_not_copied():
    fixed = [
        None,
        1,
        2.5,
        1j,
        "a",
        b"b",
        date(2026, 1, 2),
        Colour.RED,
        PurePosixPath("a"),
        re.compile("a"),
    ]
    for value in [
        *fixed,
        tuple(fixed),
        frozenset("ab"),
        Point(1, "b"),
        range(3),
        type("S", (str,), {"__slots__": ()})("s"),
    ]:
        assert Snapshotter().take(value) is value
        assert take_snapshot(value) is value
    assert type(Colour.RED) in IMMUTABLE_TYPES


def test_a_str_with_attributes_is_not_immutable():
    class Tagged(str):  # noqa: SLOT000 - that it has none is what is tested
        tags = None

    class Slots(str):
        __slots__ = ("tags",)

    for kind in (Tagged, Slots):
        value = kind("a")
        value.tags = ["one"]
        kept = private_copy(value)
        value.tags.append("two")
        assert (kept, kept.tags, type(kept)) == ("a", ["one"], kind)


def test_parts_that_are_shared_stay_shared():
    row = [1]
    ring: list = [row]
    ring.append(ring)
    whole = round_trip(take_snapshot({"a": row, "b": row, "c": {"d": row}, "e": Plain(row)}))
    assert whole["a"] is whole["b"] is whole["c"]["d"] is whole["e"].x
    one, other = round_trip(Snapshotter().take((row, [row])))
    assert one is other[0]
    circle = round_trip(take_snapshot(ring))
    assert circle[1] is circle and circle[0] == [1]
    key, value = round_trip(take_pair_snapshot(row, {"row": row}))
    assert value["row"] is key


@pytest.mark.parametrize("row", [[1, 2], {"a": 1}, {"a": {"b": [1]}}, Rows([1]), Plain([1])])
def test_a_value_that_comes_again_unchanged_is_kept_once(row):
    snapshotter = Snapshotter()
    first, *others = round_trip([snapshotter.take((row, n)) for n in range(50)])
    assert len({id(kept) for kept, _ in others}) == 1
    assert all(kept == first[0] for kept, _ in others)


def test_true_is_not_one():
    row, snapshotter = [1], Snapshotter()
    kept = []
    for row[0] in (1, True, 1.0, True):
        kept += [snapshotter.take(row), snapshotter.take(row)]
    assert repr(kept) == "[[1], [1], [True], [True], [1.0], [1.0], [True], [True]]"


@pytest.mark.parametrize(
    "make",
    [
        lambda: iter([1]),
        lambda: iter((1,)),
        lambda: iter({1: 2}.items()),
        lambda: iter("ab"),
        lambda: reversed([1]),
        lambda: map(str, [1]),
        lambda: zip([1], [2], strict=True),
        lambda: enumerate("a"),
        lambda: iter(deque([1])),
        lambda: iter(array.array("i", [1])),
        lambda: itertools.count(),
        lambda: itertools.islice([1], 1),
        lambda: itertools.tee([1])[0],
        lambda: next(itertools.groupby("a"))[1],
        lambda: (x for x in "a"),
    ],
)
@pytest.mark.parametrize(
    "wrap", [lambda it: it, lambda it: ("k", it), lambda it: {"a": [it]}, Plain]
)
def test_iterators_are_refused_wherever_they_are(make, wrap):
    with pytest.raises(CannotSnapshot, match=r"iterator is in it \(.*give list\(\.\.\.\)"):
        Snapshotter().take(wrap(make()))
    with pytest.raises(CannotSnapshot):
        take_snapshot(wrap(make()))


def test_text_with_the_names_of_iterator_modules_is_no_iterator():
    value = Own(["builtins", "itertools", {"_deque_": int}])
    assert round_trip(take_snapshot(value)) == value
    assert round_trip(take_snapshot([Counter("aab"), OrderedDict(a=[1]), defaultdict(list, a=[1])])) == [  # noqa: E501
        Counter("aab"), OrderedDict(a=[1]), {"a": [1]}
    ]  # fmt: skip


def test_a_memoryview_keeps_its_layout():
    numbers = array.array("i", [1000, 2000, 3000, 4000])
    kept = round_trip(take_snapshot(memoryview(numbers)[1:3]))
    grid = round_trip(take_snapshot(memoryview(numbers).cast("B").cast("i", (2, 2))))
    numbers[1] = 0
    assert kept.tolist() == [2000, 3000]
    assert grid.tolist() == [[1000, 2000], [3000, 4000]]
    assert bytes(round_trip(take_snapshot(memoryview(b"ab")))) == b"ab"
    (column,) = decode_block(encode_block(([1], [memoryview(array.array("d", [0.5]))])))[1]
    assert column.tolist() == [0.5]


def test_classes_without_a_name_travel_once():
    @dataclass
    class Local:
        x: list

    row = Local([0])
    kept = []
    for row.x[0] in range(100):
        kept.append(take_snapshot([row] * 9 + [PickledSnapshot]))
    data = encode_block((list(range(100)), kept))
    assert len(data) < 20_000
    _, back = decode_block(data)
    assert [value[0].x[0] for value in back] == list(range(100))
    assert len({type(value[0]) for value in back}) == 1


def test_a_function_is_kept_with_what_it_closes_over():
    n = 1
    kept = take_snapshot(lambda: n)
    n = 2
    assert round_trip(kept)() == 1


def test_snapshots_are_restored_with_the_readers_classes():
    data = encode_block((["k"], [take_snapshot(Own([Own(1)]))]))

    def find(module, name):
        return Slotted if name == "Own" else getattr(__import__(module, fromlist=["_"]), name)

    assert decode_block(data, find) == (["k"], [Slotted([Slotted(1)])])
    assert repr(take_snapshot(Own(1))).startswith("<") and "Own" in repr(take_snapshot(Own(1)))
    assert repr(take_pair_snapshot(["a"], Own(1))[0]) == "['a']"


def test_what_cannot_be_pickled_says_why():
    with pytest.raises(CannotSnapshot, match="TypeError: cannot pickle"):
        Snapshotter().take({"a": Lock()})
