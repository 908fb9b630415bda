"""Error screens: what went wrong, in at most about 15 lines, without frames of our own."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING, TextIO, cast

from redismr.core.trace import error_of, failure_of
from redismr.core.words import plural
from redismr.errors import RedismrError
from redismr.settings import debugging
from redismr.streams import Forgiving
from redismr.ui.clean import clean_lines

if TYPE_CHECKING:
    from redismr.core.model import Failure, Skipped

_WAY_OUT = "__redismr_way_out__"
_LINES = 18
_SKIPS = 3
_RED, _PLAIN = "\x1b[1;31m", "\x1b[0m"


def show(error: BaseException, stream: TextIO | None) -> None:
    """Print ``error`` for a person: its text, or the user's own frames; all of it in debugging.

    An exception that passed through no code but ours is a bug of ours, and shown whole.
    """
    text = "" if debugging() else screen(error)
    if text:
        say(text, stream)
    else:
        traceback.print_exception(error, file=cast("TextIO", Forgiving(stream)))
    if what_is_left := way_out_of(error):
        say(what_is_left, stream)


def add_way_out(error: BaseException, text: str) -> None:
    """Have the person who is shown the error told this as well, whatever the error itself says."""
    error.__dict__[_WAY_OUT] = text


def way_out_of(error: BaseException) -> str:
    """What ``add_way_out`` has left with the error; empty if it has not."""
    return str(error.__dict__.get(_WAY_OUT, ""))


def say(text: str, stream: TextIO | None) -> None:
    """Print ``redismr: text``, the name in red where there are colours.

    Nothing where the stream takes nothing: what is said beside a result decides nothing.
    """
    told = Forgiving(stream)
    colour = told.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    name = f"{_RED}redismr:{_PLAIN}" if colour else "redismr:"
    told.write(f"{name} {clean_lines(text)}\n")
    told.flush()


def screen(error: BaseException) -> str:
    """The lines that say what happened; empty if only a whole traceback would."""
    if isinstance(error, RedismrError):
        notes = getattr(error, "__notes__", ())
        lines = "\n".join((str(error) or type(error).__name__, *notes)).split("\n")
    else:
        failure = failure_of(error, stage="map", task="")
        if not failure.frames:
            return ""
        lines = [*error_line(failure).split("\n"), *(f"  note: {note}" for note in failure.notes)]
        for frame in failure.frames:
            lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.function}')
            lines += [f"    {frame.text}"] if frame.text else []
    if len(lines) > _LINES:
        lines[_LINES - 1 :] = [f"  ... and {plural(len(lines) - _LINES + 1, 'line')} more"]
    return "\n".join(lines)


def failure_screen(failure: Failure, job_id: str) -> str:
    """One failed attempt, in the words of the error that ``result()`` raises for it."""
    return clean_lines(str(error_of(failure, job_id)))


def skipped_lines(skipped: Skipped, hint: str = "") -> str:
    """How many records were left out, and where the first ones are; ``hint``: and the others."""
    lines = [f"{plural(skipped.total, 'record')} skipped"]
    lines += [f"  {failure.where}: {error_line(failure)}" for failure in skipped[:_SKIPS]]
    if skipped.total > _SKIPS:
        lines.append(f"  ... and {skipped.total - _SKIPS:,} more{hint}")
    return "\n".join(lines)


def error_line(failure: Failure) -> str:
    """``ZeroDivisionError: division by zero``, or how else the attempt ended."""
    name = failure.error_name or failure.kind
    return f"{name}: {failure.message}" if failure.message else name
