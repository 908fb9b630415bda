"""Make text from others safe to show: a name in Redis must not drive somebody's terminal."""

from __future__ import annotations

import unicodedata

# Cc control, Cf format (bidi overrides, zero width), Cs lone surrogates, Zl and Zp line ends.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable_line(text: object, limit: int | None = None) -> str:
    r"""One line of printable characters: no escape codes, no line ends, at most ``limit`` long.

    >>> printable_line("red\x1b[31m\njob")
    'red[31m job'
    """
    line = "".join(
        " " if char in "\t\n\r" else char
        for char in str(text)
        if char in "\t\n\r" or unicodedata.category(char) not in _UNSAFE_CATEGORIES
    )
    if limit is not None and len(line) > limit:
        return line[: limit - 1] + "…"
    return line


def printable_lines(text: str) -> str:
    """``printable_line`` for each line of a text that may have several."""
    return "\n".join(printable_line(line) for line in text.split("\n"))
