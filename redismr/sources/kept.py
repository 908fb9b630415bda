"""Records taken from the caller's own objects, each as it was when it was given.

A source may give the same object again and again, with other contents: what may change is frozen
before the next record is asked for. Nothing of that is needed for containers of Python's own, in
whose iterators no code of the user's runs: their records are pickled before any does.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BytesIO
from reprlib import repr as short
from typing import Any

from redismr.core.frozen import FIXED, ByValue, CannotKeep, frozen, frozen_pair, may_hold_reader
from redismr.errors import BadValue, phrase
from redismr.sources.protocol import Split

Pair = tuple[Any, Any]

_CONTAINERS: tuple[Iterable[Any], ...] = (
    *((), [], {}, {}.values(), {}.items(), set()),
    *("", b"", range(0), range(1 << 70)),
)
_STILL = frozenset(type(iter(container)) for container in _CONTAINERS)


class Kept:
    """Takes records from one iterator, some at a time, and keeps them."""

    def __init__(self, iterator: Iterator[Any]) -> None:
        self._still = type(iterator) in _STILL
        #: How many records the iterator has given, also when it raised.
        self.taken = 0
        #: The types of the items taken last.
        self.kinds: set[type] = set()

    def items(self, some: Iterable[Any]) -> list[Any]:
        """The items, kept.

        Raises:
            BadValue: one of them cannot be sent to a worker; the message names it.
        """
        kept = list[Any]()
        try:
            if self._still:
                kept.extend(some)
                self.kinds = set(map(type, kept))
            else:
                self._move(some, kept)
        finally:
            self.taken += len(kept)
        return kept

    def _move(self, some: Iterable[Any], kept: list[Any]) -> None:
        kinds, kind = set[type](), None
        keep, type_ = kept.append, type
        for item in some:
            if type_(item) is not kind:
                if type_(item) in FIXED:
                    kind = type_(item)
                else:
                    item = _item(self.taken + len(kept), item)  # noqa: PLW2901
                kinds.add(type_(item))
            keep(item)
        self.kinds = kinds

    def pairs(self, some: Iterable[Pair]) -> list[Pair]:
        """The pairs, each key and value kept.

        Raises:
            BadValue: as ``items``.
        """
        kept = list[Pair]()
        try:
            if self._still:
                kept.extend(some)
                return kept
            keep, fixed = kept.append, FIXED
            for pair in some:
                key, value = pair
                if type(key) not in fixed or type(value) not in fixed:
                    pair = _pair(self.taken + len(kept), key, value)  # noqa: PLW2901
                keep(pair)
        finally:
            self.taken += len(kept)
        return kept


def frame_of(split: Split) -> bytes:
    """The split pickled; by value where plain pickle cannot.

    Raises:
        BadValue: a record cannot be pickled, or an iterator is in it; the message names it.
    """
    data = None
    with suppress(Exception):  # whatever the user's classes raise
        data = pickle.dumps(split, 5)
        if not may_hold_reader(data):
            return data
    buffer = BytesIO()
    try:
        ByValue(buffer).dump(split)
    except Exception as error:
        raise _culprit(split) or _unsendable(split.source, split, error) from error
    return buffer.getvalue() if data is None else data


def unmade(
    what: str, error: Exception, advice: str = "Give what is in it, and build it in mapfn or initfn"
) -> BadValue:
    """The error for a pickle from which the objects in it cannot be made again."""
    bad = BadValue(
        f"{what} cannot be made again from a pickle, as a worker has to: {type(error).__name__}: "
        f"{phrase(error)}. {advice}"
    )
    bad.__cause__ = error
    return bad


def _item(number: int, item: Any) -> Any:
    try:
        return frozen(item)
    except CannotKeep as error:
        raise _unsendable(f"item {number}", item, error) from error.__cause__


def _pair(number: int, key: Any, value: Any) -> Pair:
    try:
        return frozen_pair(key, value)
    except CannotKeep as error:
        raise _unsendable(f"item {number} (key {short(key)})", value, error) from error.__cause__


def _culprit(split: Split) -> BadValue | None:
    for ordinal, (_, value) in enumerate(split.read()):
        try:
            ByValue(BytesIO()).dump(value)
        except Exception as error:  # noqa: BLE001 - as above
            return _unsendable(split.where(ordinal), value, error)
    return None


def _unsendable(where: str, item: Any, error: Exception) -> BadValue:
    return BadValue(
        f"{where} of the source, of type {type(item).__qualname__}, cannot be sent to a worker: "
        f"{phrase(error)}. Give what is in it, or what it is made from (list(group), dict(row), "
        "a path), and build it in mapfn or initfn"
    )
