"""Error screens: the error and the user's own frames, in 18 lines at most."""

import os
import traceback
from typing import TextIO, cast

from redismr.core.failure_capture import make_failure
from redismr.core.model import Failure, Skipped
from redismr.core.plurals import pluralize
from redismr.core.printable import printable_lines
from redismr.core.task_errors import make_task_error
from redismr.errors import RedismrError
from redismr.settings import is_debugging
from redismr.standard_streams import NeverFailingStream

_RECOVERY_HINT = "__redismr_recovery_hint__"
_MAX_LINES = 18
_MAX_SKIPPED_SHOWN = 3
_RED, _RESET = "\x1b[1;31m", "\x1b[0m"


def print_error(error: BaseException, stream: TextIO | None) -> None:
    """Print the error screen and the recovery hint of ``error``.

    The whole traceback is printed instead of the screen in debug mode, and for an exception that
    passed through no code of the user's: that is a bug of redismr.
    """
    text = "" if is_debugging() else error_screen(error)
    if text:
        print_message(text, stream)
    else:
        traceback.print_exception(error, file=cast("TextIO", NeverFailingStream(stream)))
    if recovery_hint := recovery_hint_of(error):
        print_message(recovery_hint, stream)


def add_recovery_hint(error: BaseException, text: str) -> None:
    """Attach a hint that ``print_error`` prints after the error: what the user can do next."""
    error.__dict__[_RECOVERY_HINT] = text


def recovery_hint_of(error: BaseException) -> str:
    """Return the hint that ``add_recovery_hint`` attached, or an empty string."""
    return str(error.__dict__.get(_RECOVERY_HINT, ""))


def print_message(text: str, stream: TextIO | None) -> None:
    """Print ``redismr: text``, the name in red on a terminal with colours.

    A stream that cannot be written to is no error: messages beside a result may be lost.
    """
    output = NeverFailingStream(stream)
    colour = output.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    name = f"{_RED}redismr:{_RESET}" if colour else "redismr:"
    output.write(f"{name} {printable_lines(text)}\n")
    output.flush()


def error_screen(error: BaseException) -> str:
    """Return the text for ``error``; empty if only a whole traceback tells what happened."""
    if isinstance(error, RedismrError):
        notes = getattr(error, "__notes__", ())
        lines = "\n".join((str(error) or type(error).__name__, *notes)).split("\n")
    else:
        failure = make_failure(error, stage="map", task="")
        if not failure.frames:
            return ""
        lines = [*error_line(failure).split("\n"), *(f"  note: {note}" for note in failure.notes)]
        for frame in failure.frames:
            lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.function}')
            lines += [f"    {frame.text}"] if frame.text else []
    if len(lines) > _MAX_LINES:
        more = pluralize(len(lines) - _MAX_LINES + 1, "line")
        lines[_MAX_LINES - 1 :] = [f"  ... and {more} more"]
    return "\n".join(lines)


def failure_screen(failure: Failure, job_id: str) -> str:
    """Return the text of the error that ``result()`` raises for this failed attempt."""
    return printable_lines(str(make_task_error(failure, job_id)))


def skipped_lines(skipped: Skipped, hint: str = "") -> str:
    """Return lines: how many records were skipped, the first three, a ``hint`` to the others."""
    lines = [f"{pluralize(skipped.total, 'record')} skipped"]
    lines += [
        f"  {failure.where}: {error_line(failure)}" for failure in skipped[:_MAX_SKIPPED_SHOWN]
    ]
    if skipped.total > _MAX_SKIPPED_SHOWN:
        lines.append(f"  ... and {skipped.total - _MAX_SKIPPED_SHOWN:,} more{hint}")
    return "\n".join(lines)


def error_line(failure: Failure) -> str:
    """Return ``ZeroDivisionError: division by zero``, or the kind of failure and its message."""
    name = failure.error_name or failure.kind
    return f"{name}: {failure.message}" if failure.message else name
