"""The functions of random programs, such as a user might write, by name."""

from __future__ import annotations

import itertools
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redismr

Pair = tuple[Any, Any]
Record = Any
"""``(bad, pairs)``: whether mapfn fails on the record, and the pairs that mapfn emits for it. Some
sources give a dict with these two values, or a buffer with their pickle."""


class BadRecord(Exception):
    """The error that mapfn raises for a bad record."""


def decode_record(record: Record) -> tuple[bool, Any]:
    """Return ``(bad, pairs)`` of a record in any of its forms."""
    if isinstance(record, (bytes, bytearray, memoryview)):
        record = pickle.loads(record)
    bad, pairs = record.values() if isinstance(record, dict) else record
    return bad, pairs


def yielding(_key: Any, record: Record) -> Iterator[Pair]:
    """Yield pairs that are tuples."""
    redismr.count("records")
    bad, pairs = decode_record(record)
    yield from map(tuple, pairs)
    if bad:
        raise BadRecord


def by_value(record: Record) -> Iterator[Pair]:
    """Yield pairs; takes the value alone."""
    yield from yielding(None, record)


def listing(_key: Any, record: Record) -> list[Pair]:
    """Return a list of all pairs."""
    return list(yielding(None, record))


def of_lists(_key: Any, record: Record) -> Iterator[Any]:
    """Yield pairs that are lists."""
    for key, value in yielding(None, record):
        yield [key, value]


def with_refilled_value(_key: Any, record: Record) -> Iterator[Any]:
    """Yield one list as every value, refilled each time and emptied at the end."""
    row: list[Any] = []
    for key, value in yielding(None, record):
        row[:] = [value]
        yield key, row
    row.clear()


def with_refilled_pair(_key: Any, record: Record) -> Iterator[Any]:
    """Yield one list as every pair, refilled each time."""
    pair: list[Any] = [None, None]
    for pair[0], pair[1] in yielding(None, record):
        yield pair


def with_changed_inner(_key: Any, record: Record) -> Iterator[Any]:
    """Yield values whose inner part is changed after the yield."""
    inner: dict[str, Any] = {}
    for key, value in yielding(None, record):
        inner["value"] = value
        yield key, (1, inner)


def with_shared_key(_key: Any, record: Record) -> Iterator[Pair]:
    """Yield each value a second time, with one key for all records."""
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
    """Return all values, in order."""
    redismr.count("keys")
    return [*values]


def user_sum(_key: Any, values: Any) -> Any:
    """Return the result of the builtin."""
    return sum(values)


def user_min(_key: Any, values: Any) -> Any:
    """Return the result of the builtin."""
    return min(values)


def user_max(_key: Any, values: Any) -> Any:
    """Return the result of the builtin."""
    return max(values)


def user_items(items: Any) -> Iterator[Pair]:
    """Yield a pair for each group; takes an iterator of all groups."""
    for key, values in items:
        redismr.count("keys")
        yield key, [*values]


def user_generator(key: Any, values: Any) -> Iterator[Pair]:
    """Yield the pair of the group, and a second pair with another key."""
    redismr.count("keys")
    yield key, [*values]
    yield ("beside", key), len(values)


def last(_key: Any, values: Any) -> Any:
    """Return the last value in input order; can be its own combiner."""
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
"""User reducers, each with the combiners that do not change its result."""

EXACT_SUM_COMBINERS = COMBINERS["user_sum"]
"""Combiners for values whose sum does not show the order of adding."""


def by_python_hash(key: Any, partitions: int) -> int:
    """Use ``hash``, as many do: that of a str depends on the process and PYTHONHASHSEED."""
    return hash(key) % partitions


def by_repr(key: Any, partitions: int) -> int:
    """Send equal keys with different reprs to different partitions."""
    return zlib.crc32(repr(key).encode()) % partitions


_turns = itertools.count()


def round_robin(_key: Any, partitions: int) -> int:
    """Ignore the key: each call returns the next partition."""
    return next(_turns) % partitions


def always_last(_key: Any, partitions: int) -> int:
    """Send all keys to the last partition."""
    return partitions - 1


PARTITIONFNS: Mapping[str, Callable[[Any, int], int]] = {
    function.__name__: function for function in (by_python_hash, by_repr, round_robin, always_last)
}
