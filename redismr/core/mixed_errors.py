"""Errors of ours that are also of the class that the user's code raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from redismr.errors import RedismrError, SourceRaised

E = TypeVar("E", bound=RedismrError)

_HEAP_TYPE_FLAG = 1 << 9  # Py_TPFLAGS_HEAPTYPE


def mixed_error(
    base: type[E],
    original: Any,
    text: str,
    reduce: Callable[..., tuple[Any, ...]],
    **attributes: object,
) -> E | None:
    """An error of both classes that says ``text``; None if there can be none. Never raises.

    The ``__init__`` of the original never ran; ``attributes`` are attributes of the error,
    ``reduce`` its
    ``__reduce_ex__``. What would end loops in silence is no class for an error of ours:
    StopIteration, GeneratorExit, SystemExit, KeyboardInterrupt.
    """
    if not _is_possible_base(original, base):
        return None
    try:
        error = _make_mixed_error(base, original, text, {"__reduce_ex__": reduce, **attributes})
        return error if str(error) == text and isinstance(error.args, tuple) else None
    except Exception:  # noqa: BLE001 - layouts, metaclasses, __init_subclass__ of a stranger
        return None


def source_raised_error(text: str, cause: Exception) -> SourceRaised:
    """The error for a source whose own code raised; also of the class of that, where possible."""

    def reduce(_self: SourceRaised, _protocol: object) -> tuple[Any, ...]:
        return SourceRaised, (text,)

    # One of ours would be taken for what became of the job.
    original = None if isinstance(cause, RedismrError) else type(cause)
    return mixed_error(SourceRaised, original, text, reduce) or SourceRaised(text)


def _is_possible_base(original: Any, base: type[RedismrError]) -> bool:
    return (
        isinstance(original, type)
        and issubclass(original, Exception)
        and not issubclass(original, (StopIteration, StopAsyncIteration))
        and not issubclass(base, original)
    )


def _make_mixed_error(base: type[E], original: Any, text: str, attributes: dict[str, object]) -> E:
    """An instance of both classes.

    All that is ours stands in the class, made for this one error: nothing the original defines
    (properties, slots, ``__setattr__``) can come before it. ``msg`` is what traceback prints for a
    SyntaxError in place of ``str``.
    """
    namespace = {
        "__module__": "redismr",
        "__qualname__": base.__name__,
        "__doc__": base.__doc__,
        "__str__": lambda _self: text,
        "__repr__": lambda _self: f"{base.__name__}({text!r})",
        **attributes,
        **({"msg": text} if issubclass(original, SyntaxError) else {}),
    }
    mixed_class: Any = type(base.__name__, (base, original), namespace)
    # The nearest class written in C is the one whose __new__ lays out the object; a __new__ of the
    # user's in between may want arguments that we do not have.
    layout_class = mixed_class
    while layout_class.__flags__ & _HEAP_TYPE_FLAG:
        layout_class = layout_class.__base__
    if issubclass(layout_class, BaseExceptionGroup):
        error = layout_class.__new__(mixed_class, text, [Exception(text)])
    else:
        error = layout_class.__new__(mixed_class)
    error.args = (text,)
    return error  # type: ignore[no-any-return]
