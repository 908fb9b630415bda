"""Snapshots of records: each is sent as it was when the caller's iterator gave it.

An iterator may give the same object again and again with other contents, so a record that can
change is copied before the next one is taken. Iterators of built-in containers run no user code:
their records are pickled before user code can change them, and need no copy.
"""

import pickle
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from reprlib import repr as short
from typing import Any

from redismr.core.annotations import Pair
from redismr.core.pickled_snapshots import CannotSnapshot, NoIteratorPickler, may_hold_iterator
from redismr.core.value_snapshots import IMMUTABLE_TYPES, take_pair_snapshot, take_snapshot
from redismr.errors import BadValue, error_phrase
from redismr.sources.protocol import Split

_BUILTIN_CONTAINERS: tuple[Iterable[Any], ...] = (
    *((), [], {}, {}.values(), {}.items(), set()),
    *("", b"", range(0), range(1 << 70)),
)
_BUILTIN_ITERATORS = frozenset(type(iter(container)) for container in _BUILTIN_CONTAINERS)


class RecordSnapshots:
    """Takes records from one iterator, some at a time, as they are at that moment."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._is_builtin = type(iterator) in _BUILTIN_ITERATORS
        self.taken_count = 0  #: Records that the iterator has given; correct after an error too.
        self.item_types: set[type] = set()  #: Of the items of the last ``take_items``.

    def take_items(self, records: Iterable[Any]) -> list[Any]:
        """Return the items, each as it was when it was taken."""
        snapshots = list[Any]()
        try:
            if self._is_builtin:
                snapshots.extend(records)
                self.item_types = set(map(type, snapshots))
            else:
                self._snapshot_items(records, snapshots)
        finally:
            self.taken_count += len(snapshots)
        return snapshots

    def _snapshot_items(self, records: Iterable[Any], snapshots: list[Any]) -> None:
        item_types, fixed_type = set[type](), None
        append, type_ = snapshots.append, type
        for item in records:
            if type_(item) is not fixed_type:
                if type_(item) in IMMUTABLE_TYPES:
                    fixed_type = type_(item)
                else:
                    item = _item_snapshot(self.taken_count + len(snapshots), item)  # noqa: PLW2901
                item_types.add(type_(item))
            append(item)
        self.item_types = item_types

    def take_pairs(self, records: Iterable[Pair]) -> list[Pair]:
        """Return the pairs, each key and value as it was when the pair was taken."""
        snapshots = list[Pair]()
        try:
            if self._is_builtin:
                snapshots.extend(records)
                return snapshots
            append, fixed = snapshots.append, IMMUTABLE_TYPES
            for pair in records:
                key, value = pair
                if type(key) not in fixed or type(value) not in fixed:
                    pair = _pair_snapshot(self.taken_count + len(snapshots), key, value)  # noqa: PLW2901
                append(pair)
        finally:
            self.taken_count += len(snapshots)
        return snapshots


def pickle_split(split: Split) -> bytes:
    """Return the pickle of a split; classes and functions go by value where plain pickle fails.

    Raises:
        BadValue: a record cannot be pickled or holds an iterator; the message names the record.
    """
    data = None
    with suppress(Exception):  # the user's classes may raise anything
        data = pickle.dumps(split, 5)
        if not may_hold_iterator(data):
            return data
    buffer = BytesIO()
    try:
        NoIteratorPickler(buffer).dump(split)
    except Exception as error:
        raise _find_unpicklable(split) or _unsendable_error(split.source, split, error) from error
    return buffer.getvalue() if data is None else data


def unpickle_error(
    label: str,
    error: Exception,
    advice: str = "Give what is in it, and build it in mapfn or initfn",
) -> BadValue:
    """Return the error for a pickle whose objects cannot be made again from it."""
    bad = BadValue(
        f"{label} cannot be made again from a pickle, as a worker has to: {type(error).__name__}: "
        f"{error_phrase(error)}. {advice}"
    )
    bad.__cause__ = error
    return bad


def _item_snapshot(number: int, item: Any) -> Any:
    try:
        return take_snapshot(item)
    except CannotSnapshot as error:
        raise _unsendable_error(f"item {number}", item, error) from error.__cause__


def _pair_snapshot(number: int, key: Any, value: Any) -> Pair:
    try:
        return take_pair_snapshot(key, value)
    except CannotSnapshot as error:
        where = f"item {number} (key {short(key)})"
        raise _unsendable_error(where, value, error) from error.__cause__


def _find_unpicklable(split: Split) -> BadValue | None:
    for ordinal, (_, value) in enumerate(split.read()):
        try:
            NoIteratorPickler(BytesIO()).dump(value)
        except Exception as error:  # noqa: BLE001 - the user's classes may raise anything
            return _unsendable_error(split.where(ordinal), value, error)
    return None


def _unsendable_error(where: str, item: Any, error: Exception) -> BadValue:
    return BadValue(
        f"{where} of the source, of type {type(item).__qualname__}, cannot be sent to a worker: "
        f"{error_phrase(error)}. Give what is in it, or what it is made from (list(group), "
        "dict(row), a path), and build it in mapfn or initfn"
    )
