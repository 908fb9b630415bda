"""An exception in user code as text, and back as an exception that shows it.

``make_failure`` runs where the code failed, ``make_task_error`` where the result is asked for. In
between
travels a ``Failure``: capped, printable text, never an object. ``make_task_error`` looks classes
up, it
never imports one by a name that came from elsewhere.
"""

from __future__ import annotations

import builtins
import json
import linecache
import os
import re
import reprlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from types import TracebackType
from typing import Any

import redismr.errors
from redismr.confidential import contains_secret, redact_secrets
from redismr.core.mixed_errors import mixed_error
from redismr.core.model import Failure, Frame, Stage
from redismr.errors import (
    LibraryMismatch,
    MapError,
    RecordError,
    ReduceError,
    SourceError,
    TaskError,
)

NOT_GIVEN: Any = object()
"""Stands for "no key" or "no value" in ``make_failure``: None is a good key."""

_MAX_REPR = 120
_MAX_MESSAGE = 500
_MAX_MESSAGE_LINES = 3
_MAX_LINE = 160
_MAX_FRAMES = 6
_MAX_NOTES = 3
_MAX_ERROR_LINES = 15
_MAX_SEARCHED = 1 << 16

# C0 and C1 controls but the line feed, and what reorders text on a screen: a record must not be
# able to move the cursor, rename the window or hide part of a message.
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_REDISMR_FOLDER = os.path.dirname(os.path.abspath(redismr.errors.__file__)) + os.sep
_STDLIB_FOLDER = os.path.dirname(os.__file__) + os.sep
_INSTALLED_PATH = re.compile(r"<frozen |.*[/\\](site|dist)-packages[/\\]|.*[/\\]cloudpickle[/\\]")

_ACTIVITY = {"source": "while reading the input", "code": "while loading the code", "": ""}


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
    """What happened, as capped and printable text. Never raises, whatever ``exc`` is.

    ``key`` and ``value`` are the objects themselves; their reprs are cut to 120 characters. Of
    the traceback only the user's own frames are kept, at most 6 (the outermost and the last ones).
    Nothing is put beside what a source says, which names its own place.
    """
    names_its_place = kind == "library" or (function == "source" and isinstance(exc, SourceError))
    return Failure(
        kind=kind,
        stage=stage,
        task=task,
        function=function,
        error_module=printable_text(str(type(exc).__module__), 200),
        error_name=printable_text(type(exc).__qualname__, 200),
        message=_make_message(exc),
        frames=() if names_its_place else _user_frames(exc),
        where=printable_text(where, 300),
        key="" if key is NOT_GIVEN else short_repr(key),
        value="" if value is NOT_GIVEN else short_repr(value),
        host=printable_text(host, 80),
        pid=pid,
        attempt=attempt,
        attempts=attempts,
        python=python,
        notes=() if names_its_place else _make_notes(exc),
        retryable=retryable,
    )


def make_task_error(
    failure: Failure, job_id: str = "", resolve: Callable[[str, str], Any] | None = None
) -> TaskError | LibraryMismatch:
    """The MapError or ReduceError to raise: ``str`` of it tells all, in about 15 lines.

    Of kind "library" it is a LibraryMismatch: nobody's code is to blame.

    It is also an instance of the original exception's class where this process has that class (in
    builtins or an imported module) and a second base is possible. What would end loops in silence
    stays plain: StopIteration, GeneratorExit, SystemExit, KeyboardInterrupt. Pickles.

    Args:
        failure: what a worker reported.
        job_id: the job, for the text and ``.job_id``; empty for an inline run.
        resolve: (module, qualified name) -> class or None; must not import.
    """
    base: type[TaskError] = MapError if failure.stage == "map" else ReduceError
    text = _error_text(failure, job_id)
    if failure.kind == "library":
        return LibraryMismatch(text, job_id=job_id, failure=failure)
    original = (resolve or imported_class)(failure.error_module, failure.error_name)

    def reduce(_self: TaskError, _protocol: object) -> tuple[Any, ...]:
        return make_task_error, (failure, job_id)

    error = mixed_error(base, original, text, reduce, job_id=job_id, failure=failure)
    return error or base(text, job_id=job_id, failure=failure)


def imported_class(module: str, name: str) -> Any:
    """The class of that qualified name if its module is imported already, else None.

    Looks into namespaces only: no import, no attribute hook of a module runs.
    """
    found: Any = builtins if module == "builtins" else sys.modules.get(module)
    for part in name.split("."):
        try:
            found = vars(found)[part]
        except (KeyError, TypeError):
            return None
    return found if isinstance(found, type) else None


def encode_failure(failure: Failure) -> bytes:
    """JSON, readable in any language."""
    return json.dumps(asdict(failure), separators=(",", ":")).encode()


def decode_failure(data: bytes) -> Failure:
    """The failure that ``encode_failure`` wrote, also by a version that knows more fields.

    Raises:
        ValueError: it is not such a text.
    """
    try:
        message = json.loads(data)
        known = {f.name: message[f.name] for f in fields(Failure) if f.name in message}
        known["frames"] = tuple(Frame(**frame) for frame in known.get("frames", ()))
        known["notes"] = tuple(known.get("notes", ()))
        return Failure(**known)
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a failure: {error}") from error


def printable_text(text: str, limit: int = _MAX_MESSAGE) -> str:
    r"""``text`` fit for a terminal: no control characters but line feeds, at most ``limit`` long.

    Secrets of this process are blanked: such text travels, and is kept in logs.

    >>> printable_text("a\x1b[2Jb\tc")
    'a[2Jb c'
    """
    text = redact_secrets(text[: 2 * limit]).replace("\t", " ")
    text = _UNPRINTABLE.sub("", text).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else text[: limit - 3] + "..."


def short_repr(value: Any) -> str:
    """A repr of anything in one line of at most 120 characters. Never raises.

    The cost is bounded for strings and builtin containers of any size.

    >>> short_repr("x" * 1000)[-6:]
    "xxxxx'"
    """
    try:
        text = _repr_maker.repr(value)
    except Exception as error:  # noqa: BLE001 - the user's __repr__
        text = f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return printable_text(text.replace("\n", " "), _MAX_REPR)


class _ShortRepr(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = _MAX_REPR
        self.maxlevel = 4

    def repr_str(self, value: str, level: int) -> str:
        """Without secrets: half of one, where the text is cut, would not be known as such."""
        if len(value) > _MAX_SEARCHED:  # no more of it is shown than its ends
            value = value[: _MAX_SEARCHED // 2] + value[-_MAX_SEARCHED // 2 :]
        return super().repr_str(redact_secrets(value), level)

    def repr_bytes(self, value: bytes, level: int) -> str:
        """The beginning only: reprlib would build the repr of all of it."""
        if contains_secret(value[:_MAX_SEARCHED]):
            return f"<{len(value)} bytes with a secret in them>"
        return repr(value) if len(value) <= _MAX_REPR else repr(value[: _MAX_REPR - 20]) + "..."

    repr_bytearray = repr_bytes


_repr_maker = _ShortRepr()


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
    """Its notes, its sub-exceptions if it is a group, and what it was raised from."""
    notes = getattr(exc, "__notes__", ())
    lines = [note for note in notes if isinstance(note, str)] if isinstance(notes, list) else []
    if isinstance(exc, BaseExceptionGroup):
        lines += [f"sub-exception {i}: {_headline(e)}" for i, e in enumerate(exc.exceptions, 1)]
    cause = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    if cause is not None:
        lines.append(f"raised after {_headline(cause)}")
    return tuple(printable_text(" ".join(line.split()), _MAX_LINE) for line in lines[:_MAX_NOTES])


def _headline(exc: BaseException) -> str:
    message = _make_message(exc).replace("\n", " ")
    return f"{type(exc).__name__}: {message}" if message else type(exc).__name__


def is_debugger_exit(exc: BaseException) -> bool:
    """Whether pdb, or what is built on it, was left: by a person, or at the end of the input."""
    bdb = sys.modules.get("bdb")
    if bdb is not None and isinstance(exc, bdb.BdbQuit):
        return True
    # Python 3.14 exits instead, where breakpoint() had called it.
    frames = (step.tb_frame for step in _traceback_steps(exc.__traceback__))
    return isinstance(exc, SystemExit) and any(f.f_globals.get("__name__") == "pdb" for f in frames)


def user_traceback(traceback: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame of the user's on; all of it if there is none."""
    return next(filter(_is_user_frame, _traceback_steps(traceback)), traceback)


def _user_frames(exc: BaseException) -> tuple[Frame, ...]:
    """The frames in the user's own files, of an error of ours those of its cause."""
    steps = list(filter(_is_user_frame, _traceback_steps(exc.__traceback__)))
    if not steps and isinstance(exc, RecordError) and exc.__cause__ is not None:
        steps = list(filter(_is_user_frame, _traceback_steps(exc.__cause__.__traceback__)))
    if len(steps) > _MAX_FRAMES:
        steps = [steps[0], *steps[1 - _MAX_FRAMES :]]
    return tuple(map(_make_frame, steps))


def _is_user_frame(step: TracebackType) -> bool:
    """Whether it runs what is neither ours, nor Python's, nor a library's."""
    file = step.tb_frame.f_code.co_filename
    if not os.path.isabs(file):  # of Cython it names a source that was never here
        file = str(step.tb_frame.f_globals.get("__file__") or file)
    return not (file.startswith((_REDISMR_FOLDER, _STDLIB_FOLDER)) or _INSTALLED_PATH.match(file))


def _traceback_steps(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _make_frame(step: TracebackType) -> Frame:
    code = step.tb_frame.f_code
    try:
        text = linecache.getline(code.co_filename, step.tb_lineno, step.tb_frame.f_globals)
    except Exception:  # noqa: BLE001 - a loader of the user's
        text = ""
    return Frame(
        file=printable_text(code.co_filename, 200),
        line=step.tb_lineno or 0,
        function=printable_text(code.co_name, 80),
        text=printable_text(text.strip(), _MAX_LINE),
    )


def _error_text(failure: Failure, job_id: str) -> str:
    """The whole story; frames give way where other lines are many."""
    name = failure.error_name if failure.kind in {"error", "skipped"} else ""
    head = f"{name}: {failure.message}" if name and failure.message else name or failure.message
    activity = _ACTIVITY.get(failure.function, f"in {failure.function}")
    record = f"on {failure.where}" if failure.where else ""
    lines = head.split("\n")
    if activity or record:
        lines.append("  " + ", ".join(filter(None, (activity, record))))
    lines += [f"     {label} = {text}" for label, text in _record_reprs(failure) if text]
    if failure.kind != "skipped":
        lines.append("  " + _attempt_line(failure, job_id))
    lines += [f"  note: {note}" for note in failure.notes]
    if failure.frames:
        max_frames = max(2, (_MAX_ERROR_LINES - len(lines) - 1) // 2)
        frames = failure.frames
        if len(frames) > max_frames:
            frames = (frames[0], *frames[1 - max_frames :])
        where = "Worker traceback" if failure.host else "Where it failed"
        lines.append(f"  {where} (your frames only):")
        for frame in frames:
            lines.append(f'    File "{frame.file}", line {frame.line}, in {frame.function}')
            lines += [f"      {frame.text}"] if frame.text else []
    return "\n".join(lines)


def _record_reprs(failure: Failure) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("key", failure.key), ("value", failure.value)


def _attempt_line(failure: Failure, job_id: str) -> str:
    worker = f" (worker {failure.host}:{failure.pid})" if failure.host else ""
    words = (
        f"job {job_id}" if job_id else "",
        f"task {failure.task}" if failure.task else "",
        f"attempt {failure.attempt} of {failure.attempts}{worker}",
        f"python {failure.python}" if failure.python else "",
    )
    return ", ".join(filter(None, words))
