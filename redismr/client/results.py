"""``Results``: a read-only mapping over the partitions of a job, fetched as they are read."""

import heapq
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Self

from redismr.client.result_partitions import (
    FeedPart,
    InMemoryPartitions,
    ThreadFeed,
    columns_of,
    in_key_order,
    merge_in_key_order,
)
from redismr.config import FLAG_RULE, int_rule
from redismr.core.model import Skipped
from redismr.core.plurals import pluralize
from redismr.engine.kernel import Block
from redismr.errors import BadKey, BadValue, RedismrError, ResultsClosed
from redismr.native import IntBlock

if TYPE_CHECKING:  # an inline run has no use for what reads from Redis
    from redismr.client.collector import RedisPartitions

_COUNT_RULE = int_rule(0, 1 << 62, "a whole number (int), 0 or more")
_NO_VALUE = object()
_PAIRS_PER_BATCH = 10_000
_MAX_KEPT_RECORDS = 2_000_000
"""Look-ups keep partitions as dicts until these hold more records, besides the one in use."""


class Results(Mapping[Any, Any]):
    """The result of a job: a read-only mapping that has each key once.

    Partitions follow one another, and within a partition keys come in the order in which they
    first appeared in the input; with ``sort=True`` all keys come in key order.

    Iterating holds up to 4 MB of a partition in memory, with ``sort=True`` of each partition; if an
    equal key may lie in two partitions, the whole result. Looking up a key loads the partition of
    the key. Several threads may read and close one result; threads that share an
    iterator get each item once in all.

    >>> from redismr import run
    >>> with run(["b", "a", "b"], lambda item: [(item, 1)], "sum", inline=True) as results:
    ...     dict(results), results["b"], len(results), "c" in results
    ({'b': 2, 'a': 1}, 2, 2, False)

    Attributes:
        counters: what user functions counted: name -> amount.
        skipped: the records that ``on_error`` left out: the first 1000 of ``skipped.total``.
        job_id: the id of the job; empty for an inline run.

    Raises, while the results are read:
        SealError: bytes in Redis are not what a worker put there.
        JobLost: the job is gone from Redis.
        ResultsClosed: ``close`` was called, maybe by another thread or before an iterator ended.
        BadKey: ``sort=True``, and the keys have no order.
        LibraryMismatch: this process lacks a library that the data needs, or has another version.
    """

    def __init__(
        self,
        partitions: "InMemoryPartitions | RedisPartitions",
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
        #: By iterator (its ``id``), the list that ends the iterator when the list is emptied.
        self._parts_in_use: dict[int, list[Any]] = {}

    def __getitem__(self, key: Any) -> Any:
        """Return the value of a key.

        Loads the partition of the key into memory, and keeps loaded partitions up to 2 million
        records. If the job has a partitionfn and the key is not in the partition that partitionfn
        names, the other partitions are loaded one after another.

        >>> from redismr import run
        >>> run(["b", "a", "b"], lambda item: [(item, 1)], "sum", inline=True)["b"]
        2

        Raises:
            KeyError: there is no such key. TypeError: the key is not hashable.
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
        """Return the number of keys, without reading a partition.

        If an equal key may lie in two partitions, all of them are loaded into memory.
        """
        self._check_open()
        if self._partitions.has_unique_keys:
            return sum(self._partitions.records)
        return len(self._load_all())

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the keys, in the order of the result; streams."""
        return self._iterate(self._iterate_column(0))

    def keys(self) -> KeysView[Any]:
        """Return a view of the keys, in the order of the result.

        Iterating over the view loads the whole result: ``dict(results)`` begins here, and then
        looks up each key. Iterate over ``results`` itself to stream.

        >>> from redismr import run
        >>> run(["a", "b"], lambda item: [(item, 1)], inline=True).keys() & {"b", "c"}
        {'b'}
        """
        return _KeysForLookups(self)

    def items(self) -> ItemsView[Any, Any]:
        """Return a view of the (key, value) pairs, in the order of the result; streams.

        >>> from redismr import run
        >>> list(run(["a", "b"], lambda item: [(item, 1)], "sum", inline=True).items())
        [('a', 1), ('b', 1)]
        """
        return _StreamedItems(self)

    def values(self) -> ValuesView[Any]:
        """Return a view of the values, in the order of their keys; streams.

        >>> from redismr import run
        >>> sum(run(["b", "a", "b"], lambda item: [(item, 1)], "sum", inline=True).values())
        3
        """
        return _StreamedValues(self)

    def sorted(
        self, key: Callable[[tuple[Any, Any]], Any] | None = None, *, reverse: bool = False
    ) -> list[tuple[Any, Any]]:
        """Return all pairs as a list, in order of their keys, or of ``key(pair)``.

        The list holds the whole result in memory.

        >>> from redismr import run
        >>> run(["b", "a", "b"], lambda item: [(item, 1)], "sum", inline=True).sorted()
        [('a', 1), ('b', 2)]

        Raises:
            BadKey: the keys have no order, and no ``key`` is given.
            ConfigError: ``reverse`` is neither True nor False.
        """
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
        """Return the ``n`` pairs with the largest values, or ``key(value)``, largest first.

        Reads the whole result as a stream and keeps ``n`` pairs in memory. Pairs with equal values
        come in the order of the result.

        >>> from redismr import run
        >>> run(["b", "a", "b"], lambda item: [(item, 1)], "sum", inline=True).top(1)
        [('b', 2)]

        Raises:
            BadValue: the values have no order, and no ``key`` is given.
            ConfigError: ``n`` is not a whole number, or is negative.
        """
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
        """Leave the job on the server after ``close``, until the ttl of the job is over.

        ``Client.attach`` with the id of the job finds the result there. Return False if there is no
        job to leave: after an inline run, or after ``close``.

        >>> from redismr import run
        >>> run(["a"], lambda item: [(item, 1)], "sum", inline=True).keep()
        False
        """
        return not self._closed and self._partitions.keep()

    def close(self) -> None:
        """Free the memory that the result holds; if ``run`` made the job, delete the job too.

        In a forked child only the memory is freed: the job belongs to the parent process.

        >>> from redismr import run
        >>> results = run(["a"], lambda item: [(item, 1)], inline=True)
        >>> results.close()
        >>> results
        <Results, closed>
        """
        if not self._closed:
            self._closed = True
            self._loaded_partitions, self._last_partition = {}, {}
            self._all_pairs, self._expected_lookups = None, iter(())
            for part in self._parts_in_use.copy().values():
                part.clear()
            self._partitions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return the size of the result, not the contents, which may be larger than memory."""
        if self._closed:
            return "<Results, closed>"
        records = self._partitions.records
        size = f"{pluralize(sum(records), 'record')} in {pluralize(len(records), 'partition')}"
        return f"<Results: {size}>"

    def _iterate(self, parts: Iterator[FeedPart]) -> Iterator[Any]:
        """Iterate over the items of the parts, in C."""
        self._check_open()
        return chain.from_iterable(ThreadFeed(parts, self._parts_in_use, self._check_open))

    def _keys_for_lookups(self) -> Iterator[FeedPart]:
        """Yield the keys, and keep the pairs, so that look-ups in the same order need no search."""
        blocks = [tuple(block) for block in self._blocks()]
        # This runs in C alone: whatever other threads do, each step gives one whole pair, or none.
        self._expected_lookups = chain.from_iterable(
            map(zip, map(itemgetter(0), blocks), map(itemgetter(1), blocks))
        )
        for keys, _ in blocks:
            yield (list(keys),)

    def _iterate_column(self, number: int) -> Iterator[FeedPart]:
        """Yield the keys (``number`` 0) or the values (1), in the order of the result."""
        for block in self._blocks():
            yield (list(block[number]),)

    def _pairs(self) -> Iterator[FeedPart]:
        if self._sort:
            yield from ((batch,) for batch in self._batches())
        else:
            yield from self._blocks()

    def _blocks(self) -> Iterator[Block]:
        if self._sort:
            for batch in self._batches():
                yield list(map(itemgetter(0), batch)), list(map(itemgetter(1), batch))
        elif self._partitions.has_unique_keys:
            yield from chain.from_iterable(
                map(self._fetch_blocks, range(len(self._partitions.records)))
            )
        else:
            yield columns_of(self._load_all())

    def _batches(self) -> Iterator[list[tuple[Any, Any]]]:
        """Yield all pairs in key order, in lists of up to ``_PAIRS_PER_BATCH``."""
        if self._partitions.has_unique_keys:
            pairs = merge_in_key_order(
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
        """Yield the blocks of a partition; ResultsClosed: ``close`` has deleted them meanwhile."""
        if (loaded := self._loaded_partitions.get(partition)) is not None:
            yield columns_of(loaded)
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
        # Loaded partitions come first: the likeliest partition may be a wrong guess.
        for partition in sorted(
            self._partitions.candidate_partitions(key),
            key=lambda p: p not in self._loaded_partitions,
        ):
            if 0 <= partition < len(self._partitions.records):  # without input there are none
                self._last_partition = loaded = self._load_partition(partition)
                if (value := loaded.get(key, _NO_VALUE)) is not _NO_VALUE:
                    return value
        raise KeyError(key)

    def _load_partition(self, partition: int) -> dict[Any, Any]:
        self._check_open()
        loaded = self._loaded_partitions.get(partition)
        if loaded is None:
            loaded = self._read_into_dict([partition])
            # Other threads may read this dict: it is replaced and never changed.
            kept_partitions = self._loaded_partitions
            if sum(map(len, kept_partitions.values())) + len(loaded) > _MAX_KEPT_RECORDS:
                kept_partitions = {}
            self._loaded_partitions = {**kept_partitions, partition: loaded}
        return loaded

    def _load_all(self) -> dict[Any, Any]:
        """Return all pairs as one dict; the last value of a key that was emitted twice counts."""
        self._check_open()
        all_pairs = self._all_pairs
        if all_pairs is None:
            all_pairs = self._all_pairs = self._read_into_dict(range(len(self._partitions.records)))
        return all_pairs

    def _read_into_dict(self, partitions: Iterable[int]) -> dict[Any, Any]:
        loaded: dict[Any, Any] = {}
        for block in chain.from_iterable(map(self._fetch_blocks, partitions)):
            if isinstance(block, IntBlock):
                block.update(loaded)
            else:
                keys, values = block
                loaded.update(zip(keys, values, strict=True))
        return loaded

    def _check_open(self) -> None:
        if self._closed:
            raise _closed_error()


def _closed_error() -> ResultsClosed:
    return ResultsClosed("these results were closed; take what you need before close()")


class _KeysForLookups(KeysView[Any]):
    """The keys, whose pairs are kept for look-ups: 3 s instead of 9 s for 4.1 million pairs."""

    _mapping: Results

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._iterate(self._mapping._keys_for_lookups())  # noqa: SLF001  a view is part of its mapping


class _StreamedItems(ItemsView[Any, Any]):
    """The pairs, read from the blocks without a look-up for each key."""

    _mapping: Results

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._iterate(self._mapping._pairs())  # noqa: SLF001  a view is part of its mapping


class _StreamedValues(ValuesView[Any]):
    """The values, read from the blocks without a look-up for each key."""

    _mapping: Results

    def __iter__(self) -> Iterator[Any]:
        return self._mapping._iterate(self._mapping._iterate_column(1))  # noqa: SLF001  a view is part of its mapping
