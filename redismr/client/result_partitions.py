"""Partitions of a result: what ``Results`` read from, the partition in memory, and key order.

``collector.RedisPartitions`` is the other implementation, which reads from Redis.
"""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, Protocol

from redismr.engine.kernel import Block
from redismr.engine.merge import unsortable_keys_error


class ResultPartitions(Protocol):
    """The partitions of a finished result."""

    @property
    def records(self) -> Sequence[int]:
        """Number of records in each partition."""
        ...

    @property
    def has_unique_keys(self) -> bool:
        """True if each key is known to occur once, in the partition that its hash names."""
        ...

    def blocks(self, partition: int) -> Iterator[Block]:
        """Yield the blocks of a partition in order, each fetched when it is asked for."""
        ...

    def candidate_partitions(self, key: Any) -> Iterable[int]:
        """Return the partitions that may hold a key, the likeliest first.

        A number may be out of range.
        """
        ...

    def keep(self) -> bool:
        """Keep the result when it is closed; return True if it can still be asked for then."""
        ...

    def close(self) -> None:
        """Free the result."""
        ...


class InMemoryPartitions:
    """The result of an inline run: one partition, in memory."""

    def __init__(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        self._pairs = dict(pairs)
        self.records: Sequence[int] = [len(self._pairs)]
        self.has_unique_keys = True

    def blocks(self, partition: int) -> Iterator[Block]:
        """Yield the only block."""
        del partition
        yield columns_of(self._pairs)

    def candidate_partitions(self, key: Any) -> Iterable[int]:
        """Return the number of the only partition."""
        del key
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
    """Return the pairs in key order, as ``sort=True`` promises.

    Raises:
        BadKey: the keys have no order.
    """
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
