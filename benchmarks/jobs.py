"""The user functions of all rows: every side runs these and no others.

The module imports no tool, so it can be sent to, or imported by, any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

TINY_KEYS = 10
MUTEX_CALL = re.compile(r"\bmutex_(?:un)?lock\b")


def words(_path: str, text: str) -> Iterator[tuple[str, int]]:
    """Emit each word of a text once for each time that the text has it."""
    for word in text.split():
        yield word, 1


def total(_key: Any, values: Iterable[int]) -> int:
    """Add up counts: a reducer, and a combiner too."""
    return sum(values)


def words_with_places(path: str, text: str) -> Iterator[tuple[str, tuple[str, int]]]:
    """Emit each word of each line with its place: file and line."""
    name = path.rpartition("/")[2]
    for number, line in enumerate(text.splitlines(), start=1):
        for word in set(line.split()):
            yield word, (name, number)


def sorted_places(_word: str, places: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return the places of a word in order."""
    return sorted(places)


def mutex_lines(path: str, text: str) -> Iterator[tuple[str, str]]:
    """Emit each line that locks or unlocks a mutex, under its place."""
    name = path.rpartition("/")[2]
    for number, line in enumerate(text.splitlines(), start=1):
        if MUTEX_CALL.search(line):
            yield f"{name}:{number}", line


def list_values(_key: Any, values: Iterable[Any]) -> list[Any]:
    """Return all values, as redismr does without a reducer."""
    return list(values)


def table_rows(_path: str, text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Emit each line under its first column: (name) of a customer, or (order, amount)."""
    for line in text.splitlines():
        customer, *others = line.split(",")
        yield customer, tuple(others)


def join_orders(_customer: str, rows: Iterable[tuple[str, ...]]) -> Iterator[tuple[str, Any]]:
    """Emit each order with the name of its customer, who has one row."""
    all_rows = list(rows)
    (name,) = next(row for row in all_rows if len(row) == 1)
    for row in all_rows:
        if len(row) == 2:
            order, amount = row
            yield order, (name, amount)


def records(_path: str, text: str) -> Iterator[tuple[str, str]]:
    """Emit records of 100 bytes: ten bytes of key, the rest, a newline."""
    for line in text.splitlines():
        yield line[:10], line[10:]


def range_of(key: str, ranges: int) -> int:
    """Return the number of a key's range; ranges are equally wide, keys are random hex digits."""
    return int(key[:4], 16) * ranges >> 16


def tiny(item: int) -> tuple[int, int]:
    """Return one of ten keys, and a count of one."""
    return item % TINY_KEYS, 1


def distinct(item: int) -> tuple[int, int]:
    """Return a key that no other item has, and a count of one."""
    return item, 1
