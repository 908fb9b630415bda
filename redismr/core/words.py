"""Counts as people read them, in every room's messages."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """A count with its noun.

    >>> plural(1, "worker"), plural(84120, "record")
    ('1 worker', '84,120 records')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
