"""Values taken as they are now, since functions of the user's may change them after a ``yield``.

A source may refill one list for all its records, and a mapfn one row for all its pairs. What is
held past the next step of the user's code is therefore kept: as it is if its type cannot change,
as a copy if it is short and made of plain parts, and else pickled at once. A ``Frozen`` is written
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

from redismr.core import byvalue

FindClass = Callable[[str, str], Any]


class CannotKeep(Exception):
    """A value cannot be kept as it is: it cannot be pickled, or an iterator is in it."""


class Frozen:
    """A value as it was, pickled. In a pickle around it, it is the value."""

    __slots__ = ("classes", "data")

    def __init__(self, data: bytes, classes: tuple[type, ...] = ()) -> None:
        self.data, self.classes = data, classes

    def __reduce__(self) -> tuple[Any, ...]:
        """What ``thawed`` takes."""
        return thawed, (self.data, self.classes) if self.classes else (self.data,)

    def __repr__(self) -> str:
        """As the value shows itself: errors may name it."""
        return repr(thawed(self.data, self.classes))


class Member:
    """One of several values that were frozen together, so that they share what they did."""

    __slots__ = ("index", "together")

    def __init__(self, together: Frozen, index: int) -> None:
        self.together, self.index = together, index

    def __reduce__(self) -> tuple[Any, ...]:
        """The values are thawed once for all of them."""
        return getitem, (self.together, self.index)

    def __repr__(self) -> str:
        """As the value shows itself."""
        return repr(thawed(self.together.data, self.together.classes)[self.index])


FIXED: set[type] = {
    *(NoneType, bool, int, float, complex, str, bytes, range, object),
    *(EllipsisType, type(NotImplemented)),
    *(date, datetime, time, timedelta, timezone, Decimal, Fraction, uuid.UUID),
    *(PosixPath, PurePosixPath, PureWindowsPath, re.Pattern, re.Match),
    *(Frozen, Member),
}
"""Types whose values never change: they may be kept by reference. Others are added as they come."""

_MOST_PARTS = 8
"""Containers in one value that are copied one by one; pickle is quicker with more."""

_READERS = frozenset(("builtins", "itertools", "array", "collections", "_collections", "_csv"))
"""Modules whose iterators are refused."""


_MADE_BY = re.compile(rb"\x8c(?:\x04iter|\x08reversed|\x09enumerate|\x03zip|\x03map|\x06filter)")
"""What pickles of iterators of ``builtins`` call, as strings of a pickle. Other names of that
module (``list`` in a defaultdict) are common, and to look at each object takes five times as long.
"""


class Freezer:
    """Keeps one value after another; one that comes again unchanged is kept once.

    So a row that is emitted with each of its words takes the place of one.
    """

    __slots__ = ("_data", "_kept", "_value")

    def __init__(self) -> None:
        self._value: Any = None
        self._data: bytes | None = None
        self._kept: Any = None

    def freeze(self, value: Any) -> Any:
        """The value as it is now: itself, a copy, or ``Frozen``.

        Raises:
            CannotKeep: it cannot be pickled, or there is an iterator in it; says why.
        """
        kind = type(value)
        if kind in FIXED:
            return value
        kept = _flat(value) if kind in _NESTS else None
        if kept is value:
            return value
        if kind is tuple:
            changing = [at for at, part in enumerate(value) if type(part) not in FIXED]
            if len(changing) == 1:  # with more they may share parts
                at = changing[0]
                return *value[:at], self.freeze(value[at]), *value[at + 1 :]
        if value is not self._value:
            self._value, self._data = value, None
        else:
            before, self._data = self._data, _plainly(value)
            if before is not None and before == self._data:
                return self._kept
        self._kept = kept = frozen(value, _MOST_PARTS) if kept is None else kept
        return kept


def frozen(value: Any, parts: int = 1) -> Any:
    """The value as it is now: itself, a copy of so many ``parts`` at most, or ``Frozen``.

    Raises:
        CannotKeep: it cannot be pickled, or there is an iterator in it; says why.
    """
    if type(value) in _NESTS:
        kept = _flat(value)
        if kept is not None:
            return kept
        if parts == 1:
            return _pickled(value)
    try:
        return _copied(value, {}, parts)
    except _Opaque:
        return _pickled(value)


def snapshot(value: Any) -> Any:
    """The value as it is now, to be worked with: nobody else has it, and it is never ``Frozen``.

    Raises:
        CannotKeep: as ``freeze``.
    """
    kept = frozen(value, _MOST_PARTS)
    return thawed(kept.data, kept.classes) if type(kept) is Frozen else kept


def frozen_pair(key: Any, value: Any) -> tuple[Any, Any]:
    """``Freezer.freeze`` of a key and its value, which may share parts."""
    if type(key) in FIXED:
        return key, frozen(value)
    if type(value) in FIXED:
        return frozen(key), value
    together = _pickled((key, value))
    return Member(together, 0), Member(together, 1)


def thawed(data: bytes, classes: tuple[type, ...] = (), find: FindClass | None = None) -> Any:
    """The value that was frozen; ``find`` resolves the globals that it names."""
    if not classes and find is None:
        return pickle.loads(data)  # noqa: S301 - a part of what was authenticated
    return _Unpickler(BytesIO(data), classes, find).load()


def _flat(value: Any) -> Any:
    """A tuple itself, a list's or dict's copy, if nothing that it holds can change; else None."""
    for part in value:
        if type(part) not in FIXED:
            return None
    if type(value) is dict and not FIXED.issuperset(map(type, value.values())):
        return None
    return value if type(value) is tuple else value.copy()


_NESTS = frozenset((tuple, list, dict))


def _copied(value: Any, memo: dict[int, Any], most: int) -> Any:
    """A copy of plain parts that shares what the value does; ``memo`` has those made so far.

    Raises:
        _Opaque: only a pickle tells what belongs to it, or it has many parts.
    """
    if (known := memo.get(id(value))) is not None:
        return known
    kind = type(value)
    if kind in FIXED:
        return value
    if len(memo) == most:
        raise _Opaque
    copier = _COPIERS.get(kind) or _copier(kind)
    memo[id(value)] = copy = copier(value)
    if kind is list:
        for at, part in enumerate(copy):
            if type(part) not in FIXED:
                copy[at] = _copied(part, memo, most)
    elif kind is dict or copier is _instance:
        parts: dict[Any, Any] = copy if kind is dict else copy.__dict__
        changing = [key for key, part in parts.items() if type(part) not in FIXED]
        for key in changing:
            parts[key] = _copied(parts[key], memo, most)
    return copy


class _Opaque(Exception):
    """Only a pickle tells what belongs to a value."""


def _pickled(value: Any) -> Frozen:
    data = _plainly(value)
    if data is not None and not may_hold_reader(data):
        return Frozen(data)
    buffer = BytesIO()
    pickler = _Alone(buffer)
    try:
        pickler.dump(value)
    except Exception as error:
        raise CannotKeep(f"{type(error).__name__}: {error}") from error
    return Frozen(data) if data is not None else Frozen(buffer.getvalue(), tuple(pickler.classes))


def _plainly(value: Any) -> bytes | None:
    try:
        return pickle.dumps(value, 5)
    except Exception:  # noqa: BLE001 - lambdas, local classes and what else refuses plain pickle
        return None


class ByValue(byvalue.Pickler):
    """Refuses iterators: what they give depends on who reads them first."""

    def reducer_override(self, obj: Any) -> Any:
        """Called by pickle for everything but plain data."""
        kind = type(obj)
        if _is_reader(kind):
            raise TypeError(
                f"an iterator is in it ({kind.__module__}.{kind.__qualname__}), and what that "
                "gives depends on who reads it first: give list(...) of it instead"
            )
        if kind is memoryview:
            return _view, (obj.tobytes(), obj.format, obj.shape, obj.readonly)
        return super().reducer_override(obj)


class _Alone(ByValue):
    """Leaves classes out: they do not change, and with each value would be 3 kB and 200 us."""

    def __init__(self, file: BytesIO) -> None:
        super().__init__(file)
        self.classes: dict[type, int] = {}

    def persistent_id(self, obj: Any) -> int | None:
        if isinstance(obj, type) and obj.__module__ != "builtins":
            return self.classes.setdefault(obj, len(self.classes))
        return None


def _is_reader(kind: type) -> bool:
    """Whether it is one of Python's own iterators over something that others may read as well."""
    return hasattr(kind, "__next__") and kind.__module__ in _READERS


def may_hold_reader(data: bytes) -> bool:
    """Whether a pickle of protocol 5 has the names in it that each such iterator's has."""
    if b"itertools" in data or b"_deque_" in data:
        return True
    return b"builtins" in data and _MADE_BY.search(data) is not None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO, classes: tuple[type, ...], find: FindClass | None) -> None:
        super().__init__(file)
        self._classes, self._find = classes, find

    def persistent_load(self, pid: Any) -> Any:
        return self._classes[pid]

    def find_class(self, module: str, name: str) -> Any:
        return self._find(module, name) if self._find else super().find_class(module, name)


def _view(data: bytes, layout: Any, shape: tuple[int, ...], readonly: Any) -> memoryview:
    """A memoryview like the one that was frozen, of bytes of its own."""
    view = memoryview(data if readonly else bytearray(data))
    return view if (layout, len(shape)) == ("B", 1) else view.cast(layout, shape)


def _copier(kind: type) -> Callable[[Any], Any]:
    """What copies a value of this type, remembered for the next one."""
    if _never_changes(kind):
        FIXED.add(kind)
        return _itself
    if issubclass(kind, (tuple, frozenset)) and not kind.__dictoffset__:
        copier: Callable[[Any], Any] = _itself_if_fixed
    elif (kind.__module__, kind.__name__) == ("numpy", "ndarray"):
        copier = _array
    elif _plain_class(kind):
        copier = _instance
    else:
        copier = _opaque
    _COPIERS[kind] = copier
    return copier


def _never_changes(kind: type) -> bool:
    if issubclass(kind, Enum):
        return True
    if not kind.__dictoffset__ and any(
        issubclass(kind, base) and kind.__basicsize__ == base.__basicsize__
        for base in (str, bytes, int, float)
    ):
        return True
    names = {(one.__module__, one.__qualname__) for one in kind.__mro__}
    return bool(names & _SCALARS) and not names & _VIEWS


_SCALARS = {
    ("numpy", "generic"),
    ("pandas._libs.tslibs.timestamps", "_Timestamp"),
    ("pandas._libs.tslibs.timedeltas", "_Timedelta"),
    ("ipaddress", "_IPAddressBase"),
}
"""Bases of values of libraries, known without importing these."""

_VIEWS = {("numpy", "void"), ("numpy", "object_")}
"""Numpy's scalars that are no values of their own: a row of a table is a view of that."""


class _Plain:
    pass


def _plain_class(kind: type) -> bool:
    """Whether an instance is its ``__dict__`` and no more, for pickle as for us."""
    return (
        kind.__basicsize__ == _Plain.__basicsize__
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


def _instance(value: Any) -> Any:
    copy = object.__new__(type(value))
    copy.__dict__.update(value.__dict__)
    return copy


def _itself(value: Any) -> Any:
    return value


def _opaque(_value: Any) -> Any:
    raise _Opaque


def _itself_if_fixed(value: Any) -> Any:
    return value if FIXED.issuperset(map(type, value)) else _opaque(value)


def _dict(value: dict[Any, Any]) -> dict[Any, Any]:
    return value.copy() if FIXED.issuperset(map(type, value)) else _opaque(value)


def _array(value: Any) -> Any:
    return _opaque(value) if value.dtype.hasobject else value.copy("K")


def _set(value: set[Any]) -> set[Any]:
    return value.copy() if FIXED.issuperset(map(type, value)) else _opaque(value)


_COPIERS: dict[type, Callable[[Any], Any]] = {
    dict: _dict,
    list: list.copy,
    tuple: _itself_if_fixed,
    frozenset: _itself_if_fixed,
    set: _set,
    bytearray: bytearray.copy,
    array.array: lambda value: value[:],
}
