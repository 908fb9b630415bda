"""Read annotations without evaluating names that do not exist.

From Python 3.14 on, annotations are evaluated when a program asks for them, and raise NameError if
they name things that only type checkers import. redismr does not need their values: annotations
that cannot be evaluated are taken as strings, as under ``from __future__ import annotations``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

Function = Callable[..., Any]
Pair = tuple[Any, Any]  # a key and its value

if sys.version_info >= (3, 14):
    from annotationlib import Format, ForwardRef, get_annotations

    def direct_signature(function: Function) -> inspect.Signature:
        """Return the signature of a function itself; TypeError or ValueError if it has none."""
        return inspect.signature(function, follow_wrapped=False, annotation_format=Format.STRING)

    def annotations_of(thing: type | FunctionType) -> dict[str, Any]:
        """Return the annotations of one class or function; none if even strings cannot be had."""
        for form in (Format.VALUE, Format.STRING):
            try:
                return get_annotations(thing, format=form)
            except Exception:  # noqa: BLE001, S112 - evaluating one may raise whatever it likes
                continue
        return {}

    def add_annotations(cls: type, attributes: dict[str, Any]) -> None:
        """Add a class's own annotations to what is pickled: cloudpickle would lose them."""
        attributes.pop("__annotations_cache__", None)  # left by earlier evaluation
        if annotations := annotations_of(cls):
            attributes["__annotations__"] = annotations

    def forward_reference_name(thing: object) -> str | None:
        """Return the name in a reference whose pickling would evaluate it; else None."""
        return thing.__forward_arg__ if isinstance(thing, ForwardRef) else None
else:
    annotations_of = inspect.get_annotations

    def direct_signature(function: Function) -> inspect.Signature:
        """Return the signature of a function itself, as above."""
        return inspect.signature(function, follow_wrapped=False)

    def add_annotations(cls: type, attributes: dict[str, Any]) -> None:
        """Do nothing: annotations are already among a class's attributes."""

    def forward_reference_name(thing: object) -> str | None:  # noqa: ARG001
        """Return None: a reference holds nothing but its name and is pickled as it is."""
        return None


def with_string_annotations(function: FunctionType) -> FunctionType:
    """Return a copy of the function whose annotations can be read without an error."""
    f = function
    copy = FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    for name in ("__kwdefaults__", "__qualname__", "__module__", "__doc__"):
        setattr(copy, name, getattr(function, name))
    vars(copy).update(vars(function))
    copy.__annotations__ = annotations_of(function)
    return copy
