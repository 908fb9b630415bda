"""The user functions of every row, in one place: each side runs these and no others.

Nothing here knows who calls it, so that the module can be sent to, or imported by, any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import reduce
from operator import add
from typing import Any

TINY_KEYS = 10
MUTEX_CALL = re.compile(r"\bmutex_(?:un)?lock\b")


def words(_path: str, text: str) -> Iterator[tuple[str, int]]:
    """Each word of a text, once for each time it stands there."""
    for word in text.split():
        yield word, 1


def total(_key: Any, values: Iterable[int]) -> int:
    """How often: a reducer, and a combiner too."""
    return sum(values)


def total_not_recognised(_key: Any, values: Iterable[int]) -> int:
    """The same, in words that redismr does not see through."""
    return reduce(add, values)


def words_with_places(path: str, text: str) -> Iterator[tuple[str, tuple[str, int]]]:
    """Each word of each line, with its place: file and line."""
    name = path.rpartition("/")[2]
    for number, line in enumerate(text.splitlines(), start=1):
        for word in set(line.split()):
            yield word, (name, number)


def sorted_places(_word: str, found: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Where a word stands, in order."""
    return sorted(found)


def mutex_lines(path: str, text: str) -> Iterator[tuple[str, str]]:
    """Each line that takes or gives back a mutex, under its place."""
    name = path.rpartition("/")[2]
    for number, line in enumerate(text.splitlines(), start=1):
        if MUTEX_CALL.search(line):
            yield f"{name}:{number}", line


def list_values(_key: Any, values: Iterable[Any]) -> list[Any]:
    """All values, as redismr gives them where there is no reducer."""
    return list(values)


def table_rows(_path: str, text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each line of a table under its first column: (name) of a customer, (order, amount)."""
    for line in text.splitlines():
        customer, *others = line.split(",")
        yield customer, tuple(others)


def join_orders(_customer: str, found: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, Any]]:
    """Each order with the name of its customer, of whom there is one row."""
    together = list(found)
    (name,) = next(row for row in together if len(row) == 1)
    for row in together:
        if len(row) == 2:
            order, amount = row
            yield order, (name, amount)


def records(_path: str, text: str) -> Iterator[tuple[str, str]]:
    """Records of 100 bytes: ten of key, the rest, a newline."""
    for line in text.splitlines():
        yield line[:10], line[10:]


def range_of(key: str, ranges: int) -> int:
    """Which range a key is in, of so many that are equally wide: keys are random hex digits."""
    return int(key[:4], 16) * ranges >> 16


def tiny(item: int) -> tuple[int, int]:
    """One of ten keys, once."""
    return item % TINY_KEYS, 1


def distinct(item: int) -> tuple[int, int]:
    """A key that no other item has."""
    return item, 1
