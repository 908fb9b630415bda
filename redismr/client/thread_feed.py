"""Reads parts of a whole item by item, in C, for several threads, until the whole is closed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from operator import length_hint
from threading import RLock
from typing import Any, Self

FeedPart = tuple[list[Any]] | tuple[Collection[Any], list[Any]]
"""Items, or keys and their values. The list is emptied if what it is of is closed."""


class ThreadFeed:
    """Gives ``itertools.chain`` the items of one part after another: its price is one per part.

    Where two threads are in one chain, each takes the part that it asked for in place of the
    other's, and what that still held would be left out without a word. So both get the same one:
    the next part is fetched when nothing is left of the last.

    ``parts_in_use`` holds, as long as this lives, the list that ends the part in use once it is
    emptied;
    ``check_open`` raises from then on.
    """

    def __init__(
        self,
        parts: Iterator[FeedPart],
        parts_in_use: dict[int, list[Any]],
        check_open: Callable[[], object],
    ) -> None:
        self._parts, self._parts_in_use, self._check_open = parts, parts_in_use, check_open
        self._lock = RLock()
        self._remaining: Iterator[Any] = iter(())
        self._part_items: Iterator[Any] = self._remaining

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Iterator[Any]:
        with self._lock:
            self._check_open()
            while not length_hint(self._remaining):
                *keys, last = next(self._parts)
                if keys and len(keys[0]) != len(last):
                    raise ValueError("a part has another number of values than of keys")
                self._parts_in_use[id(self)] = (
                    last  # whatever comes after this, ``last`` may be empty
                )
                self._check_open()
                self._remaining = iter(last)
                self._part_items = (
                    zip(*keys, self._remaining, strict=False) if keys else self._remaining
                )
            return self._part_items

    def __del__(self) -> None:
        self._parts_in_use.pop(id(self), None)
