"""Recognises NumPy's numbers without importing NumPy: where such a number is, NumPy is loaded."""

import sys
from typing import Any

INT_AND_FLOAT_TYPES = frozenset((int, bool, float))


def float_sum_type(types: set[type]) -> type | None:
    """Return float, or ``numpy.float64`` if it is there; None without floats, or with others."""
    non_python_types = types - INT_AND_FLOAT_TYPES
    if not non_python_types:
        return float if float in types else None
    (cls, *other_types) = non_python_types
    is_float64 = issubclass(cls, float) and _is_numpy_type(cls) and cls.__name__ == "float64"
    return cls if is_float64 and not other_types else None


def condense_numbers(values: list[Any]) -> list[Any]:
    """Return fewer values with the same sum, for integers, bools or int64 arrays of one NumPy type.

    All other values, and those whose sum does not fit the type, are returned unchanged.
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
    is_int64_array = cls is numpy.ndarray and dtype.itemsize == 8
    forms = {(value.dtype, value.shape) for value in values}
    return [sum(values)] if is_int64_array and len(forms) == 1 else values


def is_numpy_number(value: Any) -> bool:
    """True for NumPy's integers, bools and real floats."""
    if not _is_numpy_type(type(value)):
        return False
    generic = sys.modules["numpy"].generic
    return isinstance(value, generic) and value.dtype.kind in "biuf"


def _is_numpy_type(cls: type) -> bool:
    return cls.__module__ == "numpy" and "numpy" in sys.modules
