"""Errors that are instances of a redismr class and of the class that user code raised."""

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
    """Return an error of both classes whose text is ``text``; None if impossible. Never raises.

    StopIteration, GeneratorExit, SystemExit and KeyboardInterrupt are never mixed in: they would
    silently end loops. The ``__init__`` of ``original``, the class that user code raised, is not
    run. ``reduce`` is the ``__reduce_ex__`` of the error.
    """
    if not _is_possible_base(original, base):
        return None
    try:
        error = _make_mixed_error(base, original, text, {"__reduce_ex__": reduce, **attributes})
        return error if str(error) == text and isinstance(error.args, tuple) else None
    except Exception:  # noqa: BLE001 - layouts, metaclasses, __init_subclass__ of foreign classes
        return None


def source_raised_error(text: str, cause: Exception) -> SourceRaised:
    """Return the error for a source whose own code raised ``cause``, if possible of its class."""

    def reduce(_self: SourceRaised, _protocol: object) -> tuple[Any, ...]:
        return SourceRaised, (text,)

    # A redismr error would be taken for the outcome of the job.
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
    """Return an instance of both classes, of a class made for this one error.

    Text and attributes stand in that class, so that nothing in the original class (properties,
    slots, ``__setattr__``) comes before them.
    """
    namespace = {
        "__module__": "redismr",
        "__qualname__": base.__name__,
        "__doc__": base.__doc__,
        "__str__": lambda _self: text,
        "__repr__": lambda _self: f"{base.__name__}({text!r})",
        **attributes,
        # traceback prints msg instead of str for a SyntaxError
        **({"msg": text} if issubclass(original, SyntaxError) else {}),
    }
    mixed_class: Any = type(base.__name__, (base, original), namespace)
    # The nearest base written in C lays out the object in its __new__. A user's __new__ below it
    # is skipped, because it may want arguments that are not known here.
    layout_class = mixed_class
    while layout_class.__flags__ & _HEAP_TYPE_FLAG:
        layout_class = layout_class.__base__
    if issubclass(layout_class, BaseExceptionGroup):
        error = layout_class.__new__(mixed_class, text, [Exception(text)])
    else:
        error = layout_class.__new__(mixed_class)
    error.args = (text,)
    return error  # type: ignore[no-any-return]
