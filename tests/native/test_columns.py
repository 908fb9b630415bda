"""Columns of text keys and ints: the extension writes and reads frames as Python's codec does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from native.frames import INT64, INT64_LIMITS, LIMITS, joined, python_columns, python_frame

from redismr import native
from redismr.core.codec import decode_block, encode_block, estimate_bytes
from redismr.engine.partitioner import cut_into_blocks

SIZES = [1, 2, 3, 4, 5, 6, 999, 1000, 1001, 1999, 2000, 2001]
FRAME_BYTES = 64 * 1024

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
ints = st.sampled_from(INT64_LIMITS) | st.integers(INT64[0], INT64[-1]) | st.integers(-300, 300)
columns = st.lists(st.tuples(texts, ints), min_size=1, max_size=40).map(
    lambda pairs: tuple(map(list, zip(*pairs, strict=True)))
)


def native_block(frame):
    block = native.totals.decode(frame)
    assert block is not None
    return block


def check(keys, values):
    frame = python_frame(keys, values)
    block = native_block(frame)
    assert list(block) == [keys, values]
    assert block.records == len(keys)
    assert block.encode() == encode_block(block) == frame


@given(columns)
def test_any_columns_come_back_and_are_encoded_as_in_python(block):
    check(*block)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("number", [0, 255, -1, 2**31, -(2**63)])
def test_columns_of_every_size_of_a_batch(size, number):
    check([f"k{n}" for n in range(size)], [number] * size)


@pytest.mark.parametrize("number", INT64_LIMITS)
def test_ints_at_every_limit_of_bytes(number):
    for size in (1, 4, 5):
        check(["k"] * size, [number] * size)


@pytest.mark.parametrize("number", sorted(set(LIMITS) - set(INT64_LIMITS)))
def test_ints_of_more_than_64_bits_are_left_to_python(number):
    for size in (1, 5):
        frame = python_frame(["k"] * size, [0] * (size - 1) + [number])
        assert native.totals.decode(frame) is None
        assert decode_block(frame)[1][-1] == number


@pytest.mark.parametrize(
    ("number", "width"), [(7, 2), (300, 3), (2**20, 5), (2**39, 8), (-(2**63), 10)]
)
def test_the_frames_of_a_pickle_end_at_the_same_ints(number, width):
    """Whatever the number of bytes with which the last int before 64 KiB ends."""
    for frames in (1, 2):
        for spare in range(-12, 13):
            few = (frames * FRAME_BYTES + spare) // width
            for first in (0, 256, 2**16, 2**31):
                values = [first] + [number] * (few - 1)
                frame = python_frame([""] * few, values)
                assert native_block(frame).encode() == frame


@given(columns, st.data())
def test_a_slice_has_the_records_from_start_to_stop(block, data):
    whole = native_block(python_frame(*block))
    for _ in range(4):
        start = data.draw(st.integers(0, whole.records - 1))
        stop = data.draw(st.integers(start + 1, whole.records))
        part = whole.slice(start, stop)
        keys, values = block[0][start:stop], block[1][start:stop]
        assert list(part) == [keys, values]
        assert part.encode() == python_frame(keys, values)
        assert part.sample_chars(3) == sum(map(len, keys[::3]))
        inner = part.slice(part.records - 1, part.records)
        assert list(inner) == [keys[-1:], values[-1:]]


@pytest.mark.parametrize("bounds", [(-1, 1), (0, 0), (1, 1), (2, 1), (0, 3), (2, 3), (0, 2**62)])
def test_a_slice_outside_of_the_block_is_refused(bounds):
    with pytest.raises(IndexError):
        native_block(python_frame(["a", "b"], [1, 2])).slice(*bounds)


@given(columns)
def test_update_sets_keys_as_a_dict_does(block):
    pairs = {"old": 1, block[0][0]: None}
    expected = {**pairs, **dict(zip(*block, strict=True))}
    native_block(python_frame(*block)).update(pairs)
    assert list(pairs.items()) == list(expected.items())


def test_update_meets_keys_of_the_user():
    class Same:
        def __hash__(self):
            return hash("a")

        def __eq__(self, other):
            raise LookupError

    with pytest.raises(LookupError):
        native_block(python_frame(["a"], [1])).update({Same(): 0})


@pytest.mark.parametrize("size", [1, 255, 256, 257, 300, 1000])
@pytest.mark.parametrize("is_joined", [False, True])
def test_sizes_are_estimated_as_in_python(size, is_joined):
    keys = ["é" * (n % 90) for n in range(size)]
    block = native_block(python_frame(keys, [0] * size))
    in_python = (joined(keys) if is_joined else keys, [0] * size)
    assert estimate_bytes(block, is_joined=is_joined) == estimate_bytes(in_python)


@pytest.mark.parametrize("is_joined", [False, True])
def test_blocks_are_cut_at_the_same_records(is_joined):
    keys = ["k" * (n * n % 3001) for n in range(3000)]
    block = native_block(python_frame(keys, [0] * 3000))
    in_python = (joined(keys) if is_joined else keys, [0] * 3000)
    pieces = [list(piece) for piece in cut_into_blocks(block, is_joined=is_joined)]
    assert len(pieces) > 3
    assert pieces == [[list(keys), values] for keys, values in cut_into_blocks(in_python)]


def test_other_keys_are_left_to_python():
    for keys in (["a\0b"], ["\ud800"], [b"a"], [None], [("a",)], [True], ["a", 1]):
        frame = encode_block((keys, [1] * len(keys)))
        assert native.totals.decode(frame) is None
        assert python_columns(frame) == (keys, [1] * len(keys))


def test_other_values_are_left_to_python():
    for value in (True, None, 1.0, "a", [1], 2**63):
        for size in (1, 5):
            values = [1] * (size - 1) + [value]
            frame = python_frame(["a"] * size, values)
            assert native.totals.decode(frame) is None
            assert list(map(type, decode_block(frame)[1])) == list(map(type, values))


@pytest.mark.parametrize(
    "frame", [bytearray(python_frame(["a"], [1])), memoryview(b"abc"), "text", None]
)
def test_what_is_not_bytes_is_left_to_python(frame):
    assert native.totals.decode(frame) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(columns, max_size=6), st.integers(1, 100))
def test_totals_of_blocks_are_those_of_a_dict(blocks, partitions):
    totals, expected = native.totals.Totals(1, 2), {}
    for keys, values in blocks:
        added = totals.add(native_block(python_frame(keys, values)))
        for key, value in zip(keys[:added], values[:added], strict=True):
            expected[key] = expected.get(key, 0) + value
        if added < len(keys):
            assert expected[keys[added]] + values[added] not in INT64
    dealt = [pair for _, block in totals.deal(partitions) for pair in zip(*block, strict=True)]
    assert dict(dealt) == expected
    assert len(dealt) == len(expected)
    assert (len(totals), totals.take_block()) == (0, None)


@pytest.mark.parametrize("partitions", [0, -1, 2**32, 2**63 - 1, 2**70])
def test_no_such_number_of_partitions(partitions):
    with pytest.raises((ValueError, OverflowError)):
        native.totals.Totals(1, 2).deal(partitions)


def test_misuse_is_refused():
    block, totals = native_block(python_frame(["a"], [1])), native.totals.Totals(1, 2)
    fold = lambda target, **more: native.totals.RecordFold(
        target, [], print, [0], iter, takes_value_only=True, **more
    )
    for call, error in (
        (lambda: totals.add(([], [])), TypeError),
        (lambda: totals.add(None), TypeError),
        (lambda: block.update([]), TypeError),
        (lambda: block.sample_chars(0), ValueError),
        (lambda: block.sample_chars(-1), ValueError),
        (lambda: block.sample_chars("1"), TypeError),
        (lambda: block[2], IndexError),
        (lambda: block[-3], IndexError),
        (type(block), TypeError),
        (native.totals.Totals, TypeError),
        (lambda: native.totals.Totals("1", 2), TypeError),
        (lambda: native.totals.Groups(1), TypeError),
        (lambda: fold(block), TypeError),
        (lambda: fold(native.totals.Groups(1, 2)), TypeError),
        (lambda: fold(totals).run(-1), (OverflowError, ValueError)),
        (lambda: fold(totals).run(None), TypeError),
    ):
        with pytest.raises(error):
            call()
    assert len(block) == 2
    assert block[-1] == block[1] == [1]
