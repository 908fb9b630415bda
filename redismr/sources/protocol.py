"""What every source and every split promises; the rest of the package is ways to keep it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable


class Split(Protocol):
    """The input of one map task: frozen, pickled by plain pickle, small unless it is inline."""

    @property
    def source(self) -> str:
        """A short name of this piece of input: what ``here().source`` says."""
        ...

    def read(self) -> Iterator[tuple[Any, Any]]:
        """The same (key, value) records in the same order, each time, on any machine.

        Raises:
            SourceError: the input cannot be read; the message names the file and the byte.
            SourceChanged: the input is not the one that was split.
        """
        ...

    def where(self, ordinal: int) -> str:
        """Words that let a person find record ``ordinal`` (0-based, of this split).

        Never raises, and may read the input again: asked for only after a failure.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """What a job reads, before it is cut. Lives on the submitter."""

    @property
    def rereadable(self) -> bool:
        """Whether ``splits()`` may be called again, from the start, with the same outcome."""
        ...

    @property
    def size(self) -> int | None:
        """All its bytes where that is known without reading (files), for choosing partitions."""
        ...

    def splits(self) -> Iterator[Split]:
        """The splits, in input order, made one at a time as they are asked for."""
        ...


def amount_of(split: Split) -> int:
    """How much of its source a split is, in the source's ``unit``; one task if it does not say."""
    return getattr(split, "amount", 1)


def unit_of(source: Source) -> str:
    """What the amounts of a source's splits are: "items", "bytes", or "tasks"."""
    return getattr(source, "unit", "tasks")


def expected_amount_of(source: Source) -> int | None:
    """The amount of all splits together, where that is known before they are made."""
    return getattr(source, "expected", None)


def describe_records(split: Split, ordinals: Sequence[int]) -> list[str]:
    """``where`` of each of these records; a split that reads for it may do so once for all."""
    wheres = getattr(split, "wheres", None)
    return wheres(ordinals) if wheres else [split.where(ordinal) for ordinal in ordinals]
