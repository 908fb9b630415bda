"""``Results``: a read-only mapping over a job's partitions, fetched as it is read."""

from __future__ import annotations

import heapq
from collections.abc import (
    Callable,
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    ValuesView,
)
from itertools import chain, islice
from operator import itemgetter
from typing import Any, Protocol, Self

from redismr.client.thread_feed import FeedPart, ThreadFeed
from redismr.config import FLAG_RULE, int_rule
from redismr.core.model import Skipped
from redismr.core.plurals import pluralize
from redismr.engine.kernel import Block
from redismr.engine.merge import unsortable_keys_error
from redismr.errors import BadKey, BadValue, RedismrError, ResultsClosed

_COUNT_RULE = int_rule(0, 1 << 62, "a whole number (int), 0 or more")
_NO_VALUE = object()
_PAIRS_PER_BATCH = 10_000
_MAX_KEPT_RECORDS = 2_000_000
"""Records of looked-up partitions that are kept as dicts, besides the one in use."""


class ResultPartitions(Protocol):
    """Where the partitions of a finished result lie."""

    @property
    def records(self) -> Sequence[int]:
        """Records of each partition."""
        ...

    @property
    def has_unique_keys(self) -> bool:
        """Whether each key is known to be in its own partition, once."""
        ...

    def blocks(self, partition: int) -> Iterator[Block]:
        """The blocks of a partition, in order, fetched as they are asked for."""
        ...

    def candidate_partitions(self, key: Any) -> Iterable[int]:
        """The partitions that may hold a key, the likeliest first; numbers may be out of range."""
        ...

    def keep(self) -> bool:
        """The result stays when it is closed; whether anybody can ask for it then."""
        ...

    def close(self) -> None:
        """The result is not needed any more."""
        ...


class Results(Mapping[Any, Any]):
    """The result of a job: each key once, in partition order (key order with ``sort=True``).

    Reading streams: iterating holds a few blocks of about 1 MB, looking up a key loads its
    partition. Keys within a partition come in the order in which they first appeared in the input.
    ``counters`` is what user functions counted; ``skipped`` what ``on_error`` left out, the first
    1000 of ``skipped.total``; ``job_id`` the job that they are of, empty of an inline run. Several
    threads may read and close one result; of one iterator each item goes to one of them.

    Raises, while reading:
        SealError: bytes in Redis are not what a worker put there.
        JobLost: the job is gone from Redis.
        ResultsClosed: ``close`` was called, also by another thread, or under an iterator.
        BadKey: ``sort=True``, and the keys have no order.
    """

    def __init__(
        self,
        partitions: ResultPartitions,
        *,
        sort: bool = False,
        counters: Mapping[str, int] | None = None,
        skipped: Skipped = Skipped(),  # noqa: B008 - it is as immutable as ()
        job_id: str = "",
    ) -> None:
        self._partitions = partitions
        self._sort = sort
        self.counters: dict[str, int] = dict(counters or {})
        self.skipped = skipped
        self.job_id = job_id
        self._loaded_partitions: dict[int, dict[Any, Any]] = {}
        self._all_pairs: dict[Any, Any] | None = None
        self._last_partition: dict[Any, Any] = {}
        self._expected_lookups: Iterator[tuple[Any, Any]] = iter(())
        self._closed = False
        self._parts_in_use: dict[int, list[Any]] = {}
        """Of each iterator what ends it when it is emptied."""

    def __getitem__(self, key: Any) -> Any:
        """The value of a key; loads the partition that holds it.

        With a partitionfn a key may lie elsewhere than it says here: a key that is not there is
        looked for in all partitions, which are loaded one after another.

        Raises:
            KeyError: no such key. TypeError: the key is not hashable.
        """
        # dict(results) lists keys() and then asks for each value, in the same order.
        for expected, value in self._expected_lookups:
            if expected is key:
                return value
            break
        self._expected_lookups = iter(())
        self._check_open()
        value = self._last_partition.get(key, _NO_VALUE)
        return self._look_up(key) if value is _NO_VALUE else value

    def __len__(self) -> int:
        """How many keys there are; no partition is read for it."""
        self._check_open()
        return (
            sum(self._partitions.records)
            if self._partitions.has_unique_keys
            else len(self._load_all())
        )

    def __iter__(self) -> Iterator[Any]:
        """The keys, in order."""
        return self._iterate(self._iterate_column(0))

    def keys(self) -> KeysView[Any]:
        """The keys, in order. ``dict(results)`` begins here: pairs are kept for the look-ups."""
        return _Keys(self)

    def items(self) -> ItemsView[Any, Any]:
        """(key, value) pairs, in order; streams."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """The values, in order of their keys; streams."""
        return _Values(self)

    def sorted(
        self, key: Callable[[tuple[Any, Any]], Any] | None = None, *, reverse: bool = False
    ) -> list[tuple[Any, Any]]:
        """All pairs as a list, in order of their keys, or of ``key(pair)``."""
        FLAG_RULE.check("reverse", reverse)
        try:
            return sorted(self.items(), key=key or itemgetter(0), reverse=reverse)
        except BadKey:
            raise
        except TypeError as exc:
            if key:
                raise
            raise BadKey(f"sorted() needs keys that can be ordered, or a key=: {exc}") from exc

    def top(self, n: int, key: Callable[[Any], Any] | None = None) -> list[tuple[Any, Any]]:
        """The ``n`` pairs with the largest values (or ``key(value)``), largest first."""
        n = _COUNT_RULE.check("n", n)
        sort_key = itemgetter(1) if key is None else (lambda pair: key(pair[1]))
        try:
            return heapq.nlargest(n, self.items(), key=sort_key)
        except BadKey:
            raise
        except TypeError as exc:
            if key:
                raise
            raise BadValue(f"top() needs values that can be ordered, or a key=: {exc}") from exc

    def keep(self) -> bool:
        """Leave the job on its server, until its ttl is over, also after ``close``.

        Whoever knows the id can attach to it then. Returns False where there is none to leave: of
        an inline run, or after ``close``.
        """
        return not self._closed and self._partitions.keep()

    def close(self) -> None:
        """Free what the result holds: here, and in Redis if it was made by ``run``.

        In a forked child only what that holds: the results in Redis are its parent's.
        """
        if not self._closed:
            self._closed = True
            (
                self._loaded_partitions,
                self._last_partition,
                self._all_pairs,
                self._expected_lookups,
            ) = {}, {}, None, iter(())
            for column in self._parts_in_use.copy().values():
                column.clear()
            self._partitions.close()

    def __enter__(self) -> Self:
        """For ``with``."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        """Its size, not its contents: a result may be larger than memory."""
        if self._closed:
            return "<Results, closed>"
        records = self._partitions.records
        return f"<Results: {pluralize(sum(records), 'record')} in {pluralize(len(records), 'partition')}>"  # noqa: E501

    def _iterate(self, parts: Iterator[FeedPart]) -> Iterator[Any]:
        """What the parts hold, item by item, in C."""
        self._check_open()
        return chain.from_iterable(ThreadFeed(parts, self._parts_in_use, self._check_open))

    def _keys_for_lookups(self) -> Iterator[FeedPart]:
        """The keys; the look-ups that follow in the same order need no search."""
        blocks = list(self._blocks())
        # In C all the way: whatever other threads do, it gives a pair that is one, or none.
        self._expected_lookups = chain.from_iterable(
            map(zip, map(itemgetter(0), blocks), map(itemgetter(1), blocks))
        )
        for keys, _ in blocks:
            yield (list(keys),)

    def _iterate_column(self, number: int) -> Iterator[FeedPart]:
        """The keys (0) or the values (1), in order."""
        for block in self._blocks():
            yield (list(block[number]),)

    def _pairs(self) -> Iterator[FeedPart]:
        """The pairs, in order."""
        if self._sort:
            yield from ((batch,) for batch in self._batches())
        else:
            yield from self._blocks()

    def _blocks(self) -> Iterator[Block]:
        """All pairs in order, in columns."""
        if self._sort:
            for batch in self._batches():
                yield list(map(itemgetter(0), batch)), list(map(itemgetter(1), batch))
        elif self._partitions.has_unique_keys:
            yield from chain.from_iterable(
                map(self._fetch_blocks, range(len(self._partitions.records)))
            )
        else:
            yield _columns_of(self._load_all())

    def _batches(self) -> Iterator[list[tuple[Any, Any]]]:
        """All pairs in key order, many at a time."""
        if self._partitions.has_unique_keys:
            pairs = _merge_in_key_order(
                map(self._partition_pairs, range(len(self._partitions.records)))
            )
        else:
            pairs = iter(in_key_order(self._load_all().items()))
        while batch := list(islice(pairs, _PAIRS_PER_BATCH)):
            yield batch

    def _partition_pairs(self, partition: int) -> Iterator[tuple[Any, Any]]:
        return chain.from_iterable(
            zip(keys, values, strict=True) for keys, values in self._fetch_blocks(partition)
        )

    def _fetch_blocks(self, partition: int) -> Iterator[Block]:
        """The blocks of a partition; what is gone because of ``close`` is no loss."""
        if (loaded := self._loaded_partitions.get(partition)) is not None:
            yield _columns_of(loaded)
            return
        try:
            yield from self._partitions.blocks(partition)
        except RedismrError:
            if self._closed:
                raise _closed_error() from None
            raise

    def _look_up(self, key: Any) -> Any:
        self._check_open()
        if not self._partitions.has_unique_keys:
            return self._load_all()[key]
        # Those that are here already come first: the likeliest one may be a wrong guess.
        for partition in sorted(
            self._partitions.candidate_partitions(key),
            key=lambda p: p not in self._loaded_partitions,
        ):
            if 0 <= partition < len(self._partitions.records):  # without input there is none
                self._last_partition = loaded = self._load_partition(partition)
                if (value := loaded.get(key, _NO_VALUE)) is not _NO_VALUE:
                    return value
        raise KeyError(key)

    def _load_partition(self, partition: int) -> dict[Any, Any]:
        self._check_open()
        loaded = self._loaded_partitions.get(partition)
        if loaded is None:
            loaded = self._read_into_dict([partition])
            kept_partitions = (
                self._loaded_partitions
            )  # other threads may read it: a new one takes its place
            if sum(map(len, kept_partitions.values())) + len(loaded) > _MAX_KEPT_RECORDS:
                kept_partitions = {}
            self._loaded_partitions = {**kept_partitions, partition: loaded}
        return loaded

    def _load_all(self) -> dict[Any, Any]:
        """All partitions in one dict; of a key emitted twice the last counts."""
        self._check_open()
        all_pairs = self._all_pairs
        if all_pairs is None:
            all_pairs = self._all_pairs = self._read_into_dict(range(len(self._partitions.records)))
        return all_pairs

    def _read_into_dict(self, partitions: Iterable[int]) -> dict[Any, Any]:
        loaded: dict[Any, Any] = {}
        for keys, values in chain.from_iterable(map(self._fetch_blocks, partitions)):
            loaded.update(zip(keys, values, strict=True))
        return loaded

    def _check_open(self) -> None:
        if self._closed:
            raise _closed_error()


def _closed_error() -> ResultsClosed:
    return ResultsClosed("these results were closed; take what you need before close()")


def in_key_order(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The pairs as ``sort=True`` gives them.

    Raises:
        BadKey: their keys cannot be ordered.
    """
    try:
        return sorted(pairs, key=itemgetter(0))
    except TypeError as exc:
        raise unsortable_keys_error(exc) from exc


def _columns_of(pairs: dict[Any, Any]) -> Block:
    return list(pairs), list(pairs.values())


def _merge_in_key_order(streams: Iterable[Iterator[tuple[Any, Any]]]) -> Iterator[tuple[Any, Any]]:
    """Streams that are each in key order as one that is."""
    try:
        yield from heapq.merge(*streams, key=itemgetter(0))
    except TypeError as exc:
        raise unsortable_keys_error(exc) from exc


class _Keys(KeysView[Any]):
    """Keys whose pairs stay at hand. Measured on 4.1 million: dict(results) takes 3 s, not 9."""

    _mapping: Results

    def __iter__(self) -> Iterator[Any]:
        results = self._mapping
        return results._iterate(results._keys_for_lookups())  # noqa: SLF001  a view is part of its mapping


class _Items(ItemsView[Any, Any]):
    """Pairs straight from the blocks, without a look-up per key."""

    _mapping: Results

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        results = self._mapping
        return results._iterate(results._pairs())  # noqa: SLF001  a view is part of its mapping


class _Values(ValuesView[Any]):
    """Values straight from the blocks."""

    _mapping: Results

    def __iter__(self) -> Iterator[Any]:
        results = self._mapping
        return results._iterate(results._iterate_column(1))  # noqa: SLF001  a view is part of its mapping


class InMemoryPartitions:
    """Results that are in memory already, those of an inline run."""

    def __init__(self, partitions: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        merged: dict[Any, Any] = {}
        for pairs in partitions:
            merged.update(pairs)
        self._merged = merged
        self.records: Sequence[int] = [len(merged)]
        self.has_unique_keys = True

    def blocks(self, partition: int) -> Iterator[Block]:
        """The one block."""
        del partition
        yield list(self._merged), list(self._merged.values())

    def candidate_partitions(self, key: Any) -> Iterable[int]:
        """The only partition."""
        del key
        return (0,)

    def keep(self) -> bool:
        """Nobody else can ask for it."""
        return False

    def close(self) -> None:
        """Let go."""
        self._merged = {}
