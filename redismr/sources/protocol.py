"""The interface of every source and every split, and the parts of it that are optional."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable


class Split(Protocol):
    """The input of one map task: frozen, pickled by plain pickle, small unless it holds items.

    A split may have an ``amount`` and a method ``wheres``: see ``amount_of``, ``describe_records``.
    """

    @property
    def source(self) -> str:
        """A short name of this piece of input: the value of ``here().source``."""

    def read(self) -> Iterator[tuple[Any, Any]]:
        """Yield the (key, value) records: the same in the same order, each time, on any machine.

        Raises:
            SourceError: the input cannot be read; the message names the file and the byte.
            SourceChanged: the input differs from the input that was split.
        """

    def where(self, ordinal: int) -> str:
        """Describe to a person where record ``ordinal`` (0-based, of this split) is.

        Never raises, and may read the input again: it is called only after a failure.
        """


@runtime_checkable
class Source(Protocol):
    """The input of a job on the submitter, before it is cut.

    A source may have ``unit`` and ``expected``: see ``unit_of`` and ``expected_amount_of``.
    """

    @property
    def rereadable(self) -> bool:
        """True if ``splits()`` may be called again and then gives the same splits."""

    @property
    def size(self) -> int | None:
        """Bytes of the whole input; None if only reading would tell. Decides about partitions."""

    def splits(self) -> Iterator[Split]:
        """Yield the splits in input order, each made when it is asked for."""


def amount_of(split: Split) -> int:
    """Return the amount of a split in the ``unit_of`` its source; 1 (task) by default."""
    return getattr(split, "amount", 1)


def unit_of(source: Source) -> str:
    """Return the unit of the amounts of a source's splits: "items", "bytes" or "tasks"."""
    return getattr(source, "unit", "tasks")


def expected_amount_of(source: Source) -> int | None:
    """Return the amount of all splits together; None if it is not known before they are made."""
    return getattr(source, "expected", None)


def describe_records(split: Split, ordinals: Sequence[int]) -> list[str]:
    """Return ``split.where`` of each record; a split with ``wheres`` reads once for all of them."""
    wheres = getattr(split, "wheres", None)
    return wheres(ordinals) if wheres else [split.where(ordinal) for ordinal in ordinals]
