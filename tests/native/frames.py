"""Frames for the decoder: valid ones, and the same frames spoiled in many ways.

All randomness comes from the ``random.Random`` of the caller, so that a seed tells the inputs.
"""

from __future__ import annotations

import pickle
from struct import Struct

from redismr import native
from redismr.core.codec import KeyColumn, decode_block, encode_block

HEADER = Struct("<BII")
INT64 = range(-(2**63), 2**63)

LIMITS = sorted(
    {
        sign * 2**bits + more
        for bits in (0, 7, 8, 15, 16, 23, 24, 31, 32, 39, 40, 47, 48, 55, 56, 62, 63)
        for sign in (-1, 1)
        for more in (-2, -1, 0, 1, 2)
    }
    | {0}
)
"""Ints beside every number of bytes, and some that have more than 64 bits."""

INT64_LIMITS = [number for number in LIMITS if number in INT64]

TEXTS = ["", "a", "b", "word", "k" * 7, "k" * 8, "k" * 17, "é", "日本", "😀", "\n", "\x7f", "\x80"]

OPCODES = [pickle.MARK, pickle.STOP, pickle.POP, pickle.POP_MARK, pickle.APPEND, pickle.APPENDS,
           pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.LONG4,
           pickle.EMPTY_LIST, pickle.EMPTY_TUPLE, pickle.LIST, pickle.MEMOIZE, pickle.BINGET,
           pickle.BINPUT, pickle.FRAME, pickle.PROTO, pickle.NONE, pickle.NEWTRUE, pickle.DUP,
           pickle.BINFLOAT, pickle.INT]  # fmt: skip
"""Opcodes that build no object of a class."""


def joined(keys):
    """Return a column of keys that are joined, and never folded into runs."""
    column = KeyColumn()
    column.add(list(keys), all_str=True)
    return column


def python_frame(keys, values):
    """Return the frame of text keys as the codec in Python writes it."""
    return encode_block((joined(keys), list(values)))


def python_columns(frame):
    """Return both columns as the decoder in Python reads them."""
    loaded, native.IS_LOADED = native.IS_LOADED, False
    try:
        return decode_block(frame)
    finally:
        native.IS_LOADED = loaded


def parts(frame):
    """Return the bytes of keys, of runs and of values."""
    _, keys_size, runs_size = HEADER.unpack_from(frame)
    body = frame[HEADER.size :]
    return body[:keys_size], body[keys_size:][:runs_size], body[keys_size + runs_size :]


def framed(keys, runs, values, flags=1):
    return HEADER.pack(flags, len(keys), len(runs)) + keys + runs + values


# -- valid frames --------------------------------------------------------------------------------


def random_columns(random, most=12):
    size = random.choice((1, 2, 3, 4, 5, 6, random.randrange(1, most + 1)))
    keys = [random.choice(TEXTS) + random.choice(("", "x", str(size))) for _ in range(size)]
    numbers = (INT64_LIMITS, range(-3, 300), LIMITS if random.random() < 0.2 else INT64_LIMITS)
    return keys, [random.choice(random.choice(numbers)) for _ in range(size)]


def random_frame(random):
    """Return a frame as the codec writes it; now and then one that is not for the extension."""
    keys, values = random_columns(random)
    kind = random.random()
    if kind < 0.75:
        return python_frame(keys, values)
    if kind < 0.85:  # ints as keys, a NUL, a run
        return encode_block(
            (random.choice(([*values], [k + "\0" for k in keys], keys[:1] * len(keys))), values)
        )
    # The unpickler takes many texts for one list.
    return framed("\0".join(keys).encode(), b"", by_hand(random, values))


def by_hand(random, values):
    """Return a pickle of the values with other batches, frames and opcodes than Python's own."""
    out = [b"\x80", bytes([random.choice((0, 1, 2, 3, 4, 5, 5, 5, 6))])]
    frame = lambda: (
        random.random() < 0.2
        and out.append(b"\x95" + random.choice((0, 1, 2, 9)).to_bytes(8, "little"))
    )
    frame()
    out.append(b"]" + random.choice((b"", b"\x94", b"\x94\x94", b"q\0")))
    left = list(values)
    while left:
        batch = left[: random.choice((0, 1, 2, 3, len(left)))]
        del left[: len(batch)]
        frame()
        if len(batch) == 1 and random.random() < 0.7:
            out.append(int_opcode(random, batch[0]) + b"a")
        else:
            out.append(b"(")
            out += [int_opcode(random, number) for number in batch]
            frame()
            out.append(b"e")
    out.append(b".")
    return b"".join(out)


def int_opcode(random, number):
    """Return one of the opcodes that stand for the number, not always the shortest."""
    ways = []
    if 0 <= number < 1 << 8:
        ways.append(b"K" + number.to_bytes(1, "little"))
    if 0 <= number < 1 << 16:
        ways.append(b"M" + number.to_bytes(2, "little"))
    if -(1 << 31) <= number < 1 << 31:
        ways.append(b"J" + number.to_bytes(4, "little", signed=True))
    least = number.bit_length() // 8 + 1
    for size in {least, min(least + 1, 255), 8, 9}:
        if size >= least:
            ways.append(b"\x8a" + bytes([size]) + number.to_bytes(size, "little", signed=True))
    return random.choice(ways)


# -- spoiled frames ------------------------------------------------------------------------------


def flip(random, frame):
    """Change up to three bytes."""
    data = bytearray(frame)
    for _ in range(random.choice((1, 1, 2, 3))):
        i = int(random.random() * len(data))
        data[i] = random.choice((data[i] ^ 1 << random.randrange(8), random.randrange(256)))
    return bytes(data)


def cut(random, frame):
    start, stop = sorted(random.randrange(len(frame) + 1) for _ in range(2))
    return random.choice((frame[:stop], frame[start:], frame[:start] + frame[stop:]))


def duplicate(random, frame):
    start, stop = sorted(random.randrange(len(frame) + 1) for _ in range(2))
    at = random.randrange(len(frame) + 1)
    return frame[:at] + frame[start:stop] + frame[at:]


def insert_opcodes(random, frame):
    """Put opcodes into the pickle of the values; the lengths in the header stay right."""
    keys, runs, values = parts(frame)
    for _ in range(random.choice((1, 1, 2, 4))):
        at = random.randrange(len(values) + 1)
        more = random.choice(OPCODES) + random.randbytes(random.choice((0, 0, 1, 2, 4, 8)))
        values = values[:at] + more + values[at + random.choice((0, 0, 1)) :]
    return framed(keys, runs, values)


def wrong_lengths(random, frame):
    """Change the flags or a length of the header."""
    fields = list(HEADER.unpack_from(frame))
    i = random.randrange(3)
    near = fields[i] + random.choice((-9, -2, -1, 1, 2, 9))
    fields[i] = random.choice((near, random.randrange(1 << 32), len(frame), (1 << 32) - 1)) % (
        1 << 32
    )
    fields[0] %= 256
    return HEADER.pack(*fields) + frame[HEADER.size :]


def other_keys(random, frame):
    """Put other bytes among the keys: separators, parts of characters, surrogates."""
    keys, runs, values = parts(frame)
    at = random.randrange(len(keys) + 1)
    piece = random.choice(
        (b"\0", b"\0\0", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", "é".encode())
    )
    return framed(keys[:at] + piece + keys[at + random.choice((0, 0, 1)) :], runs, values)


def noise(random, frame):
    return random.randbytes(random.randrange(len(frame) + 1))


SPOILERS = (flip, cut, duplicate, insert_opcodes, wrong_lengths, other_keys, noise)


def spoiled(random, frame):
    """Return the frame after one or two of the spoilers."""
    for _ in range(random.choice((1, 1, 2))):
        if len(frame) < HEADER.size:
            break
        frame = random.choice(SPOILERS)(random, frame)
    return frame


# -- what must hold ------------------------------------------------------------------------------


def check_decoded(frame):
    """Decode the frame; a block must be what the decoder in Python gives. Return it, or None."""
    block = native.totals.decode(frame)
    if block is not None:
        keys, values = block
        expected_keys, expected_values = python_columns(frame)
        assert keys == list(expected_keys), frame
        assert values == expected_values, frame
        assert set(map(type, expected_values)) == {int}, frame
        assert set(map(type, keys)) == set(map(type, expected_keys)), frame
        assert block.records == len(keys) > 0, frame
    return block


class CheckedTotals:
    """``Totals`` beside a dict that must hold the same."""

    def __init__(self, random):
        self.totals = native.totals.Totals(random.getrandbits(64), random.getrandbits(64))
        self.expected = {}

    def add(self, block):
        """Add a block to both; what the extension leaves out must have more than 64 bits."""
        added = self.totals.add(block)
        keys, values = block
        for key, value in zip(keys[:added], values[:added], strict=True):
            total = self.expected.get(key, 0) + value
            assert total in INT64
            self.expected[key] = total
        if added < block.records and {type(keys[0])} == set(map(type, self.expected)):
            assert self.expected.get(keys[added], 0) + values[added] not in INT64
        assert len(self.totals) == len(self.expected)

    def take(self):
        """Take everything out, and compare it."""
        block = self.totals.take_block()
        pairs = {}
        if block is not None:
            block.update(pairs)
        assert list(pairs.items()) == list(self.expected.items())
        assert len(self.totals) == 0
        self.expected = {}
        return block
