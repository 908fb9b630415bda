"""What random programs run: the functions that a user might write, by name."""

from __future__ import annotations

import itertools
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redismr

Pair = tuple[Any, Any]
Record = Any
"""``(bad, pairs)``: whether mapfn is to fail on it, and what it is to emit. A dict may have the
two as its values, and a buffer as its pickle."""


class BadRecord(Exception):
    """What mapfn raises for a bad record."""


def decode_record(record: Record) -> tuple[bool, Any]:
    """What a record says, in whichever form."""
    if isinstance(record, (bytes, bytearray, memoryview)):
        record = pickle.loads(record)
    bad, pairs = record.values() if isinstance(record, dict) else record
    return bad, pairs


def yielding(_key: Any, record: Record) -> Iterator[Pair]:
    """A generator of tuples."""
    redismr.count("records")
    bad, pairs = decode_record(record)
    yield from map(tuple, pairs)
    if bad:
        raise BadRecord


def by_value(record: Record) -> Iterator[Pair]:
    """A generator that takes the value alone."""
    yield from yielding(None, record)


def listing(_key: Any, record: Record) -> list[Pair]:
    """A list of all pairs."""
    return list(yielding(None, record))


def of_lists(_key: Any, record: Record) -> Iterator[Any]:
    """A generator of pairs that are lists."""
    for key, value in yielding(None, record):
        yield [key, value]


def with_refilled_value(_key: Any, record: Record) -> Iterator[Any]:
    """One list for all values, filled anew for each, and emptied at the end."""
    row: list[Any] = []
    for key, value in yielding(None, record):
        row[:] = [value]
        yield key, row
    row.clear()


def with_refilled_pair(_key: Any, record: Record) -> Iterator[Any]:
    """One list for all pairs."""
    pair: list[Any] = [None, None]
    for pair[0], pair[1] in yielding(None, record):
        yield pair


def with_changed_inner(_key: Any, record: Record) -> Iterator[Any]:
    """A value whose inner part is changed after the yield."""
    inner: dict[str, Any] = {}
    for key, value in yielding(None, record):
        inner["value"] = value
        yield key, (1, inner)


def with_shared_key(_key: Any, record: Record) -> Iterator[Pair]:
    """The same key for all records, too."""
    for key, value in yielding(None, record):
        yield key, value
        yield "all of them", value


MAPFNS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        yielding, by_value, listing, of_lists, with_refilled_value, with_refilled_pair, with_changed_inner, with_shared_key,  # noqa: E501
    )
}  # fmt: skip


def user_list(_key: Any, values: Any) -> Any:
    """All values, in order."""
    redismr.count("keys")
    return [*values]


def user_sum(_key: Any, values: Any) -> Any:
    """What the builtin gives."""
    return sum(values)


def user_min(_key: Any, values: Any) -> Any:
    """What the builtin gives."""
    return min(values)


def user_max(_key: Any, values: Any) -> Any:
    """What the builtin gives."""
    return max(values)


def user_items(items: Any) -> Iterator[Pair]:
    """The form that gets an iterator."""
    for key, values in items:
        redismr.count("keys")
        yield key, [*values]


def user_generator(key: Any, values: Any) -> Iterator[Pair]:
    """A reducer that yields its pairs, and a second key beside each."""
    redismr.count("keys")
    yield key, [*values]
    yield ("beside", key), len(values)


def last(_key: Any, values: Any) -> Any:
    """The last value in input order; combines."""
    return values[-1]


USER_REDUCEFNS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (user_list, user_sum, user_min, user_max, user_items, user_generator, last)
}
COMBINERS: Mapping[str, tuple[str, ...]] = {
    "last": ("last",),
    "user_min": ("min", "user_min"),
    "user_max": ("max", "user_max"),
    "user_sum": ("sum", "user_sum"),
}
"""Reducers of a user's own, and combiners that change nothing of what they give."""

EXACT_SUM_COMBINERS = COMBINERS["user_sum"]
"""Combiners for values of which the order of adding cannot be seen."""


def by_python_hash(key: Any, partitions: int) -> int:
    """What many write: of strings another number in each process, unless that is arranged for."""
    return hash(key) % partitions


def by_repr(key: Any, partitions: int) -> int:
    """Parts keys that are equal and look different."""
    return zlib.crc32(repr(key).encode()) % partitions


_turns = itertools.count()


def round_robin(_key: Any, partitions: int) -> int:
    """No function of the key at all."""
    return next(_turns) % partitions


def always_last(_key: Any, partitions: int) -> int:
    """Everything in the last partition."""
    return partitions - 1


PARTITIONFNS: Mapping[str, Callable[[Any, int], int]] = {
    function.__name__: function for function in (by_python_hash, by_repr, round_robin, always_last)
}
