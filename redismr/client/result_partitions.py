"""What ``Results`` read from: partitions, key order, and a feed of parts for several threads.

``collector.RedisPartitions`` has the same methods as the partitions here, and reads from Redis.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter, length_hint
from threading import RLock
from typing import Any, Self

from redismr.engine.kernel import Block
from redismr.engine.merge import unsortable_keys_error

FeedPart = tuple[list[Any]] | Block
"""Items, or keys and their values. The last list is emptied when the result is closed."""


class InMemoryPartitions:
    """The result of an inline run: one partition, in memory."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        self._pairs = dict(pairs)
        self.records: Sequence[int] = [len(self._pairs)]
        self.has_unique_keys = True

    def blocks(self, partition: int) -> Iterator[Block]:
        """Yield the only block."""
        yield columns_of(self._pairs)

    def candidate_partitions(self, key: Any) -> Iterable[int]:
        """Return the number of the only partition."""
        return (0,)

    def keep(self) -> bool:
        """Return False: no other process can ask for the result."""
        return False

    def close(self) -> None:
        """Free the pairs."""
        self._pairs = {}


def columns_of(pairs: dict[Any, Any]) -> Block:
    """Return the pairs of a dict as a block: a list of keys and a list of values."""
    return list(pairs), list(pairs.values())


def in_key_order(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return the pairs in key order, as ``sort=True`` promises; BadKey: the keys have none."""
    try:
        return sorted(pairs, key=itemgetter(0))
    except TypeError as exc:
        raise unsortable_keys_error(exc) from exc


def merge_in_key_order(streams: Iterable[Iterator[tuple[Any, Any]]]) -> Iterator[tuple[Any, Any]]:
    """Merge streams of pairs, each in key order, into one in key order."""
    try:
        yield from heapq.merge(*streams, key=itemgetter(0))
    except TypeError as exc:
        raise unsortable_keys_error(exc) from exc


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
