"""Values taken as they are now, since functions of the user's may change them after a ``yield``.

A source may refill one list for all its records, and a mapfn one row for all its pairs. What is
held past the next step of the user's code is therefore kept: as it is if its type cannot change,
as a copy if it is short and made of plain parts, and else pickled at once. A ``PickledSnapshot``
is written
into the pickle around it, and is the value again when that pickle is read.
"""

from __future__ import annotations

import array
import copyreg
import pickle
import re
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from io import BytesIO
from operator import getitem
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from types import EllipsisType, NoneType
from typing import Any

from redismr.core import pickle_by_value

FindClass = Callable[[str, str], Any]


class CannotSnapshot(Exception):
    """A value cannot be kept as it is: it cannot be pickled, or an iterator is in it."""


class PickledSnapshot:
    """A value as it was, pickled. In a pickle around it, it is the value."""

    __slots__ = ("classes", "data")

    def __init__(self, data: bytes, classes: tuple[type, ...] = ()) -> None:
        self.data, self.classes = data, classes

    def __reduce__(self) -> tuple[Any, ...]:
        """What ``restore_snapshot`` takes."""
        return restore_snapshot, (self.data, self.classes) if self.classes else (self.data,)

    def __repr__(self) -> str:
        """As the value shows itself: errors may name it."""
        return repr(restore_snapshot(self.data, self.classes))


class SharedSnapshot:
    """One of several values that were frozen together, so that they share what they did."""

    __slots__ = ("group", "index")

    def __init__(self, group: PickledSnapshot, index: int) -> None:
        self.group, self.index = group, index

    def __reduce__(self) -> tuple[Any, ...]:
        """The values are restored once for all of them."""
        return getitem, (self.group, self.index)

    def __repr__(self) -> str:
        """As the value shows itself."""
        return repr(restore_snapshot(self.group.data, self.group.classes)[self.index])


IMMUTABLE_TYPES: set[type] = {
    *(NoneType, bool, int, float, complex, str, bytes, range, object),
    *(EllipsisType, type(NotImplemented)),
    *(date, datetime, time, timedelta, timezone, Decimal, Fraction, uuid.UUID),
    *(PosixPath, PurePosixPath, PureWindowsPath, re.Pattern, re.Match),
    *(PickledSnapshot, SharedSnapshot),
}
"""Types whose values never change: they may be kept by reference. Others are added as they come."""

_MAX_COPIED_PARTS = 8
"""Containers in one value that are copied one by one; pickle is quicker with more."""

_ITERATOR_MODULES = frozenset(
    ("builtins", "itertools", "array", "collections", "_collections", "_csv")
)
"""Modules whose iterators are refused."""


_ITERATOR_PICKLE = re.compile(
    rb"\x8c(?:\x04iter|\x08reversed|\x09enumerate|\x03zip|\x03map|\x06filter)"
)
"""What pickles of iterators of ``builtins`` call, as strings of a pickle. Other names of that
module (``list`` in a defaultdict) are common, and to look at each object takes five times as long.
"""


class Snapshotter:
    """Keeps one value after another; one that comes again unchanged is kept once.

    So a row that is emitted with each of its words takes the place of one.
    """

    __slots__ = ("_data", "_snapshot", "_value")

    def __init__(self) -> None:
        self._value: Any = None
        self._data: bytes | None = None
        self._snapshot: Any = None

    def take(self, value: Any) -> Any:
        """The value as it is now: itself, a copy, or ``PickledSnapshot``.

        Raises:
            CannotSnapshot: it cannot be pickled, or there is an iterator in it; says why.
        """
        kind = type(value)
        if kind in IMMUTABLE_TYPES:
            return value
        kept = _shallow_copy(value) if kind in _CONTAINER_TYPES else None
        if kept is value:
            return value
        if kind is tuple:
            mutable = [at for at, part in enumerate(value) if type(part) not in IMMUTABLE_TYPES]
            if len(mutable) == 1:  # with more they may share parts
                at = mutable[0]
                return *value[:at], self.take(value[at]), *value[at + 1 :]
        if value is not self._value:
            self._value, self._data = value, None
        else:
            before, self._data = self._data, _plain_pickle(value)
            if before is not None and before == self._data:
                return self._snapshot
        self._snapshot = kept = take_snapshot(value, _MAX_COPIED_PARTS) if kept is None else kept
        return kept


def take_snapshot(value: Any, parts: int = 1) -> Any:
    """The value as it is now: itself, a copy of so many ``parts`` at most, or ``PickledSnapshot``.

    Raises:
        CannotSnapshot: it cannot be pickled, or there is an iterator in it; says why.
    """
    if type(value) in _CONTAINER_TYPES:
        kept = _shallow_copy(value)
        if kept is not None:
            return kept
        if parts == 1:
            return _pickle_snapshot(value)
    try:
        return _deep_copy(value, {}, parts)
    except _NeedsPickle:
        return _pickle_snapshot(value)


def private_copy(value: Any) -> Any:
    """The value as it is now, to be worked with: nobody else has it, and it is never ``PickledSnapshot``.

    Raises:
        CannotSnapshot: as ``take``.
    """  # noqa: E501
    kept = take_snapshot(value, _MAX_COPIED_PARTS)
    return restore_snapshot(kept.data, kept.classes) if type(kept) is PickledSnapshot else kept


def take_pair_snapshot(key: Any, value: Any) -> tuple[Any, Any]:
    """``Snapshotter.take`` of a key and its value, which may share parts."""
    if type(key) in IMMUTABLE_TYPES:
        return key, take_snapshot(value)
    if type(value) in IMMUTABLE_TYPES:
        return take_snapshot(key), value
    group = _pickle_snapshot((key, value))
    return SharedSnapshot(group, 0), SharedSnapshot(group, 1)


def restore_snapshot(
    data: bytes, classes: tuple[type, ...] = (), find_class: FindClass | None = None
) -> Any:
    """The value that was frozen; ``find_class`` resolves the globals that it names."""
    if not classes and find_class is None:
        return pickle.loads(data)  # noqa: S301 - a part of what was authenticated
    return _SnapshotUnpickler(BytesIO(data), classes, find_class).load()


def _shallow_copy(value: Any) -> Any:
    """A tuple itself, a list's or dict's copy, if nothing that it holds can change; else None."""
    for part in value:
        if type(part) not in IMMUTABLE_TYPES:
            return None
    if type(value) is dict and not IMMUTABLE_TYPES.issuperset(map(type, value.values())):
        return None
    return value if type(value) is tuple else value.copy()


_CONTAINER_TYPES = frozenset((tuple, list, dict))


def _deep_copy(value: Any, memo: dict[int, Any], max_parts: int) -> Any:
    """A copy of plain parts that shares what the value does; ``memo`` has those made so far.

    Raises:
        _NeedsPickle: only a pickle tells what belongs to it, or it has many parts.
    """
    if (known := memo.get(id(value))) is not None:
        return known
    kind = type(value)
    if kind in IMMUTABLE_TYPES:
        return value
    if len(memo) == max_parts:
        raise _NeedsPickle
    copier = _COPIERS.get(kind) or _find_copier(kind)
    memo[id(value)] = copy = copier(value)
    if kind is list:
        for at, part in enumerate(copy):
            if type(part) not in IMMUTABLE_TYPES:
                copy[at] = _deep_copy(part, memo, max_parts)
    elif kind is dict or copier is _copy_instance:
        parts: dict[Any, Any] = copy if kind is dict else copy.__dict__
        mutable = [key for key, part in parts.items() if type(part) not in IMMUTABLE_TYPES]
        for key in mutable:
            parts[key] = _deep_copy(parts[key], memo, max_parts)
    return copy


class _NeedsPickle(Exception):
    """Only a pickle tells what belongs to a value."""


def _pickle_snapshot(value: Any) -> PickledSnapshot:
    data = _plain_pickle(value)
    if data is not None and not may_hold_iterator(data):
        return PickledSnapshot(data)
    buffer = BytesIO()
    pickler = _WithoutClassesPickler(buffer)
    try:
        pickler.dump(value)
    except Exception as error:
        raise CannotSnapshot(f"{type(error).__name__}: {error}") from error
    return (
        PickledSnapshot(data)
        if data is not None
        else PickledSnapshot(buffer.getvalue(), tuple(pickler.classes))
    )


def _plain_pickle(value: Any) -> bytes | None:
    try:
        return pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 - lambdas, local classes and what else refuses plain pickle
        return None


class NoIteratorPickler(pickle_by_value.Pickler):
    """Refuses iterators: what they give depends on who reads them first."""

    def reducer_override(self, obj: Any) -> Any:
        """Called by pickle for everything but plain data."""
        kind = type(obj)
        if _is_iterator_type(kind):
            raise TypeError(
                f"an iterator is in it ({kind.__module__}.{kind.__qualname__}), and what that "
                "gives depends on who reads it first: give list(...) of it instead"
            )
        if kind is memoryview:
            return _make_memoryview, (obj.tobytes(), obj.format, obj.shape, obj.readonly)
        return super().reducer_override(obj)


class _WithoutClassesPickler(NoIteratorPickler):
    """Leaves classes out: they do not change, and with each value would be 3 kB and 200 us."""

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file)
        self.classes: dict[type, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if isinstance(obj, type) and obj.__module__ != "builtins":
            return self.classes.setdefault(obj, len(self.classes))
        return None


def _is_iterator_type(kind: type) -> bool:
    """Whether it is one of Python's own iterators over something that others may read as well."""
    return hasattr(kind, "__next__") and kind.__module__ in _ITERATOR_MODULES


def may_hold_iterator(data: bytes) -> bool:
    """Whether a pickle of protocol 5 has the names in it that each such iterator's has."""
    if b"itertools" in data or b"_deque_" in data:
        return True
    return b"builtins" in data and _ITERATOR_PICKLE.search(data) is not None


class _SnapshotUnpickler(pickle.Unpickler):
    def __init__(
        self, file: BytesIO, classes: tuple[type, ...], find_class: FindClass | None
    ) -> None:
        super().__init__(file)
        self._classes, self._find = classes, find_class

    def persistent_load(self, pid: Any) -> Any:
        return self._classes[pid]

    def find_class(self, module: str, name: str) -> Any:
        return self._find(module, name) if self._find else super().find_class(module, name)


def _make_memoryview(data: bytes, layout: Any, shape: tuple[int, ...], readonly: Any) -> memoryview:
    """A memoryview like the one that was frozen, of bytes of its own."""
    view = memoryview(data if readonly else bytearray(data))
    return view if (layout, len(shape)) == ("B", 1) else view.cast(layout, shape)


def _find_copier(kind: type) -> Callable[[Any], Any]:
    """What copies a value of this type, remembered for the next one."""
    if _is_immutable_type(kind):
        IMMUTABLE_TYPES.add(kind)
        return _return_itself
    if issubclass(kind, (tuple, frozenset)) and not kind.__dictoffset__:
        copier: Callable[[Any], Any] = _itself_if_immutable
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
    names = {(one.__module__, one.__qualname__) for one in kind.__mro__}
    return bool(names & _IMMUTABLE_BASES) and not names & _VIEW_BASES


_IMMUTABLE_BASES = {
    ("numpy", "generic"),
    ("pandas._libs.tslibs.timestamps", "_Timestamp"),
    ("pandas._libs.tslibs.timedeltas", "_Timedelta"),
    ("ipaddress", "_IPAddressBase"),
}
"""Bases of values of libraries, known without importing these."""

_VIEW_BASES = {("numpy", "void"), ("numpy", "object_")}
"""Numpy's scalars that are no values of their own: a row of a table is a view of that."""


class _PlainClass:
    pass


def _is_plain_class(kind: type) -> bool:
    """Whether an instance is its ``__dict__`` and no more, for pickle as for us."""
    return (
        kind.__basicsize__ == _PlainClass.__basicsize__
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


def _return_itself(value: Any) -> Any:
    return value


def _refuse_copy(_value: Any) -> Any:
    raise _NeedsPickle


def _itself_if_immutable(value: Any) -> Any:
    return value if IMMUTABLE_TYPES.issuperset(map(type, value)) else _refuse_copy(value)


def _copy_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    return value.copy() if IMMUTABLE_TYPES.issuperset(map(type, value)) else _refuse_copy(value)


def _copy_array(value: Any) -> Any:
    return _refuse_copy(value) if value.dtype.hasobject else value.copy("K")


def _copy_set(value: set[Any]) -> set[Any]:
    return value.copy() if IMMUTABLE_TYPES.issuperset(map(type, value)) else _refuse_copy(value)


_COPIERS: dict[type, Callable[[Any], Any]] = {
    dict: _copy_dict,
    list: list.copy,
    tuple: _itself_if_immutable,
    frozenset: _itself_if_immutable,
    set: _copy_set,
    bytearray: bytearray.copy,
    array.array: lambda value: value[:],
}
