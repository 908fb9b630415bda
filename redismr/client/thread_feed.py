"""A feed that lets several threads iterate over the parts of a result, in C, until it closes."""

from collections.abc import Callable, Iterator
from operator import length_hint
from threading import RLock
from typing import Any, Self

from redismr.core.codec import Block

FeedPart = tuple[list[Any]] | Block
"""Items, or keys and their values. The last list is emptied when the result is closed."""


class ThreadFeed:
    """Gives ``itertools.chain`` one part after another: the lock is taken for parts, not for items.

    If two threads share a chain, each replaces the part of the other thread by the part that it
    fetched, and the rest of the replaced part would be lost. So both threads get the same part, and
    the next part is fetched when nothing is left of the last one.

    While the feed lives, ``parts_in_use`` holds the list that is being read: emptying that list
    ends the part. ``check_open`` raises once the result is closed.
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
                # From here on another thread that closes the result may empty ``last``.
                self._parts_in_use[id(self)] = last
                self._check_open()
                self._remaining = iter(last)
                self._part_items = (
                    zip(*keys, self._remaining, strict=False) if keys else self._remaining
                )
            return self._part_items

    def __del__(self) -> None:
        self._parts_in_use.pop(id(self), None)
