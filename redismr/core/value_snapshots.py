"""Values kept as they are now, because user functions may change them after a ``yield``.

A source may refill one list for all its records, and a mapfn one row for all its pairs. A value
that redismr holds past the next step of the user's code is kept in one of three ways: as it is, if
its type cannot change; as a copy, if it is short and made of plain parts; otherwise pickled at
once, as a ``PickledSnapshot``.
"""

import array
import copyreg
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from types import EllipsisType, NoneType
from typing import Any

from redismr.core.pickled_snapshots import (
    PickledSnapshot,
    SharedSnapshot,
    pickle_snapshot,
    plain_pickle,
    restore_snapshot,
)

IMMUTABLE_TYPES: set[type] = {
    *(NoneType, bool, int, float, complex, str, bytes, range, object),
    *(EllipsisType, type(NotImplemented)),
    *(date, datetime, time, timedelta, timezone, Decimal, Fraction, uuid.UUID),
    *(PosixPath, PurePosixPath, PureWindowsPath, re.Pattern, re.Match),
    *(PickledSnapshot, SharedSnapshot),
}
"""Types whose values never change and may be kept by reference. ``_find_copier`` adds others."""

CONTAINER_TYPES = frozenset((tuple, list, dict))  # that shallow_copy takes

# Bases of immutable values of libraries: names, so that no library is imported.
_IMMUTABLE_BASES = {
    *(("numpy", "generic"), ("ipaddress", "_IPAddressBase")),
    ("pandas._libs.tslibs.timestamps", "_Timestamp"),
    ("pandas._libs.tslibs.timedeltas", "_Timedelta"),
}
# NumPy's scalars that are views: such a row of a table changes with the table.
_VIEW_BASES = {("numpy", "void"), ("numpy", "object_")}
_PLAIN_CLASS_SIZE = type("Plain", (), {}).__basicsize__
_MAX_COPIED_PARTS = 8  # containers in one value that are copied; pickle is quicker with more


class Snapshotter:
    """Keeps values; once if one comes again unchanged, as a row with each of its words."""

    __slots__ = ("_data", "_snapshot", "_value")

    def __init__(self) -> None:
        self._value: Any = None
        self._data: bytes | None = None
        self._snapshot: Any = None

    def take(self, value: Any) -> Any:
        """Return the value as it is now, or raise, as ``take_snapshot`` does."""
        kind = type(value)
        if kind in IMMUTABLE_TYPES:
            return value
        kept = shallow_copy(value) if kind in CONTAINER_TYPES else None
        if kept is value:
            return value
        if kind is tuple:
            mutable = [i for i, part in enumerate(value) if type(part) not in IMMUTABLE_TYPES]
            if len(mutable) == 1:  # several mutable parts may share parts of their own
                index = mutable[0]
                return *value[:index], self.take(value[index]), *value[index + 1 :]
        if value is not self._value:
            self._value, self._data = value, None
        else:
            before, self._data = self._data, plain_pickle(value)
            if before is not None and before == self._data:
                return self._snapshot
        self._snapshot = kept = take_snapshot(value, _MAX_COPIED_PARTS) if kept is None else kept
        return kept


def take_snapshot(value: Any, max_parts: int = 1) -> Any:
    """Return the value as it is now: itself, a copy, or a ``PickledSnapshot``.

    A value of more than ``max_parts`` containers is pickled instead of copied. CannotSnapshot is
    raised if it cannot be pickled, or holds an iterator.
    """
    if type(value) in CONTAINER_TYPES:
        kept = shallow_copy(value)
        if kept is not None:
            return kept
        if max_parts == 1:
            return pickle_snapshot(value)
    try:
        return deep_copy(value, {}, max_parts)
    except NeedsPickle:
        return pickle_snapshot(value)


def private_copy(value: Any) -> Any:
    """Return what ``take_snapshot`` keeps, for use: nobody else holds it; it is no snapshot."""
    kept = take_snapshot(value, _MAX_COPIED_PARTS)
    return restore_snapshot(kept.data, kept.classes) if type(kept) is PickledSnapshot else kept


def take_pair_snapshot(key: Any, value: Any) -> tuple[Any, Any]:
    """Return snapshots of a key and its value, as above, which still share what they shared."""
    if type(key) in IMMUTABLE_TYPES:
        return key, take_snapshot(value)
    if type(value) in IMMUTABLE_TYPES:
        return take_snapshot(key), value
    group = pickle_snapshot((key, value))
    return SharedSnapshot(group, 0), SharedSnapshot(group, 1)


# ---- copies of values that are made of plain parts


class NeedsPickle(Exception):
    """A value cannot be copied part by part; only pickle knows its parts."""


def shallow_copy(value: Any) -> Any:
    """Return a tuple itself, or a copy of a list or dict; None if one of its parts can change."""
    for part in value:
        if type(part) not in IMMUTABLE_TYPES:
            return None
    if type(value) is dict and not IMMUTABLE_TYPES.issuperset(map(type, value.values())):
        return None
    return value if type(value) is tuple else value.copy()


def deep_copy(value: Any, memo: dict[int, Any], max_parts: int) -> Any:
    """Return a copy of plain parts that share what the value's parts share.

    ``memo`` holds the copies made so far, by the id of the original. NeedsPickle is raised if a
    part is not plain, or if there are more than ``max_parts`` to copy.
    """
    if (known := memo.get(id(value))) is not None:
        return known
    kind = type(value)
    if kind in IMMUTABLE_TYPES:
        return value
    if len(memo) == max_parts:
        raise NeedsPickle
    copier = _COPIERS.get(kind) or _find_copier(kind)
    memo[id(value)] = copy = copier(value)
    if kind is list:
        for index, part in enumerate(copy):
            if type(part) not in IMMUTABLE_TYPES:
                copy[index] = deep_copy(part, memo, max_parts)
    elif kind is dict or copier is _copy_instance:
        parts: dict[Any, Any] = copy if kind is dict else copy.__dict__
        mutable = [key for key, part in parts.items() if type(part) not in IMMUTABLE_TYPES]
        for key in mutable:
            parts[key] = deep_copy(parts[key], memo, max_parts)
    return copy


def _find_copier(kind: type) -> Callable[[Any], Any]:
    if _is_immutable_type(kind):
        IMMUTABLE_TYPES.add(kind)
        return lambda value: value
    if issubclass(kind, (tuple, frozenset)) and not kind.__dictoffset__:
        copier: Callable[[Any], Any] = _keep_if_immutable
    elif (kind.__module__, kind.__name__) == ("numpy", "ndarray"):
        copier = _copy_array
    elif _is_plain_class(kind):
        copier = _copy_instance
    else:
        copier = _refuse_copy
    _COPIERS[kind] = copier
    return copier


def _is_immutable_type(kind: type) -> bool:
    if issubclass(kind, Enum):
        return True
    if not kind.__dictoffset__ and any(
        issubclass(kind, base) and kind.__basicsize__ == base.__basicsize__
        for base in (str, bytes, int, float)
    ):
        return True
    names = {(base.__module__, base.__qualname__) for base in kind.__mro__}
    return bool(names & _IMMUTABLE_BASES) and not names & _VIEW_BASES


def _is_plain_class(kind: type) -> bool:
    """True if an instance is its ``__dict__`` and nothing else, for pickle too."""
    return (
        kind.__basicsize__ == _PLAIN_CLASS_SIZE
        and bool(kind.__dictoffset__)
        and kind not in copyreg.dispatch_table
        and all(
            getattr(kind, name, None) is getattr(object, name, None)
            for name in ("__new__", "__reduce_ex__", "__reduce__", "__getstate__")
        )
        and not any(
            hasattr(kind, name) for name in ("__setstate__", "__getnewargs__", "__getnewargs_ex__")
        )
    )


def _copy_instance(value: Any) -> Any:
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__)
    return copy


def _refuse_copy(_value: Any) -> Any:
    raise NeedsPickle


def _keep_if_immutable(value: Any) -> Any:
    return value if IMMUTABLE_TYPES.issuperset(map(type, value)) else _refuse_copy(value)


def _copy_if_immutable(value: Any) -> Any:
    return value.copy() if IMMUTABLE_TYPES.issuperset(map(type, value)) else _refuse_copy(value)


def _copy_array(value: Any) -> Any:
    return _refuse_copy(value) if value.dtype.hasobject else value.copy("K")


_COPIERS: dict[type, Callable[[Any], Any]] = {
    dict: _copy_if_immutable,  # of a dict, its keys; deep_copy sees to the values
    list: list.copy,
    tuple: _keep_if_immutable,
    frozenset: _keep_if_immutable,
    set: _copy_if_immutable,
    bytearray: bytearray.copy,
    array.array: lambda value: value[:],
}
