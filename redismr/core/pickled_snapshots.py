"""A value kept as a pickle: written when the snapshot is taken, restored when it is read.

A pickle that holds a ``PickledSnapshot`` gives the value itself when it is read. Iterators are
refused, because their items depend on which reader asks first.
"""

import pickle
import re
from collections.abc import Callable
from functools import partial
from io import BytesIO
from operator import getitem
from typing import Any

from redismr.core.pickle_by_value import PICKLE_PROTOCOL, ByValuePickler

FindClass = Callable[[str, str], Any]  # finds a class by its module and name
_ITERATOR_MODULES = {"builtins", "itertools", "array", "collections", "_collections", "_csv"}
_ITERATOR_PICKLE = re.compile(
    rb"\x8c(?:\x04iter|\x08reversed|\x09enumerate|\x03zip|\x03map|\x06filter)"
)
"""The strings in a pickle that make iterators of ``builtins``. Other names of that module (``list``
in a defaultdict) are common, and to look at each object takes five times as long."""


class CannotSnapshot(Exception):
    """A value cannot be kept as it is now: it cannot be pickled, or it holds an iterator."""


class PickledSnapshot:
    """A value as it was when it was pickled. Unpickling the snapshot gives the value."""

    __slots__ = ("classes", "data")

    def __init__(self, data: bytes, classes: tuple[type, ...] = ()) -> None:
        self.data, self.classes = data, classes

    def __reduce__(self) -> tuple[Any, ...]:
        return restore_snapshot, (self.data, self.classes) if self.classes else (self.data,)

    def __repr__(self) -> str:
        """Return the repr of the value, because errors may name it."""
        return repr(restore_snapshot(self.data, self.classes))


class SharedSnapshot:
    """One of several values that were pickled together, so that they still share their parts."""

    __slots__ = ("group", "index")

    def __init__(self, group: PickledSnapshot, index: int) -> None:
        self.group, self.index = group, index

    def __reduce__(self) -> tuple[Any, ...]:
        """Restore the group once for all its values."""
        return getitem, (self.group, self.index)

    def __repr__(self) -> str:
        return repr(restore_snapshot(self.group.data, self.group.classes)[self.index])


def pickle_snapshot(value: Any) -> PickledSnapshot:
    """Return the value pickled, by value where plain pickle cannot; CannotSnapshot if none can."""
    data = plain_pickle(value)
    if data is not None and not may_hold_iterator(data):
        return PickledSnapshot(data)
    buffer = BytesIO()
    pickler = _WithoutClassesPickler(buffer)
    try:
        pickler.dump(value)
    except Exception as error:
        raise CannotSnapshot(f"{type(error).__name__}: {error}") from error
    if data is not None:
        return PickledSnapshot(data)
    return PickledSnapshot(buffer.getvalue(), tuple(pickler.classes))


def plain_pickle(value: Any) -> bytes | None:
    """Return the value as plain pickle writes it; None for lambdas, local classes and the like."""
    try:
        return pickle.dumps(value, PICKLE_PROTOCOL)
    except Exception:  # noqa: BLE001 - whatever the user's __reduce__ raises
        return None


def restore_snapshot(
    data: bytes | memoryview, classes: tuple[type, ...] = (), find_class: FindClass | None = None
) -> Any:
    """Return the value of a pickle; ``find_class`` resolves its globals, also in its snapshots."""
    if not classes and find_class is None:
        return pickle.loads(data)  # noqa: S301 - a part of what was authenticated
    return _SnapshotUnpickler(BytesIO(data), classes, find_class).load()


def may_hold_iterator(data: bytes) -> bool:
    """True if a pickle of protocol 5 contains a name that the pickles of iterators contain."""
    if b"itertools" in data or b"_deque_" in data:
        return True
    return b"builtins" in data and _ITERATOR_PICKLE.search(data) is not None


class NoIteratorPickler(ByValuePickler):
    """Pickles by value, and refuses iterators of ``_ITERATOR_MODULES``."""

    def reducer_override(self, obj: Any) -> Any:
        """Reduce one object; pickle calls this for everything but plain data."""
        kind = type(obj)
        if hasattr(kind, "__next__") and kind.__module__ in _ITERATOR_MODULES:
            raise TypeError(
                f"an iterator is in it ({kind.__module__}.{kind.__qualname__}), whose items go to "
                "whichever reader asks first: give list(...) of it instead"
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


class _SnapshotUnpickler(pickle.Unpickler):
    def __init__(self, file: BytesIO, classes: tuple[type, ...], find: FindClass | None) -> None:
        super().__init__(file)
        self._classes, self._find = classes, find

    def persistent_load(self, pid: Any) -> Any:
        return self._classes[pid]

    def find_class(self, module: str, name: str) -> Any:
        if self._find is None:
            return super().find_class(module, name)
        if (module, name) == (restore_snapshot.__module__, restore_snapshot.__name__):
            return partial(restore_snapshot, find_class=self._find)
        return self._find(module, name)


def _make_memoryview(data: bytes, layout: Any, shape: tuple[int, ...], readonly: Any) -> memoryview:
    view = memoryview(data if readonly else bytearray(data))
    return view if (layout, len(shape)) == ("B", 1) else view.cast(layout, shape)
