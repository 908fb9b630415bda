"""Values kept as they are now, because user functions may change them after a ``yield``.

A source may refill one list for all its records, and a mapfn one row for all its pairs. A value
that redismr holds past the next step of the user's code is kept in one of three ways: as it is, if
its type cannot change; as a copy, if it is short and made of plain parts; otherwise pickled at
once, as a ``PickledSnapshot``.
"""

from typing import Any

from redismr.core.pickled_snapshots import (
    PickledSnapshot,
    SharedSnapshot,
    pickle_snapshot,
    plain_pickle,
    restore_snapshot,
)
from redismr.core.plain_copies import (
    CONTAINER_TYPES,
    IMMUTABLE_TYPES,
    NeedsPickle,
    deep_copy,
    shallow_copy,
)

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
