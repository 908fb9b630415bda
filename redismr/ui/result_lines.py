"""Write results as lines, one pair a line: ``key<TAB>value``, or JSON.

NumPy's values are written as Python's: numbers as numbers, arrays as lists.
"""

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from itertools import chain
from operator import is_
from typing import Any, TextIO

from redismr.errors import RedismrError

_SEPARATORS = re.compile(r"[\t\n\r]")
_PYTHON_TYPES = frozenset((str, int, float, bool, type(None)))
_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=True)


def text_field(value: object) -> str:
    """Return a str as it is, else JSON, else the ``repr``; text with a tab or line end as JSON.

    >>> text_field("whale"), text_field(("a", 1)), text_field({1, 2})
    ('whale', '["a", 1]', '{1, 2}')
    """
    value = _to_python(value)
    text = value if type(value) is str else _json_or_none(value)
    if text is None:
        text = repr(value)
    return _encoder.encode(text) if _SEPARATORS.search(text) else text


def json_line(*values: object) -> str:
    """Return a JSON list of the values; a value that JSON cannot hold is replaced by its ``repr``.

    >>> json_line("a", 1), json_line("a", {1})
    ('["a", 1]', '["a", "{1}"]')
    """
    return "[" + ", ".join(json_value(value) for value in values) + "]"


def json_value(value: object) -> str:
    """Return one JSON value, as ``json_line`` writes it."""
    value = _to_python(value)
    text = _json_or_none(value)
    return _encoder.encode(repr(value)) if text is None else text


def _json_or_none(value: object) -> str | None:
    try:
        return _encoder.encode(value)
    except (TypeError, ValueError, RecursionError):
        return None


def _to_python(value: Any) -> Any:
    """Return the value with Python's types in place of NumPy's, also inside containers."""
    if type(value) in _PYTHON_TYPES or "numpy" not in sys.modules:
        return value
    try:
        return _convert_numpy(value)
    except RecursionError:
        return value


def _convert_numpy(value: Any) -> Any:
    kind = type(value)
    if kind in _PYTHON_TYPES:
        return value
    if isinstance(value, dict):
        items = list(chain.from_iterable(value.items()))
        converted = list(map(_convert_numpy, items))
        if all(map(is_, converted, items)):
            return value
        return dict(zip(converted[::2], converted[1::2], strict=True))
    if isinstance(value, (list, tuple, set, frozenset)):
        converted = list(map(_convert_numpy, value))
        same = all(map(is_, converted, value))
        return value if same else getattr(kind, "_make", kind)(converted)
    numpy = sys.modules["numpy"]
    if not isinstance(value, (numpy.ndarray, numpy.generic)):
        return value
    if value.dtype.kind in "mM":  # tolist() gives ints, or datetimes with fewer digits
        value = value.astype(str)
    elif value.dtype.kind == "f":  # tolist() leaves a longdouble as it is
        value = value.astype(float)
    return _convert_numpy(value.tolist())


def write_pairs(pairs: Iterable[tuple[Any, Any]], stream: TextIO, *, as_json: bool = False) -> None:
    """Write a line for each pair, as the pairs come."""
    # Keys may hold characters that the stream cannot encode (a file name of undecodable bytes).
    if reconfigure := getattr(stream, "reconfigure", None):
        reconfigure(errors="backslashreplace")
    if as_json:
        stream.writelines(json_line(key, value) + "\n" for key, value in pairs)
    else:
        stream.writelines(f"{text_field(key)}\t{text_field(value)}\n" for key, value in pairs)


def write_outcome(outcome: object, stream: TextIO, *, as_json: bool = False) -> None:
    """Write a mapping as its pairs, None as nothing, and anything else as one value on one line."""
    if isinstance(outcome, Mapping):
        write_pairs(outcome.items(), stream, as_json=as_json)
    elif outcome is not None:
        stream.write((json_value(outcome) if as_json else text_field(outcome)) + "\n")


def save_outcome(outcome: object, *, as_json: bool = False) -> str:
    """Write the lines of ``write_outcome`` into a new file, and return the name of the file.

    The file is in the folder for temporary files or, if that cannot be, in the current folder.

    Raises:
        OSError: neither folder can be written to.
        RedismrError: the outcome cannot be read.
    """
    try:
        return _save_in(None, outcome, as_json=as_json)
    except RedismrError:  # some RedismrErrors are OSErrors
        raise
    except OSError:
        return _save_in(os.getcwd(), outcome, as_json=as_json)


def _save_in(folder: str | None, outcome: object, *, as_json: bool) -> str:
    """Write the file into this folder; None is the one for temporary files."""
    import tempfile  # imported late: the import would delay the start of every command

    handle, name = tempfile.mkstemp(".jsonl" if as_json else ".tsv", "redismr-result-", folder)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            write_outcome(outcome, file, as_json=as_json)
    except BaseException:
        os.unlink(name)
        raise
    return name
