"""Sources in the memory of the submitter: mappings, (key, value) pairs and all other iterables.

A split holds its items in columns, so that reading it is a bare ``zip`` or ``enumerate``. Items
are taken from the caller's object while ``splits()`` runs: of a generator of any length, one batch
at a time is in memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from reprlib import repr as short
from typing import Any, ClassVar

from redismr.config import show_value
from redismr.core.annotations import Pair
from redismr.core.task_errors import source_raised_error
from redismr.errors import BadValue, ConfigError, SourceError, error_phrase
from redismr.sources.batching import SizeEstimator, guided_batches
from redismr.sources.protocol import Split
from redismr.sources.record_snapshots import RecordSnapshots

_EstimateSizes = Callable[[Sequence[Any]], Sequence[float]]
_Take = Callable[[Iterable[Any]], list[Any]]

ITEM_BATCH_BYTES = 256_000
_SIZED_CONTAINERS = frozenset({list, tuple, range, dict, set, frozenset})


class _InMemorySplit:
    """Records of an iterable, from the ``start``-th on."""

    __slots__ = ()
    start: int
    values: list[Any]

    @property
    def amount(self) -> int:
        """Number of records."""
        return len(self.values)

    @property
    def source(self) -> str:
        """The numbers of the records: ``items 8-15``."""
        last = self.start + len(self.values) - 1
        return f"item {last}" if last == self.start else f"items {self.start}-{last}"

    def where(self, ordinal: int) -> str:
        """Return ``item 17 (key 'whale')``."""
        if not 0 <= ordinal < len(self.values):
            return self.source
        return f"item {self.start + ordinal} (key {short(self._key(ordinal))})"

    def _key(self, ordinal: int) -> Any:
        raise NotImplementedError


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

    def _key(self, ordinal: int) -> int:
        return self.start + ordinal


@dataclass(frozen=True, slots=True)
class PairSplit(_InMemorySplit):
    """Keys and values of a mapping or of pairs."""

    start: int  #: Number of the first pair.
    keys: list[Any]
    values: list[Any]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a call, as ``ItemSplit`` does."""
        return PairSplit, (self.start, self.keys, self.values)

    def read(self) -> Iterator[Pair]:
        """Return (key, value) for each pair, in order."""
        return zip(self.keys, self.values, strict=True)

    def _key(self, ordinal: int) -> Any:
        return self.keys[ordinal]


@dataclass(frozen=True, slots=True)
class _InMemorySource:
    """The records that ``records_of(original)`` yields, in its order.

    An iterator (a generator, an open file) can be read once: a second run finds it empty.
    """

    original: Any
    """The caller's object."""
    records_of: Callable[[Any], Iterable[Any]] = iter
    chunk: int | None = None
    """Number of records in one task; None leaves it to the guided rule."""
    size: None = None
    unit: ClassVar[str] = "items"
    passed_errors: ClassVar[tuple[type[Exception], ...]] = (BadValue,)
    """Errors that ``splits`` raises as they are, because their messages name the record."""

    @property
    def expected(self) -> int | None:
        """Number of records of a built-in container; None for others: ``len`` may cost or lie."""
        return len(self.original) if type(self.original) in _SIZED_CONTAINERS else None

    @property
    def rereadable(self) -> bool:
        """False for iterators."""
        return not isinstance(self.original, Iterator)

    def splits(self) -> Iterator[Any]:
        """Yield the split of each task; its records are taken from the source at that moment.

        Raises:
            BadValue: a record cannot be sent to a worker.
            SourceRaised: the source raised an error; the message gives the record's number.
        """
        start, snapshots = 0, None
        try:
            records = iter(self.records_of(self.original))
            snapshots = RecordSnapshots(records)
            sizes, take = self._sizes_and_take(snapshots)
            for batch in guided_batches(records, sizes, ITEM_BATCH_BYTES, self.chunk, take):
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

    def _sizes_and_take(self, snapshots: RecordSnapshots) -> tuple[_EstimateSizes, _Take]:
        """Return the functions with which ``guided_batches`` sizes and takes records."""
        raise NotImplementedError

    def _make_split(self, start: int, batch: list[Any]) -> Split:
        raise NotImplementedError


class ItemSource(_InMemorySource):
    """The records (0, item), (1, item)... of any iterable, in its order."""

    __slots__ = ()

    def _sizes_and_take(self, snapshots: RecordSnapshots) -> tuple[_EstimateSizes, _Take]:
        item_sizes = SizeEstimator().item_sizes
        return lambda items: item_sizes(items, snapshots.item_types), snapshots.take_items

    def _make_split(self, start: int, batch: list[Any]) -> Split:
        return ItemSplit(start, batch)


class PairSource(_InMemorySource):
    """The (key, value) records of a mapping or of ``pairs()``, in its order."""

    __slots__ = ()
    passed_errors = (BadValue, SourceError)

    def _sizes_and_take(self, snapshots: RecordSnapshots) -> tuple[_EstimateSizes, _Take]:
        return SizeEstimator().pair_sizes, snapshots.take_pairs

    def _make_split(self, start: int, batch: list[Any]) -> Split:
        # zip(*batch) would make an iterator for each pair, which wakes the garbage collector: 7
        # times slower.
        return PairSplit(start, [key for key, _ in batch], [value for _, value in batch])


def mapping_pairs(mapping: Any) -> Iterator[Pair]:
    """Yield (key, mapping[key]) for each key, fetched one at a time; ``len`` is not called.

    Raises:
        SourceRaised: ``mapping[key]`` raised; the message names the key. No key is ever skipped.
    """
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
    """Yield (item[0], item[1]) for each item.

    Raises:
        SourceError: an item is not a tuple or list of length 2; the message shows the item.
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
    if isinstance(iterable, Mapping):
        return PairSource(iterable, mapping_pairs)
    return PairSource(iterable, checked_pairs)
