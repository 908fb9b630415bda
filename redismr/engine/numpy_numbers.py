"""NumPy's numbers among values, told without importing NumPy: where there are any, it is loaded."""

from __future__ import annotations

import sys
from typing import Any

_PYTHON_NUMBER_TYPES = frozenset((int, bool, float))


def float_sum_type(types: set[type]) -> type | None:
    """The type that the sum of ints and floats has: float, or ``numpy.float64`` if that is there.

    None if there is no float among these types, or anything else.
    """
    non_python_types = types - _PYTHON_NUMBER_TYPES
    if not non_python_types:
        return float if float in types else None
    (cls, *other_types) = non_python_types
    is_float64 = issubclass(cls, float) and _is_numpy_type(cls) and cls.__name__ == "float64"
    return cls if is_float64 and not other_types else None


def condense_numbers(values: list[Any]) -> list[Any]:
    """Fewer values with the same sum, if they are integers, truths or int64 arrays of one type.

    What would not fit that type, or is anything else, is returned as it is.
    """
    cls = type(values[0])
    if not _is_numpy_type(cls) or set(map(type, values)) != {cls}:
        return values
    numpy, dtype = sys.modules["numpy"], getattr(values[0], "dtype", None)
    if dtype is None:
        return values
    if cls is numpy.bool_:  # its own sum would be an "or"
        return [values[0], sum(map(int, values[1:]))]
    if dtype.kind not in "iu":
        return values
    if issubclass(cls, numpy.integer):
        total, limits = sum(map(int, values)), numpy.iinfo(dtype)
        return [cls(total)] if limits.min <= total <= limits.max else values
    have_one_shape = all(
        value.dtype == dtype and value.shape == values[0].shape for value in values
    )
    is_int64_array = cls is numpy.ndarray and dtype.itemsize == 8
    return [sum(values)] if have_one_shape and is_int64_array else values


def is_numpy_number(value: Any) -> bool:
    """Whether it is one of NumPy's integers, truths or real floats."""
    if not _is_numpy_type(type(value)):
        return False
    generic = sys.modules["numpy"].generic
    return isinstance(value, generic) and value.dtype.kind in "biuf"


def _is_numpy_type(cls: type) -> bool:
    return cls.__module__ == "numpy" and "numpy" in sys.modules
