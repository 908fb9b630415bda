"""The one rule for text that is shown: no text from others may drive a terminal.

Names, messages and values come from user code and from Redis. Before they reach a screen, a log or
a failure record, they lose every character that could move the cursor, rename the window, reorder
the line or hide part of it.
"""

import reprlib
from typing import Any

from redismr.confidential import contains_secret, redact_secrets

# Cc control, Cf format (bidi overrides, zero width), Cs lone surrogates, Zl and Zp line ends.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# The last three are format characters that languages and emoji need; they hide nothing.
_KEPT = "\t\n\r\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}\N{SOFT HYPHEN}"

_MAX_REPR_LENGTH = 120
_MAX_SEARCHED_LENGTH = 1 << 16  # of a long string, only so much is searched for secrets


def printable_line(text: object) -> str:
    r"""Return ``str(text)`` as one line without unsafe characters.

    Tabs and line ends become spaces; lone surrogates become backslash escapes.

    >>> printable_line("red\x1b[31m\njob")
    'red[31m job'
    """
    line = str(text)
    if line.isprintable():
        return line
    from unicodedata import category  # 0.2 ms of each start, and seldom needed

    line = line.encode("utf-8", "backslashreplace").decode()
    return "".join(
        " " if char in "\t\n\r" else char
        for char in line
        if char in _KEPT or category(char) not in _UNSAFE_CATEGORIES
    )


def printable_lines(text: str) -> str:
    """Return ``text`` with its line feeds, each line as ``printable_line`` returns it."""
    return "\n".join(map(printable_line, text.replace("\r\n", "\n").split("\n")))


def printable_text(text: str, limit: int = 500) -> str:
    """Return ``printable_lines(text)``, cut to ``limit`` characters.

    Secrets of this process are blanked, because such text travels to Redis and is kept in logs.
    """
    text = printable_lines(redact_secrets(text[: 2 * limit]))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def short_repr(value: Any) -> str:
    """Return a repr of any object as one line of at most 120 characters. Never raises.

    The cost is bounded for strings and builtin containers of any size.
    """
    try:
        text = _repr_maker.repr(value)
    except Exception as error:  # noqa: BLE001 - the user's __repr__
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return printable_text(text.replace("\n", " "), _MAX_REPR_LENGTH)


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _MAX_REPR_LENGTH
        self.maxlevel = 4

    def repr_str(self, value: str, level: int) -> str:
        """Blank secrets before the string is cut: half a secret would not be recognised."""
        if len(value) > _MAX_SEARCHED_LENGTH:  # only the ends of the string are shown
            value = value[: _MAX_SEARCHED_LENGTH // 2] + value[-_MAX_SEARCHED_LENGTH // 2 :]
        return super().repr_str(redact_secrets(value), level)

    def repr_bytes(self, value: bytes, level: int) -> str:
        """Show the beginning only: reprlib would build the repr of all bytes."""
        if contains_secret(value[:_MAX_SEARCHED_LENGTH]):
            return f"<{len(value)} bytes with a secret in them>"
        if len(value) <= _MAX_REPR_LENGTH:
            return repr(value)
        return repr(value[: _MAX_REPR_LENGTH - 20]) + "..."

    repr_bytearray = repr_bytes


_repr_maker = _ShortRepr()
