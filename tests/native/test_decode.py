"""Spoiled frames: the extension reads what Python reads, or leaves it to Python; it never fails."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from native import frames

from redismr.native import totals


@pytest.mark.parametrize("seed", range(20))
def test_a_block_is_what_python_reads(seed):
    random, checked = Random(seed), frames.CheckedTotals(Random(seed))
    read = 0
    for _ in range(20):
        frame = frames.random_frame(random)
        for mutant in (frame, *(frames.spoiled(random, frame) for _ in range(20))):
            if (block := frames.check_decoded(mutant)) is not None:
                read += 1
                checked.add(block)
    checked.take()
    assert read > 20


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_left_to_python(data):
    frames.check_decoded(data)
    frames.check_decoded(b"\1\0\0\0\0\0\0\0\0" + data)


def test_a_frame_is_read_whole_or_not_at_all():
    frame = frames.python_frame(["a", "b", "c", "d", "e"], [1, 300, -1, 2**40, 2**62])
    assert frames.check_decoded(frame) is not None
    for size in range(len(frame)):
        assert totals.decode(frame[:size]) is None
        frames.check_decoded(frame[:size] + frame[size + 1 :])
    assert totals.decode(frame + b".") is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (b"\x80\5].", None),  # no int
        (b"\x80\5]K\1a.", [1]),
        (b"\x80\2]\x94K\1a.", [1]),
        (b"\x80\5](K\1e.", [1]),
        (b"\x80\5](eK\1a.", [1]),
        (b"\x80\5]M\1\0a.", [1]),
        (b"\x80\5]J\xff\xff\xff\xffa.", [-1]),
        (b"\x80\5]\x8a\1\xffa.", [-1]),
        (b"\x80\5]\x8a\x08\0\0\0\0\0\0\0\x80a.", [-(2**63)]),
        (b"\x80\5]\x95\4\0\0\0\0\0\0\0K\1a.", [1]),
        (b"\x80\5]\x8a\0a.", None),  # 0 without bytes
        (b"\x80\5]\x8a\x09\0\0\0\0\0\0\0\0\0a.", None),
        (b"\x80\5]\x95\5\0\0\0\0\0\0\0K\1a.", None),  # a frame longer than the rest
        (b"\x80\5]\x95\xff\xff\xff\xff\xff\xff\xff\xffK\1a.", None),
        (b"\x80\5]K\1K\2a.", None),  # an int that nobody takes
        (b"\x80\5]K\1(e.", None),
        (b"\x80\5](K\1a.", None),
        (b"\x80\5](K\1.", None),
        (b"\x80\5]](K\1e.", None),
        (b"\x80\5]K\1aK\2a.", None),  # two ints
        (b"\x80\5K\1]a.", None),
        (b"\x80\5a.", None),
        (b"\x80\5](.", None),
        (b"\x80\6]K\1a.", None),
        (b"\x80\1]K\1a.", None),
        (b"]K\1a.", None),
        (b"\x80\5]K\1a", None),
        (b"\x80\5]K", None),
        (b"\x80\5]\x8a", None),
        (b"\x80\5]J\0\0", None),
        (b"\x80", None),
        (b"", None),
    ],
)
def test_pickles_of_one_int_by_hand(values, expected):
    block = frames.check_decoded(frames.framed(b"k", b"", values))
    assert (None if block is None else block[1]) == expected


@pytest.mark.parametrize("size", [2**31 - 1, 2**31, 2**32 - 1])
def test_lengths_of_gigabytes_in_a_short_frame_are_refused(size):
    frame = frames.python_frame(["a"], [1])
    for keys_size, runs_size in ((size, 0), (1, size), (size, size)):
        header = frames.HEADER.pack(1, keys_size, runs_size)
        assert totals.decode(header + frame[9:]) is None


@pytest.mark.parametrize(
    "keys", [b"\xff", b"a\0\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"]
)
def test_keys_that_are_no_utf_8_are_left_to_python(keys):
    count = keys.count(0) + 1
    values = frames.parts(frames.python_frame(["k"] * count, [1] * count))[2]
    assert totals.decode(frames.framed(keys, b"", values)) is None
