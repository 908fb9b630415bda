"""Turn an exception in user code into a ``Failure``: text of bounded length, never an object.

``task_errors`` turns the failure back into an exception where the user asks for the result.
"""

from typing import Any

from redismr.core.model import Failure, Stage
from redismr.core.printable import printable_text, short_repr
from redismr.core.user_frames import user_frames
from redismr.errors import SourceError

NOT_GIVEN: Any = object()  # "no key" or "no value", because None is a valid key

_MAX_NOTE_LENGTH = 160
_MAX_MESSAGE_LINES = 3
_MAX_NOTES = 3


def make_failure(  # noqa: PLR0913 - a failure has that many sides, all by keyword
    exc: BaseException,
    *,
    stage: Stage,
    task: str,
    function: str = "",
    kind: str = "error",
    where: str = "",
    key: Any = NOT_GIVEN,
    value: Any = NOT_GIVEN,
    attempt: int = 1,
    attempts: int = 1,
    python: str = "",
    retryable: bool = True,
) -> Failure:
    """Return the exception as capped, printable text. Never raises, whatever ``exc`` is.

    ``key`` and ``value`` are the objects themselves; their reprs are cut to 120 characters. Of the
    traceback only ``user_frames`` are kept; none, and no notes, of the error of a source, whose
    message says where the input is, or of kind "library".
    """
    message_is_enough = kind == "library" or (function == "source" and isinstance(exc, SourceError))
    return Failure(
        kind=kind,
        stage=stage,
        task=task,
        function=function,
        error_module=printable_text(str(type(exc).__module__), 200),
        error_name=printable_text(type(exc).__qualname__, 200),
        message=_make_message(exc),
        frames=() if message_is_enough else user_frames(exc),
        where=printable_text(where, 300),
        key="" if key is NOT_GIVEN else short_repr(key),
        value="" if value is NOT_GIVEN else short_repr(value),
        attempt=attempt,
        attempts=attempts,
        python=python,
        notes=() if message_is_enough else _make_notes(exc),
        retryable=retryable,
    )


def _make_message(exc: BaseException) -> str:
    try:
        text = str(exc)
    except Exception as error:  # noqa: BLE001 - the user's __str__
        text = f"<its str() raises {type(error).__name__}>"
    lines = printable_text(text).rstrip().split("\n")
    if len(lines) > _MAX_MESSAGE_LINES:
        lines = [*lines[:_MAX_MESSAGE_LINES], "..."]
    return "\n".join(lines)


def _make_notes(exc: BaseException) -> tuple[str, ...]:
    """Return the exception's notes, the members of a group, and the error before it."""
    notes = getattr(exc, "__notes__", ())
    lines = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    if isinstance(exc, BaseExceptionGroup):
        lines += [f"sub-exception {i}: {_headline(e)}" for i, e in enumerate(exc.exceptions, 1)]
    cause = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    if cause is not None:
        lines.append(f"raised after {_headline(cause)}")
    return tuple(
        printable_text(" ".join(line.split()), _MAX_NOTE_LENGTH) for line in lines[:_MAX_NOTES]
    )


def _headline(exc: BaseException) -> str:
    message = _make_message(exc).replace("\n", " ")
    return f"{type(exc).__name__}: {message}" if message else type(exc).__name__
