"""Counts as people read them, in every room's messages."""

from __future__ import annotations


def pluralize(count: int, noun: str) -> str:
    """A count with its noun.

    >>> pluralize(1, "worker"), pluralize(84120, "record")
    ('1 worker', '84,120 records')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
