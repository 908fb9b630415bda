"""Sources in the memory of the submitter: mappings, (key, value) pairs and all other iterables.

A split holds its items in columns, so that reading it is a bare ``zip`` or ``enumerate``. Of a
generator of any length, one batch at a time is in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, ClassVar

from redismr.config import show_value
from redismr.core.annotations import Pair
from redismr.core.task_errors import source_raised_error
from redismr.errors import BadValue, ConfigError, SourceError, error_phrase
from redismr.sources.batching import SizeEstimator, guided_batches
from redismr.sources.protocol import Split
from redismr.sources.record_snapshots import RecordSnapshots

ITEM_BATCH_BYTES = 256_000
_SIZED_CONTAINERS = frozenset({list, tuple, range, dict, set, frozenset})


class _InMemorySplit:
    __slots__ = ()
    start: int
    values: list[Any]

    @property
    def amount(self) -> int:
        return len(self.values)

    @property
    def source(self) -> str:
        last = self.start + len(self.values) - 1
        return f"item {last}" if last == self.start else f"items {self.start}-{last}"

    def where(self, ordinal: int) -> str:
        """Return ``item 17 (key 'whale')``."""
        if not 0 <= ordinal < len(self.values):
            return self.source
        number = self.start + ordinal
        key = self.keys[ordinal] if isinstance(self, PairSplit) else number
        return f"item {number} (key {short(key)})"


@dataclass(frozen=True, slots=True)
class ItemSplit(_InMemorySplit):
    """Items of an iterable; their keys are their numbers, which are not stored."""

    start: int  #: Number of the first item.
    values: list[Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a call: for one item 0.7 of the time that the dataclass's own way takes."""
        return ItemSplit, (self.start, self.values)

    def read(self) -> Iterator[Pair]:
        """Return (number, item) for each item, in order."""
        return enumerate(self.values, self.start)


@dataclass(frozen=True, slots=True)
class PairSplit(_InMemorySplit):
    """Keys and values of a mapping or of pairs."""

    start: int  #: Number of the first pair.
    keys: list[Any]
    values: list[Any]

    def __reduce__(self) -> tuple[Any, ...]:
        return PairSplit, (self.start, self.keys, self.values)

    def read(self) -> Iterator[Pair]:
        """Return (key, value) for each pair, in order."""
        return zip(self.keys, self.values, strict=True)


@dataclass(frozen=True, slots=True)
class InMemorySource:
    """The records (0, item), (1, item)... of any iterable, or its (key, value) pairs, in its order.

    An iterator (a generator, an open file) can be read once: a second run finds it empty.
    """

    original: Any  #: The caller's object.
    #: Yields the (key, value) pairs of ``original``; None: its items are numbered.
    pairs_of: Callable[[Any], Iterable[Any]] | None = None
    chunk: int | None = None  #: Number of records in one task; None leaves it to the guided rule.
    size: None = None
    unit: ClassVar[str] = "items"

    @property
    def expected(self) -> int | None:
        """Number of records of a built-in container; None for others: ``len`` may cost or lie."""
        return len(self.original) if type(self.original) in _SIZED_CONTAINERS else None

    @property
    def rereadable(self) -> bool:
        """False for iterators."""
        return not isinstance(self.original, Iterator)

    def splits(self) -> Iterator[Split]:
        """Yield the split of each task; its records are taken from the source at that moment."""
        start, snapshots = 0, None
        try:
            records = iter(self.pairs_of(self.original) if self.pairs_of else self.original)
            snapshots = RecordSnapshots(records)
            for batch in self._batches(records, snapshots):
                if self.pairs_of:
                    # zip(*batch) would make an iterator for each pair, which wakes the garbage
                    # collector: 7 times slower.
                    yield PairSplit(start, [key for key, _ in batch], [value for _, value in batch])
                else:
                    yield ItemSplit(start, batch)
                start += len(batch)
        except Exception as error:
            # A BadValue names the record, and so does a SourceError about pairs.
            if isinstance(error, BadValue) or (self.pairs_of and isinstance(error, SourceError)):
                raise
            raise source_raised_error(
                f"iterating over the source ({type(self.original).__name__}) raised "
                f"{type(error).__name__} at item {snapshots.taken_count if snapshots else 0}: "
                f"{error_phrase(error)}. The job has not had all of its input.",
                error,
            ) from error

    def _batches(self, records: Iterator[Any], snapshots: RecordSnapshots) -> Iterator[list[Any]]:
        estimator = SizeEstimator()

        def item_sizes(items: Sequence[Any]) -> Sequence[float]:
            return estimator.item_sizes(items, snapshots.item_types)

        sizes = estimator.pair_sizes if self.pairs_of else item_sizes
        take = snapshots.take_pairs if self.pairs_of else snapshots.take_items
        return guided_batches(records, sizes, ITEM_BATCH_BYTES, self.chunk, take)


def mapping_pairs(mapping: Any) -> Iterator[Pair]:
    """Yield (key, mapping[key]) for each key, fetched one at a time. No key is ever skipped."""
    for number, key in enumerate(mapping):
        try:
            value = mapping[key]
        except Exception as error:
            name = type(mapping).__name__
            raise source_raised_error(
                f"the source raised {type(error).__name__} for key {short(key)} (item {number}): "
                f"{error_phrase(error)}. A source with __getitem__ is read as source[key] for each "
                f"key that iterating over it gives; if {name} gives items, pass (item for item in "
                "source).",
                error,
            ) from error
        yield key, value


def checked_pairs(items: Iterable[Any]) -> Iterator[Pair]:
    """Yield (item[0], item[1]) for each item, which must be a tuple or list of length 2."""
    for number, item in enumerate(items):
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise SourceError(
                f"item {number} of pairs() is {short(item)} ({type(item).__name__}), not a "
                "(key, value) pair. Give tuples or lists of length 2, or pass the iterable itself "
                "as the source to have its items numbered."
            )
        yield item[0], item[1]


def pairs(iterable: Iterable[Any] | Mapping[Any, Any], *more: Any) -> InMemorySource:
    """Return a source with each (key, value) of the iterable as one record, in order.

    Keys are kept as they are, repeated keys too. A mapping gives its items. One batch of an
    iterator is in memory at a time; an iterator serves one run, a second run finds it empty.

    Raises:
        ConfigError: the argument is not one iterable.
        SourceError: (when run) an item is not a tuple or list of length 2.

    >>> [list(split.read()) for split in pairs([("a", 1), ("a", 2)]).splits()]
    [[('a', 1)], [('a', 2)]]
    """
    if more:
        raise ConfigError("for several pairs pass a list: pairs([(key, value), ...])")
    iterates = hasattr(iterable, "__iter__") or hasattr(iterable, "__getitem__")
    if isinstance(iterable, str | bytes) or not iterates:
        raise ConfigError(f"pairs() takes an iterable of (key, value), not {show_value(iterable)}")
    return InMemorySource(
        iterable, mapping_pairs if isinstance(iterable, Mapping) else checked_pairs
    )
