"""Classes of keys and values that a user might write.

Each job sends them to the workers, so this module imports nothing that takes long.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Level(enum.IntEnum):
    """An enum whose members equal their numbers."""

    NONE = 0
    ONE = 1
    TWO = 2


class Tone(enum.StrEnum):
    """An enum whose members equal their text."""

    LOW = "a"
    HIGH = "b"


class Colour(enum.Enum):
    """An enum whose members equal nothing else."""

    RED = 1
    BLUE = 2


class Place(NamedTuple):
    """A named tuple, which equals a plain one."""

    x: Any
    y: Any


@dataclass(frozen=True)
class Point:
    """A dataclass that compares by its fields."""

    x: Any
    y: Any = 0


@dataclass(frozen=True)
class PointWithNote:
    """A dataclass that does not compare its note."""

    x: Any
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class CaselessName:
    """A dataclass that ignores case, which no hash of its fields can know."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CaselessName) and self.text.lower() == other.text.lower()

    def __hash__(self) -> int:
        return hash(self.text.lower())


class CaselessStr(str):
    """A str with its own ``__eq__``: ignores case."""

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
    """A named tuple with its own ``__eq__``: ignores case."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CaselessTuple) and str(self.x).lower() == str(other.x).lower()

    def __hash__(self) -> int:
        return hash(str(self.x).lower())


class EqualModulo3(int):
    """An int with its own ``__eq__``: compares modulo 3."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EqualModulo3) and int(self) % 3 == int(other) % 3

    def __hash__(self) -> int:
        return int(self) % 3


class Corner(Point):
    """A subclass that compares like its base, with its own class only."""


@dataclass(frozen=True)
class Peak(Point):
    """A subclass with one field more."""

    z: Any = 0


class Access(enum.Flag):
    """A flag whose members can be combined."""

    READ = 1
    WRITE = 2


@dataclass(frozen=True)
class Money:
    """A value that adds up, with a trace of the order of adding."""

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
    """A value with ties in its order: compares by ``grams``, and has a ``label``."""

    grams: int
    label: str

    def __lt__(self, other: Weight) -> bool:
        return self.grams < other.grams

    def __gt__(self, other: Weight) -> bool:
        return self.grams > other.grams
