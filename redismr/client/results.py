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

from redismr.client.supply import Part, Supply
from redismr.config import FLAG, whole
from redismr.core.kernel import Block
from redismr.core.merge import unordered
from redismr.core.model import Skipped
from redismr.core.words import plural
from redismr.errors import BadKey, BadValue, RedismrError, ResultsClosed

_COUNT = whole(0, 1 << 62, "a whole number (int), 0 or more")
_MISSING = object()
_BATCH = 10_000
_KEPT_RECORDS = 2_000_000
"""Records of looked-up partitions that are kept as dicts, besides the one in use."""


class Shelf(Protocol):
    """Where the partitions of a finished result lie."""

    @property
    def records(self) -> Sequence[int]:
        """Records of each partition."""
        ...

    @property
    def plain(self) -> bool:
        """Whether each key is known to be in its own partition, once."""
        ...

    def blocks(self, partition: int) -> Iterator[Block]:
        """The blocks of a partition, in order, fetched as they are asked for."""
        ...

    def candidates(self, key: Any) -> Iterable[int]:
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
        shelf: Shelf,
        *,
        sort: bool = False,
        counters: Mapping[str, int] | None = None,
        skipped: Skipped = Skipped(),  # noqa: B008 - it is as immutable as ()
        job_id: str = "",
    ) -> None:
        self._shelf = shelf
        self._sort = sort
        self.counters: dict[str, int] = dict(counters or {})
        self.skipped = skipped
        self.job_id = job_id
        self._dicts: dict[int, dict[Any, Any]] = {}
        self._all: dict[Any, Any] | None = None
        self._current: dict[Any, Any] = {}
        self._replay: Iterator[tuple[Any, Any]] = iter(())
        self._closed = False
        self._in_use: dict[int, list[Any]] = {}
        """Of each iterator what ends it when it is emptied."""

    def __getitem__(self, key: Any) -> Any:
        """The value of a key; loads the partition that holds it.

        With a partitionfn a key may lie elsewhere than it says here: a key that is not there is
        looked for in all partitions, which are loaded one after another.

        Raises:
            KeyError: no such key. TypeError: the key is not hashable.
        """
        # dict(results) lists keys() and then asks for each value, in the same order.
        for expected, value in self._replay:
            if expected is key:
                return value
            break
        self._replay = iter(())
        self._check_open()
        value = self._current.get(key, _MISSING)
        return self._find(key) if value is _MISSING else value

    def __len__(self) -> int:
        """How many keys there are; no partition is read for it."""
        self._check_open()
        return sum(self._shelf.records) if self._shelf.plain else len(self._everything())

    def __iter__(self) -> Iterator[Any]:
        """The keys, in order."""
        return self._read(self._column(0))

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
        FLAG.check("reverse", reverse)
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
        n = _COUNT.check("n", n)
        by = itemgetter(1) if key is None else (lambda pair: key(pair[1]))
        try:
            return heapq.nlargest(n, self.items(), key=by)
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
        return not self._closed and self._shelf.keep()

    def close(self) -> None:
        """Free what the result holds: here, and in Redis if it was made by ``run``.

        In a forked child only what that holds: the results in Redis are its parent's.
        """
        if not self._closed:
            self._closed = True
            self._dicts, self._current, self._all, self._replay = {}, {}, None, iter(())
            for column in self._in_use.copy().values():
                column.clear()
            self._shelf.close()

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
        records = self._shelf.records
        return f"<Results: {plural(sum(records), 'record')} in {plural(len(records), 'partition')}>"

    def _read(self, parts: Iterator[Part]) -> Iterator[Any]:
        """What the parts hold, item by item, in C."""
        self._check_open()
        return chain.from_iterable(Supply(parts, self._in_use, self._check_open))

    def _kept_keys(self) -> Iterator[Part]:
        """The keys; the look-ups that follow in the same order need no search."""
        blocks = list(self._blocks())
        # In C all the way: whatever other threads do, it gives a pair that is one, or none.
        self._replay = chain.from_iterable(
            map(zip, map(itemgetter(0), blocks), map(itemgetter(1), blocks))
        )
        for keys, _ in blocks:
            yield (list(keys),)

    def _column(self, number: int) -> Iterator[Part]:
        """The keys (0) or the values (1), in order."""
        for block in self._blocks():
            yield (list(block[number]),)

    def _pairs(self) -> Iterator[Part]:
        """The pairs, in order."""
        if self._sort:
            yield from ((some,) for some in self._batches())
        else:
            yield from self._blocks()

    def _blocks(self) -> Iterator[Block]:
        """All pairs in order, in columns."""
        if self._sort:
            for some in self._batches():
                yield list(map(itemgetter(0), some)), list(map(itemgetter(1), some))
        elif self._shelf.plain:
            yield from chain.from_iterable(map(self._fetched, range(len(self._shelf.records))))
        else:
            yield _columns_of(self._everything())

    def _batches(self) -> Iterator[list[tuple[Any, Any]]]:
        """All pairs in key order, many at a time."""
        if self._shelf.plain:
            pairs = _in_order(map(self._stream, range(len(self._shelf.records))))
        else:
            pairs = iter(in_key_order(self._everything().items()))
        while some := list(islice(pairs, _BATCH)):
            yield some

    def _stream(self, partition: int) -> Iterator[tuple[Any, Any]]:
        return chain.from_iterable(
            zip(keys, values, strict=True) for keys, values in self._fetched(partition)
        )

    def _fetched(self, partition: int) -> Iterator[Block]:
        """The blocks of a partition; what is gone because of ``close`` is no loss."""
        if (loaded := self._dicts.get(partition)) is not None:
            yield _columns_of(loaded)
            return
        try:
            yield from self._shelf.blocks(partition)
        except RedismrError:
            if self._closed:
                raise _were_closed() from None
            raise

    def _find(self, key: Any) -> Any:
        self._check_open()
        if not self._shelf.plain:
            return self._everything()[key]
        # Those that are here already come first: the likeliest one may be a wrong guess.
        for partition in sorted(self._shelf.candidates(key), key=lambda p: p not in self._dicts):
            if 0 <= partition < len(self._shelf.records):  # without input there is none
                self._current = loaded = self._partition(partition)
                if (value := loaded.get(key, _MISSING)) is not _MISSING:
                    return value
        raise KeyError(key)

    def _partition(self, partition: int) -> dict[Any, Any]:
        self._check_open()
        loaded = self._dicts.get(partition)
        if loaded is None:
            loaded = self._loaded([partition])
            kept = self._dicts  # other threads may read it: a new one takes its place
            if sum(map(len, kept.values())) + len(loaded) > _KEPT_RECORDS:
                kept = {}
            self._dicts = {**kept, partition: loaded}
        return loaded

    def _everything(self) -> dict[Any, Any]:
        """All partitions in one dict; of a key emitted twice the last counts."""
        self._check_open()
        everything = self._all
        if everything is None:
            everything = self._all = self._loaded(range(len(self._shelf.records)))
        return everything

    def _loaded(self, partitions: Iterable[int]) -> dict[Any, Any]:
        loaded: dict[Any, Any] = {}
        for keys, values in chain.from_iterable(map(self._fetched, partitions)):
            loaded.update(zip(keys, values, strict=True))
        return loaded

    def _check_open(self) -> None:
        if self._closed:
            raise _were_closed()


def _were_closed() -> ResultsClosed:
    return ResultsClosed("these results were closed; take what you need before close()")


def in_key_order(pairs: Iterable[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """The pairs as ``sort=True`` gives them.

    Raises:
        BadKey: their keys cannot be ordered.
    """
    try:
        return sorted(pairs, key=itemgetter(0))
    except TypeError as exc:
        raise unordered(exc) from exc


def _columns_of(pairs: dict[Any, Any]) -> Block:
    return list(pairs), list(pairs.values())


def _in_order(streams: Iterable[Iterator[tuple[Any, Any]]]) -> Iterator[tuple[Any, Any]]:
    """Streams that are each in key order as one that is."""
    try:
        yield from heapq.merge(*streams, key=itemgetter(0))
    except TypeError as exc:
        raise unordered(exc) from exc


class _Keys(KeysView[Any]):
    """Keys whose pairs stay at hand. Measured on 4.1 million: dict(results) takes 3 s, not 9."""

    _mapping: Results

    def __iter__(self) -> Iterator[Any]:
        results = self._mapping
        return results._read(results._kept_keys())  # noqa: SLF001  a view is part of its mapping


class _Items(ItemsView[Any, Any]):
    """Pairs straight from the blocks, without a look-up per key."""

    _mapping: Results

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        results = self._mapping
        return results._read(results._pairs())  # noqa: SLF001  a view is part of its mapping


class _Values(ValuesView[Any]):
    """Values straight from the blocks."""

    _mapping: Results

    def __iter__(self) -> Iterator[Any]:
        results = self._mapping
        return results._read(results._column(1))  # noqa: SLF001  a view is part of its mapping


class MemoryShelf:
    """Results that are in memory already, those of an inline run."""

    def __init__(self, partitions: Sequence[Sequence[tuple[Any, Any]]]) -> None:
        merged: dict[Any, Any] = {}
        for pairs in partitions:
            merged.update(pairs)
        self._merged = merged
        self.records: Sequence[int] = [len(merged)]
        self.plain = True

    def blocks(self, partition: int) -> Iterator[Block]:
        """The one block."""
        del partition
        yield list(self._merged), list(self._merged.values())

    def candidates(self, key: Any) -> Iterable[int]:
        """The only partition."""
        del key
        return (0,)

    def keep(self) -> bool:
        """Nobody else can ask for it."""
        return False

    def close(self) -> None:
        """Let go."""
        self._merged = {}
