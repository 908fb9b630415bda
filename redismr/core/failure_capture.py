"""Turn an exception in user code into a ``Failure``: text of bounded length, never an object.

``task_errors`` turns the failure back into an exception where the user asks for the result.
"""

import linecache
import os
import re
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from redismr.core.model import Failure, Stage, TracebackLine
from redismr.core.printable import printable_text, short_repr
from redismr.errors import RecordError, SourceError
from redismr.module_snapshots import STDLIB_FOLDER
from redismr.user_warnings import REDISMR_FOLDER

NOT_GIVEN: Any = object()  # "no key" or "no value", because None is a valid key

_MAX_NOTE_LENGTH = 160
_MAX_MESSAGE_LINES = 3
_MAX_NOTES = 3
_MAX_FRAMES = 6
_MAX_LINE_LENGTH = 160

_INSTALLED_PATH = re.compile(r"<frozen |.*[/\\](site|dist)-packages[/\\]|.*[/\\]cloudpickle[/\\]")


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
    host: str = "",
    pid: int = 0,
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
        host=printable_text(host, 80),
        pid=pid,
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


# ---- frames of the user: not of a file of redismr's, Python's or an installed library's


def user_frames(exc: BaseException) -> tuple[TracebackLine, ...]:
    """Return the user's frames of an exception, at most 6: the outermost one and the last ones.

    A ``RecordError`` without such frames shows those of its cause.
    """
    steps = list(filter(_is_user_frame, _traceback_steps(exc.__traceback__)))
    if not steps and isinstance(exc, RecordError) and exc.__cause__ is not None:
        steps = list(filter(_is_user_frame, _traceback_steps(exc.__cause__.__traceback__)))
    if len(steps) > _MAX_FRAMES:
        steps = [steps[0], *steps[1 - _MAX_FRAMES :]]
    return tuple(map(_make_line, steps))


def user_traceback(traceback: TracebackType | None) -> TracebackType | None:
    """Return the traceback from the user's first frame on; all of it if no frame is the user's."""
    return next(filter(_is_user_frame, _traceback_steps(traceback)), traceback)


def is_debugger_exit(exc: BaseException) -> bool:
    """True if the user left pdb, or a debugger built on it, or if its input ended."""
    if (bdb := sys.modules.get("bdb")) and isinstance(exc, bdb.BdbQuit):
        return True
    # A pdb that breakpoint() started raises SystemExit instead from Python 3.14 on.
    frames = (step.tb_frame for step in _traceback_steps(exc.__traceback__))
    return isinstance(exc, SystemExit) and any(f.f_globals.get("__name__") == "pdb" for f in frames)


def _is_user_frame(step: TracebackType) -> bool:
    file = step.tb_frame.f_code.co_filename
    if not os.path.isabs(file):  # Cython names a source file of the machine that compiled it
        file = str(step.tb_frame.f_globals.get("__file__") or file)
    return not (file.startswith((REDISMR_FOLDER, STDLIB_FOLDER)) or _INSTALLED_PATH.match(file))


def _traceback_steps(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _make_line(step: TracebackType) -> TracebackLine:
    code = step.tb_frame.f_code
    try:
        text = linecache.getline(code.co_filename, step.tb_lineno, step.tb_frame.f_globals)
    except Exception:  # noqa: BLE001 - a loader of the user's
        text = ""
    return TracebackLine(
        file=printable_text(code.co_filename, 200),
        line=step.tb_lineno or 0,
        function=printable_text(code.co_name, 80),
        text=printable_text(text.strip(), _MAX_LINE_LENGTH),
    )
