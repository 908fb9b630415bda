"""Find the user's own frames in a traceback.

A frame is the user's if its file is neither redismr's, nor Python's, nor an installed library's.
"""

import linecache
import os
import re
import sys
from collections.abc import Iterator
from types import TracebackType

from redismr.core.model import TracebackLine
from redismr.core.printable import printable_text
from redismr.errors import RecordError
from redismr.module_snapshots import STDLIB_FOLDER
from redismr.user_warnings import REDISMR_FOLDER

_INSTALLED_PATH = re.compile(r"<frozen |.*[/\\](site|dist)-packages[/\\]|.*[/\\]cloudpickle[/\\]")

_MAX_FRAMES = 6
_MAX_LINE_LENGTH = 160


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
    bdb = sys.modules.get("bdb")
    if bdb is not None and isinstance(exc, bdb.BdbQuit):
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
