"""Turns the values of Redis replies into text, numbers and records."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

Answer = TypeVar("Answer")
"""The type of what a call that is sent, and perhaps repeated, returns."""


def reply_word(raw: object) -> Any:
    """Return a status or state from a reply. The caller's field gives the type.

    A status is always one of its literals. A state is clear text: an altered state equals none of
    the literals.
    """
    return reply_text(raw)


def is_gone(reply: Sequence[Any]) -> bool:
    """True if a script found no such job."""
    return reply_text(reply[0]) == "GONE"


def reply_text(raw: object) -> str:
    """Return a value of a reply as text; nil is empty."""
    if raw is None:
        return ""
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)


def clear_int(raw: object, default: int = 0) -> int:
    """Return an int from clear text; ``default`` for anything else that somebody wrote there."""
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
