"""Blocks and frames come back as they were; errors name what cannot be pickled."""

from __future__ import annotations

import pickle
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.core.codec import decode_block, encode_block, estimate_bytes, join_frames, split_frame
from redismr.errors import BadKey, BadValue


class Thing:
    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return self.value == other.value

    def __hash__(self):
        return hash(self.value)


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner)
)
columns = st.lists(scalars) | st.lists(st.text()) | st.lists(st.integers()) | st.lists(anything)


def same(a, b):
    return a == b and pickle.dumps(list(map(type, a))) == pickle.dumps(list(map(type, b)))


def copy_block(keys, values):
    back_keys, back_values = decode_block(encode_block((keys, values)))
    return back_keys, back_values


@given(
    columns.flatmap(
        lambda keys: st.tuples(
            st.just(keys), st.lists(anything, min_size=len(keys), max_size=len(keys))
        )
    )
)
def test_blocks_come_back_with_their_types(block):
    keys, values = block
    back_keys, back_values = copy_block(keys, values)
    assert same(keys, back_keys)
    assert same(values, back_values)


@given(st.lists(st.tuples(st.text(max_size=3), st.integers(1, 4))))
def test_runs_of_one_key_come_back(runs):
    keys = [key for key, count in runs for _ in range(count)]
    values = list(range(len(keys)))
    assert copy_block(keys, values) == (keys, values)


def test_a_run_travels_once():
    long = "k" * 1000
    assert len(encode_block(([long] * 1000, list(range(1000))))) < 10_000


def test_equal_neighbours_of_different_types_stay_apart():
    keys, _ = decode_block(encode_block(([1, True, 1.0], [0, 0, 0])))
    assert list(map(type, keys)) == [int, bool, float]


@pytest.mark.parametrize("key", ["", "\0", "a\0b", "\ud800", "a\nb", "é😀"])
def test_strings_of_every_sort(key):
    assert copy_block([key, "x"], [key, "y"]) == ([key, "x"], [key, "y"])
    assert copy_block([key], [1]) == ([key], [1])


def test_a_str_subclass_stays_one():
    class_of = type(decode_block(encode_block(([Text("a")], [1])))[0][0])
    assert class_of is Text


class Text(str):
    __slots__ = ()


def test_bytearrays_stay_bytearrays():
    _, values = decode_block(encode_block(([1], [bytearray(b"x")])))
    assert type(values[0]) is bytearray


def test_a_value_shared_by_many_records_is_written_once_and_stays_one_object():
    name = "a long file name that all the words of one file share"
    data = encode_block((list(map(str, range(1000))), [name] * 1000))
    assert len(data) < 12_000
    assert len(set(map(id, decode_block(data)[1]))) == 1


def test_a_value_that_contains_itself():
    loop: list[object] = []
    loop.append(loop)
    value = decode_block(encode_block((["k"], [loop])))[1][0]
    assert value[0] is value


def test_plain_pickle_refuses_a_lambda_and_cloudpickle_takes_it():
    _, (function,) = decode_block(encode_block((["k"], [lambda: 42])))
    assert function() == 42


@pytest.mark.parametrize("value", [(x for x in "abc"), sys.stdout, [1, (x for x in "abc")]])
def test_what_cannot_be_pickled_is_named(value):
    with pytest.raises(
        BadValue, match=r"'bad', of type (generator|TextIOWrapper|EncodedFile|list)"
    ) as info:
        encode_block((["good", "bad", "x"], [1, value, 2]))
    assert info.value.__cause__ is not None


def test_a_key_that_cannot_be_pickled_is_named():
    with pytest.raises(BadKey, match="a key, of type Thing"):
        encode_block(([Thing(x for x in "abc")], [1]))


def test_find_class_resolves_globals():
    seen = []

    def find(module, name):
        seen.append((module, name))
        return Thing

    assert decode_block(encode_block((["k"], [Thing(1)])), find) == (["k"], [Thing(1)])
    assert seen == [(Thing.__module__, "Thing")]


@given(st.binary(max_size=50), st.integers(1, 8))
def test_frames_survive_being_cut(frame, limit):
    chunks = list(split_frame(frame, limit))
    assert [chunk[0] for chunk in chunks] == [1] * (len(chunks) - 1) + [0]
    assert all(len(chunk) <= limit + 1 for chunk in chunks)
    assert list(join_frames(chunks)) == [frame]


@given(st.lists(st.binary(max_size=20)), st.integers(1, 8))
def test_frames_follow_each_other(frames, limit):
    assert (
        list(join_frames(chunk for frame in frames for chunk in split_frame(frame, limit)))
        == frames
    )


def test_a_giant_value_spans_chunks():
    value = b"x" * (5 << 20)
    chunks = list(split_frame(encode_block((["k"], [value]))))
    assert len(chunks) == 6
    assert decode_block(next(join_frames(chunks))) == (["k"], [value])


def test_a_frame_without_end_is_refused():
    with pytest.raises(ValueError, match="cut off"):
        list(join_frames([b"\1abc"]))


@pytest.mark.parametrize(
    "value", ["x" * 100, b"x" * 100, 7, 1.5, None, [1, 2, 3], {"a": "b" * 50}, Thing(5)]
)
def test_estimates_are_about_right(value):
    keys = [f"key {i}" for i in range(1000)]
    values = [pickle.loads(pickle.dumps(value)) for _ in keys]
    actual = len(encode_block((keys, values)))
    assert actual / 3 <= estimate_bytes((keys, values)) <= actual * 3


def test_an_estimate_never_raises():
    assert estimate_bytes((["k"], [(x for x in "abc")])) > 0
    assert estimate_bytes(([], [])) == 0
