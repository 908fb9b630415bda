"""Results as lines: ``key<TAB>value`` for people and pipes, or JSON, one pair a line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO

_BREAKS = re.compile(r"[\t\n\r]")
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=True)


def field(value: object) -> str:
    """A str as is (as JSON if it holds a tab or the end of a line), else JSON, else ``repr``.

    >>> field("whale"), field(("a", 1)), field({1, 2})
    ('whale', '["a", 1]', '{1, 2}')
    """
    if type(value) is str and not _BREAKS.search(value):
        return value
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def json_line(*values: object) -> str:
    """A JSON list of the values; what JSON does not know becomes its ``repr``, as a string.

    >>> json_line("a", 1), json_line("a", {1})
    ('["a", 1]', '["a", "{1}"]')
    """
    return "[" + ", ".join(json_value(value) for value in values) + "]"


def json_value(value: object) -> str:
    """One JSON value, as ``json_line`` writes it."""
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError):
        return _encoder.encode(repr(value))


def write_pairs(pairs: Iterable[tuple[Any, Any]], stream: TextIO, *, as_json: bool = False) -> None:
    """A line for each pair, written as they come."""
    # Keys may hold what this stream's encoding cannot say (a file name of odd bytes).
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="backslashreplace")
    stream.writelines(_json_lines(pairs) if as_json else _lines(pairs))


def write_outcome(outcome: object, stream: TextIO, *, as_json: bool = False) -> None:
    """A mapping as its pairs, None as nothing, anything else as one value on one line."""
    if isinstance(outcome, Mapping):
        write_pairs(outcome.items(), stream, as_json=as_json)
    elif outcome is not None:
        stream.write((json_value(outcome) if as_json else field(outcome)) + "\n")


def _lines(pairs: Iterable[tuple[Any, Any]]) -> Iterator[str]:
    return (f"{field(key)}\t{field(value)}\n" for key, value in pairs)


def _json_lines(pairs: Iterable[tuple[Any, Any]]) -> Iterator[str]:
    return (json_line(key, value) + "\n" for key, value in pairs)
