"""Classes of keys and values that a user might write.

They travel to the workers with each job, and so import nothing that takes long.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Level(enum.IntEnum):
    """Members are equal to their numbers."""

    NONE = 0
    ONE = 1
    TWO = 2


class Tone(enum.StrEnum):
    """Members are equal to their text."""

    LOW = "a"
    HIGH = "b"


class Colour(enum.Enum):
    """Members are equal to nothing else."""

    RED = 1
    BLUE = 2


class Place(NamedTuple):
    """Equal to a plain tuple."""

    x: Any
    y: Any


@dataclass(frozen=True)
class Point:
    """Equal by its parts."""

    x: Any
    y: Any = 0


@dataclass(frozen=True)
class PointWithNote:
    """Equal whatever the note says."""

    x: Any
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class CaselessName:
    """Equal whatever the case: no hash of its fields can know that."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CaselessName) and self.text.lower() == other.text.lower()

    def __hash__(self) -> int:
        return hash(self.text.lower())


class CaselessStr(str):
    """A str with an equality of its own."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    def __hash__(self) -> int:
        return hash(self.lower())


class Spot(NamedTuple):
    """A tuple with names and a default."""

    x: Any
    y: Any = 2


class CaselessTuple(Spot):
    """A named tuple with an equality of its own."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CaselessTuple) and str(self.x).lower() == str(other.x).lower()

    def __hash__(self) -> int:
        return hash(str(self.x).lower())


class EqualModulo3(int):
    """A number with an equality of its own."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EqualModulo3) and int(self) % 3 == int(other) % 3

    def __hash__(self) -> int:
        return int(self) % 3


class Corner(Point):
    """Compares like its base, to others of its class alone."""


@dataclass(frozen=True)
class Peak(Point):
    """One field more."""

    z: Any = 0


class Access(enum.Flag):
    """Members can be put together."""

    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Money:
    """Can be added up, with a trace of the order."""

    cents: int
    trace: str = ""

    def __add__(self, other: Any) -> Money:
        if not isinstance(other, Money):
            return NotImplemented
        return Money(self.cents + other.cents, self.trace + other.trace)

    def __radd__(self, other: Any) -> Money:
        return self if other == 0 else NotImplemented


@dataclass
class Weight:
    """A value with an order that ties: equal in ``grams``, told apart by ``label``."""

    grams: int
    label: str

    def __lt__(self, other: Weight) -> bool:
        return self.grams < other.grams

    def __gt__(self, other: Weight) -> bool:
        return self.grams > other.grams
