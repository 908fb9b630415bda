"""Random programs and records, and all that can be observed of their tasks.

Functions of the user stand here, so that their lines are those of a user's file. Each text that a
mapfn emits is a new object: which keys and values are one object is not among what the extension
keeps.
"""

from __future__ import annotations

import math
import re
from collections import Counter, OrderedDict, UserDict
from dataclasses import replace
from types import MappingProxyType

from hypothesis import strategies as st
from native.frames import LIMITS

from redismr import native
from redismr.core.codec import decode_block, encode_block
from redismr.core.failure_capture import user_frames
from redismr.core.model import Crash
from redismr.engine.bad_records import SkipRecorder, with_skipping_mapfn
from redismr.engine.kernel import SubPass, UserCodeError, map_task, reduce_task
from redismr.engine.program import prepare_program


class Text(str):
    __slots__ = ()


class Row(list):
    """A list that only pickle copies."""


class Unstable:
    """A key without a stable hash."""

    def __repr__(self):
        return "Unstable()"


# -- functions of the user -------------------------------------------------------------------------


def fresh(thing):
    """Return an equal object that nobody else has, as far as texts are concerned."""
    if type(thing) is str:
        return thing.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")
    if type(thing) is tuple:
        return tuple(map(fresh, thing))
    return thing


def one_by_one(pairs, fault):
    for n, pair in enumerate(pairs):
        if n == fault:
            raise ZeroDivisionError(f"at {n}")
        yield pair
    if fault == len(pairs):
        raise ZeroDivisionError("at the end")


def refilled(pairs, fault):
    """Yield values in a list that changes after each yield."""
    row = Row([0])
    for n, (key, value) in enumerate(pairs):
        if n == fault:
            fail(n)
        row[0] = value
        yield key, row
    row[0] = "too late"


class Iterating:
    def __init__(self, pairs, fault):
        self.pairs, self.fault = pairs, fault

    def __iter__(self):
        if self.fault == 0:
            fail(0)
        return iter(self.pairs)


class Stateful(Iterating):
    """An iterator, not a generator."""

    def __iter__(self):
        return self

    def __next__(self):
        if not self.pairs:
            raise StopIteration
        if self.fault == len(self.pairs):
            fail(self.fault)
        return self.pairs.pop(0)


def fail(n):
    raise LookupError(n)


def hashable_pairs(pairs):
    return [
        pair for pair in pairs if type(pair) is tuple and len(pair) == 2 and is_hashable(pair[0])
    ]


def columns_of(pairs):
    return [key for key, _ in pairs], [value for _, value in pairs]


def is_hashable(key):
    try:
        hash(key)
    except TypeError:
        return False
    return True


FORMS = {
    "generator": one_by_one,
    "refilled": lambda pairs, fault: refilled(hashable_pairs(pairs), fault),
    "list": lambda pairs, _: pairs,
    "tuple": lambda pairs, _: tuple(pairs),
    "lists": lambda pairs, _: [list(p) if type(p) is tuple else p for p in pairs],
    "iterator": lambda pairs, _: iter(pairs),
    "zip": lambda pairs, _: zip(*columns_of(hashable_pairs(pairs)), strict=True),
    "iterable": Iterating,
    "stateful": lambda pairs, fault: Stateful(list(pairs), fault),
    "dict": lambda pairs, _: dict(hashable_pairs(pairs)),
    "ordered": lambda pairs, _: OrderedDict(hashable_pairs(pairs)),
    "mapping": lambda pairs, _: UserDict(hashable_pairs(pairs)),
    "proxy": lambda pairs, _: MappingProxyType(dict(hashable_pairs(pairs))),
    "items": lambda pairs, _: dict(hashable_pairs(pairs)).items(),
    "counter": lambda pairs, _: Counter(k for k, _ in hashable_pairs(pairs)),
    "none": lambda _pairs, _: None,
    "number": lambda _pairs, _: 7,
    "text": lambda _pairs, _: "ab",
    "raises": lambda pairs, _: fail(len(pairs)),
}
"""What mapfn returns for its pairs, by name."""


def mapfn(_key, value):
    form, pairs, fault = value
    return FORMS[form]([fresh(pair) for pair in pairs], fault)


def mapfn_of_value(value):
    return mapfn(None, value)


def own_reducefn(key, values):
    if values[0] == 255:
        fail(key)
    return values


def generating_reducefn(key, values):
    yield key, len(values)
    yield str(key), values[0]


def items_reducefn(items):
    for key, values in items:
        yield key, (len(values), values[-1])


def counting_combinefn(_key, values):
    return len(values)


def renaming_combinefn(key, values):
    yield key, values[0]
    yield fresh("all"), len(values)
    if values[0] == 255:
        fail(key)


REDUCERS = ["sum", "count", "list", "min", "max", "mean", "set", "first", None,
            own_reducefn, generating_reducefn, items_reducefn]  # fmt: skip
COMBINERS = [None, None, counting_combinefn, renaming_combinefn, "sum", "count"]


# -- strategies ------------------------------------------------------------------------------------


texts = st.sampled_from(["", "a", "b", "c", "word", "é", "日本", "😀"]) | st.text(max_size=3)
odd_texts = st.sampled_from(["\0", "a\0", "\ud800", "a\udfff", Text("a"), Text("")])
other_keys = st.sampled_from([0, 1, True, False, None, 2.0, 2**70, -1, b"a", (), (1, "a"), ("é",)])
small = st.integers(-3, 300)
huge = st.sampled_from(LIMITS)
floats = st.sampled_from([0.1, 0.5, -0.0, 3.0, 1e308, -1e308, math.inf])
# No NaN: its hash is its address, so that sets with NaN are pickled in any order.
other_values = st.sampled_from(
    [0.5, -0.0, None, True, "x", [1], [[2], {}], (1, [2]), {"a": [1]}, Row([3])]
)
bad_pairs = st.sampled_from(
    ["ab", ("a",), ("a", 1, 2), 7, None, ([], 1), ({}, 1), (Unstable(), 1)]
) | (st.just("generator").map(lambda _: ("a", (n for n in ()))))


KEYS = [texts, texts, texts | odd_texts, texts | other_keys, other_keys]
VALUES = [
    small,
    small,
    small | huge,
    huge,
    floats,
    floats | small,
    small | other_values,
    other_values,
]


def pairs_of(keys, values, bad):
    good = st.tuples(keys, values)
    return st.lists(st.one_of([good] * 9 + [bad_pairs]) if bad else good, max_size=8)


@st.composite
def splits(draw):
    """Return the records of one to three map tasks: most are plain, a few are odd."""
    keys = draw(st.sampled_from(KEYS))
    values = draw(st.sampled_from(VALUES))
    bad, fails = draw(st.sampled_from([(False, False)] * 3 + [(True, False), (False, True)]))
    forms = [name for name in FORMS if fails or name not in {"number", "text", "raises"}]
    fault = st.integers(-8, 8) if fails else st.just(-1)
    record = st.tuples(
        texts | small, st.tuples(st.sampled_from(forms), pairs_of(keys, values, bad), fault)
    )
    return draw(st.lists(st.lists(record, max_size=6), min_size=1, max_size=3))


@st.composite
def programs(draw):
    takes_value_only = draw(st.booleans())
    program = prepare_program(
        mapfn_of_value if takes_value_only else mapfn,
        draw(st.sampled_from(REDUCERS)),
        combinefn=draw(st.sampled_from(COMBINERS)),
        sort=draw(st.sampled_from([False, False, True])),
    )
    return replace(program, memory=draw(st.sampled_from([None, None, 1 << 20, 1 << 10])))


# -- what a user, or another worker, can see -------------------------------------------------------


CRASH = Crash(1, "WorkerDied", "killed by signal 9")


def new_cursor():
    """Return a cursor as a worker has it."""
    return memoryview(bytearray(16)).cast("q")


def describe_error(error):
    """Return what is shown of an error, and of its causes."""
    told = []
    while error is not None:
        told.append((type(error).__qualname__, without_addresses(str(error)), user_frames(error)))
        if isinstance(error, UserCodeError):
            place = error.function, error.ordinal, error.key, error.value
            told.append(without_addresses(repr(place)))
        error = error.__cause__
    return told


def without_addresses(text):
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def observe(items, cursor, describe):
    """Return what each item looks like, with the cursor at that time; and the error at the end."""
    seen = []
    try:
        for item in items:
            seen.append((describe(item), list(cursor)))
    except Exception as error:
        return seen, describe_error(error), list(cursor)
    return seen, None, list(cursor)


def observe_map(program, records, partitions, *, skips=False):
    cursor, recorder = new_cursor(), None
    if skips:
        recorder = SkipRecorder("map", "m0", "skip", list)
        program = with_skipping_mapfn(program, partitions, cursor, recorder, {1: CRASH})
    blocks = map_task(program, iter(records), partitions, cursor)
    seen = observe(blocks, cursor, lambda item: (item[0], frame_of(item[1])))
    return seen, recorder and without_addresses(repr(recorder.skipped()))


def frame_of(block):
    try:
        return encode_block(block)
    except Exception as error:
        return describe_error(error)


def observe_reduce(program, frames, partition, partitions, passes=1):
    seen = []
    for index in range(passes):
        cursor = new_cursor()
        results = reduce_task(
            program,
            map(decode_block, frames),
            cursor,
            partition,
            partitions,
            SubPass(index, passes),
        )
        seen.append(observe(results, cursor, lambda item: (frame_of(item[0]), item[1])))
    return seen


def shuffle(observed):
    """Return the frames of each partition."""
    frames = {}
    for (seen, _, _), _ in observed:
        for (partition, frame), _ in seen:
            frames.setdefault(partition, []).append(frame)
    return frames


class switched:
    """Runs a block of code with the extension, or without."""

    def __init__(self, is_native):
        self.is_native = is_native

    def __enter__(self):
        self.before, native.IS_LOADED = native.IS_LOADED, self.is_native

    def __exit__(self, *_):
        native.IS_LOADED = self.before
