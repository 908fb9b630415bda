"""Counts as people read them, for the messages of every room."""


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> pluralize(1, "worker"), pluralize(84120, "record")
    ('1 worker', '84,120 records')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
