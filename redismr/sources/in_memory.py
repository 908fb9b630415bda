"""Sources held by the submitter: mappings, (key, value) pairs, and any other iterable.

Splits carry the items themselves, in columns, so that reading one is a bare ``zip`` or
``enumerate``. Items are taken from the caller's object one at a time while ``splits()`` runs: a
generator of any length never has more than one batch in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from reprlib import repr as short
from typing import Any, ClassVar

from redismr.config import show_value
from redismr.core.mixed_errors import source_raised_error
from redismr.errors import BadValue, ConfigError, SourceError, error_phrase
from redismr.sources.batching import SizeEstimator, guided_batches
from redismr.sources.protocol import Split
from redismr.sources.record_snapshots import Pair, RecordSnapshots

ITEM_BATCH_BYTES = 256_000
_SIZED_CONTAINERS = frozenset({list, tuple, range, dict, set, frozenset})


@dataclass(frozen=True, slots=True)
class ItemSplit:
    """Items ``start``, ``start + 1``... of an iterable; the keys, their numbers, cost nothing."""

    start: int
    values: list[Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """Made again by a call: of one item 0.7 of the time of a dataclass's own way."""
        return ItemSplit, (self.start, self.values)

    @property
    def amount(self) -> int:
        """How many items."""
        return len(self.values)

    @property
    def source(self) -> str:
        """Which items these are."""
        return _item_range_text(self.start, len(self.values))

    def read(self) -> Iterator[Pair]:
        """(number, item) for each item, in order."""
        return enumerate(self.values, self.start)

    def where(self, ordinal: int) -> str:
        """``item 17 (key 17)``."""
        if not 0 <= ordinal < len(self.values):
            return self.source
        return f"item {self.start + ordinal} (key {self.start + ordinal})"


@dataclass(frozen=True, slots=True)
class PairSplit:
    """Keys and values of a mapping or of pairs, from the ``start``-th on."""

    start: int
    keys: list[Any]
    values: list[Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """As that of ``ItemSplit``."""
        return PairSplit, (self.start, self.keys, self.values)

    @property
    def amount(self) -> int:
        """How many items."""
        return len(self.keys)

    @property
    def source(self) -> str:
        """Which items these are."""
        return _item_range_text(self.start, len(self.keys))

    def read(self) -> Iterator[Pair]:
        """(key, value) for each pair, in order."""
        return zip(self.keys, self.values, strict=True)

    def where(self, ordinal: int) -> str:
        """``item 17 (key 'whale')``."""
        if not 0 <= ordinal < len(self.keys):
            return self.source
        return f"item {self.start + ordinal} (key {short(self.keys[ordinal])})"


@dataclass(frozen=True, slots=True)
class _InMemorySource:
    """The records that ``records_of(original)`` yields, in its order, read once for each run.

    An iterator (a generator, an open file) can be read once: ``rereadable`` is False, and a second
    run finds it empty.
    """

    original: Any
    """The caller's object."""
    records_of: Callable[[Any], Iterable[Any]] = iter
    chunk: int | None = None
    """Records of one task; None sizes tasks by the guided rule."""
    size: None = None
    unit: ClassVar[str] = "items"
    passed_errors: ClassVar[tuple[type[Exception], ...]] = (BadValue,)
    """Errors of ``splits`` that say all by themselves: they are raised as they are."""

    @property
    def expected(self) -> int | None:
        """Number of records of a built-in container; None for others, whose ``len`` may lie."""
        return len(self.original) if type(self.original) in _SIZED_CONTAINERS else None

    @property
    def rereadable(self) -> bool:
        """False for iterators."""
        return not isinstance(self.original, Iterator)

    def splits(self) -> Iterator[Any]:
        """Yield one split per task; each takes its records from the source when asked for.

        Raises:
            BadValue: a record cannot be sent to a worker.
            SourceRaised: the source raised an error; the message says at which record.
        """
        start, snapshots = 0, None
        try:
            records = iter(self.records_of(self.original))
            snapshots = RecordSnapshots(records)
            for batch in self._batches(records, snapshots):
                yield self._make_split(start, batch)
                start += len(batch)
        except self.passed_errors:
            raise
        except Exception as error:
            raise source_raised_error(
                f"iterating over the source ({type(self.original).__name__}) raised "
                f"{type(error).__name__} at item {snapshots.taken_count if snapshots else 0}: "
                f"{error_phrase(error)}. The job has not had all of its input.",
                error,
            ) from error

    def _batches(self, records: Iterator[Any], snapshots: RecordSnapshots) -> Iterator[list[Any]]:
        raise NotImplementedError

    def _make_split(self, start: int, batch: list[Any]) -> Split:
        raise NotImplementedError


class ItemSource(_InMemorySource):
    """The records (0, item), (1, item)... of any iterable, in its order."""

    __slots__ = ()

    def _batches(self, records: Iterator[Any], snapshots: RecordSnapshots) -> Iterator[list[Any]]:
        estimator = SizeEstimator()

        def estimate_sizes(batch: Sequence[Any]) -> Sequence[float]:
            return estimator.item_sizes(batch, snapshots.item_types)

        return guided_batches(
            records, estimate_sizes, ITEM_BATCH_BYTES, self.chunk, snapshots.take_items
        )

    def _make_split(self, start: int, batch: list[Any]) -> Split:
        return ItemSplit(start, batch)


class PairSource(_InMemorySource):
    """The (key, value) records of a mapping or of ``pairs()``, in its order."""

    __slots__ = ()
    passed_errors = (BadValue, SourceError)

    def _batches(self, records: Iterator[Any], snapshots: RecordSnapshots) -> Iterator[list[Any]]:
        estimate_sizes = SizeEstimator().pair_sizes
        return guided_batches(
            records, estimate_sizes, ITEM_BATCH_BYTES, self.chunk, snapshots.take_pairs
        )

    def _make_split(self, start: int, batch: list[Any]) -> Split:
        # Not zip(*batch): an iterator for each pair wakes the garbage collector (7x slower)
        return PairSplit(start, [key for key, _ in batch], [value for _, value in batch])


def mapping_pairs(mapping: Any) -> Iterator[Pair]:
    """(key, mapping[key]) for each key, fetched one at a time; ``len`` is never asked for.

    Raises:
        SourceRaised: ``mapping[key]`` raised; the message names the key. No item is ever skipped.
    """
    for number, key in enumerate(mapping):
        try:
            value = mapping[key]
        except Exception as error:
            name = type(mapping).__name__
            raise source_raised_error(
                f"the source raised {type(error).__name__} for key {short(key)} (item {number}): "
                f"{error_phrase(error)}. A source with __getitem__ is read as source[key] for each key "  # noqa: E501
                f"that iterating over it gives; if {name} gives items, pass (item for item in "
                f"source).",
                error,
            ) from error
        yield key, value


def checked_pairs(items: Iterable[Any]) -> Iterator[Pair]:
    """The items as they are, each made sure to be a pair.

    Raises:
        SourceError: an item is not a tuple or list of length 2; the message shows it.
    """
    for number, item in zip(count(), items, strict=False):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise SourceError(
                f"item {number} of pairs() is {short(item)} ({type(item).__name__}), not a "
                "(key, value) pair. Give tuples or lists of length 2, or pass the iterable itself "
                "as the source to have its items numbered."
            )
        yield item[0], item[1]


def pairs(iterable: Iterable[Any] | Mapping[Any, Any], *more: Any) -> PairSource:
    """Each (key, value) of the iterable as one record, in order, keys as they are, repeats kept.

    ``redismr.pairs([("a", 1), ("a", 2)])`` gives two records with the key "a". A mapping gives its
    items. An iterator can be used for one run only: a second one finds it spent.

    Raises:
        ConfigError: what is given is not one iterable.
        SourceError: (when run) an item is not a tuple or list of length 2.
    """
    if more:
        raise ConfigError("for several pairs pass a list: pairs([(key, value), ...])")
    iterates = hasattr(iterable, "__iter__") or hasattr(iterable, "__getitem__")
    if isinstance(iterable, str | bytes) or not iterates:
        raise ConfigError(f"pairs() takes an iterable of (key, value), not {show_value(iterable)}")
    if isinstance(iterable, Mapping):
        return PairSource(iterable, mapping_pairs)
    return PairSource(iterable, checked_pairs)


def _item_range_text(start: int, length: int) -> str:
    return f"item {start}" if length == 1 else f"items {start}-{start + length - 1}"
