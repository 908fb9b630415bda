"""Turns the values of Redis replies into text, numbers and records."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

Answer = TypeVar("Answer")
"""The type of what a call that is sent, and perhaps repeated, returns."""


def reply_word(raw: object) -> Any:
    """Return a status or a state that a script answered, typed as whatever its field is.

    A status is one of its literals, since a script wrote it. A state is clear text: who altered it
    makes it equal to no literal.
    """
    return reply_text(raw)


def reply_text(raw: object) -> str:
    """Return a value of a reply as text; nil is empty."""
    if raw is None:
        return ""
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)


def number(raw: object, default: int = 0) -> int:
    """Return a clear number as an int; ``default`` for anything else that somebody wrote there."""
    try:
        found = int(reply_text(raw))
    except ValueError:
        return default
    return found if abs(found) < 1 << 53 else default


def time_reply_ms(reply: Sequence[int]) -> int:
    """Return the answer of TIME in ms."""
    seconds, micros = reply
    return int(seconds) * 1000 + int(micros) // 1000


def hash_fields(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """Return (field, value) of a hash that a script read with HGETALL."""
    return zip(flat[::2], flat[1::2], strict=True)


def parse_records(fields: Iterable[tuple[bytes, bytes]]) -> dict[int, bytes]:
    """Return index -> record; fields that are no index were not written by redismr."""
    return {int(index): record for index, record in fields if index.isdigit()}
