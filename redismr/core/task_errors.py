"""Turn a ``Failure`` back into an exception that the user sees.

The original class is looked up among the modules that are already imported. No module is imported
by a name that came from Redis.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from redismr import errors
from redismr.core.model import Failure

E = TypeVar("E", bound=errors.RedismrError)

_HEAP_TYPE_FLAG = 1 << 9  # Py_TPFLAGS_HEAPTYPE
_MAX_ERROR_LINES = 15

_ACTIVITY = {"source": "while reading the input", "code": "while loading the code", "": ""}


def make_task_error(
    failure: Failure, job_id: str = "", resolve: Callable[[str, str], Any] | None = None
) -> errors.TaskError | errors.LibraryMismatch:
    """Return the MapError or ReduceError to raise. ``str`` of it tells all, in about 15 lines.

    A failure of kind "library" becomes a LibraryMismatch: no user code is to blame.
    The error is also an instance of the original exception's class if this process has that class
    (in builtins or an imported module) and the class can be a second base (``mixed_error``). The
    error can be pickled. ``job_id`` is empty for an inline run; ``resolve`` returns the class of a
    module and a qualified name, or None, and must not import.
    """
    base: type[errors.TaskError] = errors.MapError if failure.stage == "map" else errors.ReduceError
    text = _failure_text(failure, job_id)
    if failure.kind == "library":
        return errors.LibraryMismatch(text, job_id=job_id, failure=failure)
    original = (resolve or imported_class)(failure.error_module, failure.error_name)
    reduced = make_task_error, (failure, job_id)
    error = mixed_error(base, original, text, reduced, job_id=job_id, failure=failure)
    return error or base(text, job_id=job_id, failure=failure)


def imported_class(module: str, name: str) -> Any:
    """Return the class of that qualified name if its module is already imported, else None.

    The look-up reads namespaces only: it imports nothing and runs no attribute hook of a module.
    """
    found: Any = builtins if module == "builtins" else sys.modules.get(module)
    for part in name.split("."):
        try:
            found = vars(found)[part]
        except (KeyError, TypeError):
            return None
    return found if isinstance(found, type) else None


def _failure_text(failure: Failure, job_id: str) -> str:
    """Return the error's text; middle frames are left out where the other lines are many."""
    name = failure.error_name if failure.kind in {"error", "skipped"} else ""
    head = f"{name}: {failure.message}" if name and failure.message else name or failure.message
    activity = _ACTIVITY.get(failure.function, f"in {failure.function}")
    record = f"on {failure.where}" if failure.where else ""
    lines = head.split("\n")
    if activity or record:
        lines.append("  " + ", ".join(filter(None, (activity, record))))
    record_reprs = ("key", failure.key), ("value", failure.value)
    lines += [f"     {label} = {text}" for label, text in record_reprs if text]
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


def _attempt_line(failure: Failure, job_id: str) -> str:
    worker = f" (worker {failure.host}:{failure.pid})" if failure.host else ""
    words = (
        f"job {job_id}" if job_id else "",
        f"task {failure.task}" if failure.task else "",
        f"attempt {failure.attempt} of {failure.attempts}{worker}",
        f"python {failure.python}" if failure.python else "",
    )
    return ", ".join(filter(None, words))


# ---- errors that are instances of a redismr class and of the class that user code raised


def mixed_error(
    base: type[E],
    original: Any,
    text: str,
    reduced: tuple[Any, ...],
    **attributes: object,
) -> E | None:
    """Return an error of both classes whose text is ``text``; None if impossible. Never raises.

    StopIteration, GeneratorExit, SystemExit and KeyboardInterrupt are never mixed in: they would
    silently end loops. The ``__init__`` of ``original``, the class that user code raised, is not
    run. ``reduced`` is the answer of the error's ``__reduce_ex__``.
    """
    if not isinstance(original, type) or not issubclass(original, Exception):
        return None
    if issubclass(original, (StopIteration, StopAsyncIteration)) or issubclass(base, original):
        return None
    try:
        attributes["__reduce_ex__"] = lambda _self, _protocol: reduced
        error = _make_mixed_error(base, original, text, attributes)
        return error if str(error) == text and isinstance(error.args, tuple) else None
    except Exception:  # noqa: BLE001 - layouts, metaclasses, __init_subclass__ of foreign classes
        return None


def source_raised_error(text: str, cause: Exception) -> errors.SourceRaised:
    """Return the error for a source whose own code raised ``cause``, if possible of its class."""
    # A redismr error would be taken for the outcome of the job.
    original = None if isinstance(cause, errors.RedismrError) else type(cause)
    error = mixed_error(errors.SourceRaised, original, text, (errors.SourceRaised, (text,)))
    return error or errors.SourceRaised(text)


def _make_mixed_error(base: type[E], original: Any, text: str, attributes: dict[str, object]) -> E:
    # Text and attributes stand in a class made for this one error, so that nothing in the original
    # class (properties, slots, __setattr__) comes before them.
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
