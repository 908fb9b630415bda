"""NumPy's numbers among values, told without importing NumPy: where there are any, it is loaded."""

from __future__ import annotations

import sys
from typing import Any

_PYTHONS = frozenset((int, bool, float))


def float_among(kinds: set[type]) -> type | None:
    """The type that the sum of ints and floats has: float, or ``numpy.float64`` if that is there.

    None if there is no float among these types, or anything else.
    """
    others = kinds - _PYTHONS
    if not others:
        return float if float in kinds else None
    (kind, *more) = others
    is_float64 = issubclass(kind, float) and _is_numpys(kind) and kind.__name__ == "float64"
    return kind if is_float64 and not more else None


def added(values: list[Any]) -> list[Any]:
    """Fewer values with the same sum, if they are integers, truths or int64 arrays of one type.

    What would not fit that type, or is anything else, is returned as it is.
    """
    kind = type(values[0])
    if not _is_numpys(kind) or set(map(type, values)) != {kind}:
        return values
    numpy, dtype = sys.modules["numpy"], getattr(values[0], "dtype", None)
    if dtype is None:
        return values
    if kind is numpy.bool_:  # its own sum would be an "or"
        return [values[0], sum(map(int, values[1:]))]
    if dtype.kind not in "iu":
        return values
    if issubclass(kind, numpy.integer):
        total, limits = sum(map(int, values)), numpy.iinfo(dtype)
        return [kind(total)] if limits.min <= total <= limits.max else values
    alike = all(value.dtype == dtype and value.shape == values[0].shape for value in values)
    wide = kind is numpy.ndarray and dtype.itemsize == 8
    return [sum(values)] if alike and wide else values


def is_number(value: Any) -> bool:
    """Whether it is one of NumPy's integers, truths or real floats."""
    if not _is_numpys(type(value)):
        return False
    generic = sys.modules["numpy"].generic
    return isinstance(value, generic) and value.dtype.kind in "biuf"


def _is_numpys(kind: type) -> bool:
    return kind.__module__ == "numpy" and "numpy" in sys.modules
