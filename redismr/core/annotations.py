"""Annotations, which from Python 3.14 on are evaluated when somebody asks for them, not before.

So they may name what only type checkers import (``if TYPE_CHECKING:``), and asking raises
NameError. Nobody here needs what they mean: where they do not evaluate they are taken in words,
as under ``from __future__ import annotations``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

Function = Callable[..., Any]

if sys.version_info >= (3, 14):
    from annotationlib import Format, ForwardRef, get_annotations

    def signature(
        function: Callable[..., Any], *, follow_wrapped: bool = True
    ) -> inspect.Signature:
        """What a call of it takes; its annotations in words.

        Raises:
            TypeError, ValueError: it has no signature, as some functions written in C.
        """
        return inspect.signature(
            function, follow_wrapped=follow_wrapped, annotation_format=Format.STRING
        )

    def annotations_of(thing: type | FunctionType) -> dict[str, Any]:
        """Its own annotations; none where they do not even have words."""
        for form in (Format.VALUE, Format.STRING):
            try:
                return get_annotations(thing, format=form)
            except Exception:  # noqa: BLE001, S112 - evaluating one may raise whatever it likes
                continue
        return {}

    def add_annotations(cls: type, attributes: dict[str, Any]) -> None:
        """Put a class's own annotations among the attributes that are to be pickled.

        cloudpickle leaves out what would evaluate them, so that a class has none elsewhere.
        """
        attributes.pop("__annotations_cache__", None)  # left by the first who asked
        if annotations := annotations_of(cls):
            attributes["__annotations__"] = annotations

    def forward_reference_name(thing: object) -> str | None:
        """What a reference stands for that was not evaluated; None for any other thing.

        It holds the class in which it stands, and pickling it would evaluate what that holds.
        """
        return thing.__forward_arg__ if isinstance(thing, ForwardRef) else None
else:

    def signature(
        function: Callable[..., Any], *, follow_wrapped: bool = True
    ) -> inspect.Signature:
        """What a call of it takes.

        Raises:
            TypeError, ValueError: it has no signature, as some functions written in C.
        """
        return inspect.signature(function, follow_wrapped=follow_wrapped)

    def annotations_of(thing: type | FunctionType) -> dict[str, Any]:
        """Its own annotations."""
        return inspect.get_annotations(thing)

    def add_annotations(cls: type, attributes: dict[str, Any]) -> None:
        """Nothing: they are among a class's attributes."""

    def forward_reference_name(thing: object) -> str | None:  # noqa: ARG001
        """None: a reference holds nothing but its name."""
        return None


def with_string_annotations(function: FunctionType) -> FunctionType:
    """The same function; asking for its annotations does not raise."""
    copy = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    for name in ("__kwdefaults__", "__qualname__", "__module__", "__doc__"):
        setattr(copy, name, getattr(function, name))
    vars(copy).update(vars(function))
    copy.__annotations__ = annotations_of(function)
    return copy
