"""Results as lines: ``key<TAB>value`` for people and pipes, or JSON, one pair a line.

NumPy's values are shown as Python's: its numbers as numbers, its arrays as lists.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import is_
from typing import Any, TextIO

from redismr.errors import RedismrError

_BREAKS = re.compile(r"[\t\n\r]")
_PLAIN = frozenset((str, int, float, bool, type(None)))
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=True)


def field(value: object) -> str:
    """A str as is, else JSON, else ``repr``; as JSON if that holds a tab or the end of a line.

    >>> field("whale"), field(("a", 1)), field({1, 2})
    ('whale', '["a", 1]', '{1, 2}')
    """
    value = _plain(value)
    text = value if type(value) is str else _json(value)
    if text is None:
        text = repr(value)
    return _encoder.encode(text) if _BREAKS.search(text) else text


def json_line(*values: object) -> str:
    """A JSON list of the values; what JSON does not know becomes its ``repr``, as a string.

    >>> json_line("a", 1), json_line("a", {1})
    ('["a", 1]', '["a", "{1}"]')
    """
    return "[" + ", ".join(json_value(value) for value in values) + "]"


def json_value(value: object) -> str:
    """One JSON value, as ``json_line`` writes it."""
    value = _plain(value)
    text = _json(value)
    return _encoder.encode(repr(value)) if text is None else text


def _json(value: object) -> str | None:
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError):
        return None


def _plain(value: Any) -> Any:
    """The value with Python's own in place of NumPy's, also in containers."""
    if type(value) in _PLAIN or "numpy" not in sys.modules:
        return value
    try:
        return _without_numpy(value)
    except RecursionError:
        return value


def _without_numpy(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, dict):
        items = list(chain.from_iterable(value.items()))
        plain = list(map(_without_numpy, items))
        return value if _alike(plain, items) else dict(zip(plain[::2], plain[1::2], strict=True))
    if isinstance(value, (list, tuple, set, frozenset)):
        plain = list(map(_without_numpy, value))
        return value if _alike(plain, value) else getattr(kind, "_make", kind)(plain)
    return _pythons(value)


def _alike(one: Iterable[Any], other: Iterable[Any]) -> bool:
    return all(map(is_, one, other))


def _pythons(value: Any) -> Any:
    numpy = sys.modules["numpy"]
    if not isinstance(value, (numpy.ndarray, numpy.generic)):
        return value
    if value.dtype.kind in "mM":  # their own Python types are coarser, or ints
        value = value.astype(str)
    elif value.dtype.kind == "f":  # one of more digits than a float has stays itself otherwise
        value = value.astype(float)
    return _without_numpy(value.tolist())


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


def save_outcome(outcome: object, *, as_json: bool = False) -> str:
    """Write what ``write_outcome`` prints into a new file; its name.

    It is in the folder for temporary files or, where that is full, in this one.

    Raises:
        OSError: it can be written in neither. RedismrError: the outcome cannot be read.
    """
    import tempfile  # few need it, and every command would wait for it

    try:
        return _saved(outcome, tempfile.gettempdir(), as_json=as_json)
    except RedismrError:  # some are OSErrors
        raise
    except OSError:
        return _saved(outcome, os.getcwd(), as_json=as_json)


def _saved(outcome: object, folder: str, *, as_json: bool) -> str:
    import tempfile

    handle, name = tempfile.mkstemp(".jsonl" if as_json else ".tsv", "redismr-result-", folder)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            write_outcome(outcome, file, as_json=as_json)
    except BaseException:
        os.unlink(name)
        raise
    return name


def _lines(pairs: Iterable[tuple[Any, Any]]) -> Iterator[str]:
    return (f"{field(key)}\t{field(value)}\n" for key, value in pairs)


def _json_lines(pairs: Iterable[tuple[Any, Any]]) -> Iterator[str]:
    return (json_line(key, value) + "\n" for key, value in pairs)
