"""The functions that user code may call while it runs: ``count``, ``param`` and ``here``.

Outside a task, for example in a unit test of a mapfn, ``count`` does nothing, ``param`` returns its
default and ``here`` returns an empty place. The process that runs a task installs the task's state
with ``active_task``, in the thread that runs the task.

A thread works for the task that started it. A function given to a pool of threads works for the
task that gave it, in whichever thread. Python copies no context into a new thread, so
``threading.Thread.start`` and the methods of pools (``_POOL_METHODS``) are wrapped, from the first
task of a process on. The task of another thread is looked up in this order: its ``contextvars``
(``asyncio.to_thread``, anyio and trio fill them), the task that started the thread, the only task
of this process.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any

from redismr.process_guards import job_depth


@dataclass(frozen=True, slots=True)
class Here:
    """The place where the calling code runs; all fields are empty outside a task."""

    job: str = ""  #: Id of the job.
    stage: str = ""  #: "map" or "reduce".
    task: str = ""  #: Id of the task: "m12", "r3".
    source: str = ""  #: The input of a map task in words, such as the file and its bytes.


@dataclass(slots=True, eq=False)
class TaskContext:
    """The state of a running task, or of a part of one: its counters and parameters."""

    here: Here = field(default_factory=Here)  #: What ``here`` returns.
    params: Mapping[str, Any] = field(default_factory=dict)  #: What ``param`` looks up.
    #: Written by the task's own thread alone, so that ``count`` never waits for a lock.
    counters: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    countable: bool = True  #: False while functions run that may run any number of times.
    #: Written by all other threads, under ``_lock``, until the task ends.
    other_threads_counters: dict[str, int] | None = None
    parent: TaskContext | None = None  #: The task of which this is a part, such as one record.
    has_ended: bool = False  #: True if it takes no more counts.
    is_dropped: bool = False  #: True if the counts of this part are discarded.
    pid: int = field(default_factory=lambda: _pid)  #: The process that runs the task.


class _ThreadState(threading.local):
    task: TaskContext | None = None


_thread_state = _ThreadState()
_pid: int = os.getpid()  # cached: a call would cost each task a microsecond
_context_task: ContextVar[TaskContext | None] = ContextVar("redismr task", default=None)
_running_tasks: dict[int, TaskContext] = {}
"""Thread id -> the task that runs now; several if ``inline`` jobs run in the user's threads."""

_POOL_METHODS = {
    "concurrent.futures.thread": ("ThreadPoolExecutor", ("submit",)),
    "multiprocessing.pool": (
        "ThreadPool", ("apply_async", "_map_async", "imap", "imap_unordered"),
    ),
}  # fmt: skip
"""Module -> its pool of threads, and the methods of the pool that take a function first."""

_wrapped_pools = list[type]()
_threads_wrapped = False
_lock = threading.Lock()
_given_warnings = set[str]()


class active_task:  # noqa: N801  reads as a verb where it is used
    """Make ``task`` the task of ``count``, ``param`` and ``here`` in this thread."""

    __slots__ = ("_previous", "_task")

    def __init__(self, task: TaskContext) -> None:
        self._task = task

    def __enter__(self) -> TaskContext:
        propagate_to_threads()
        self._previous = _set_thread_task(self._task)
        return self._task

    def __exit__(self, *_: object) -> None:
        _set_thread_task(self._previous)
        _end_task(self._task)  # adds the counts of other threads; later ones are dropped


@contextmanager
def forbid_counting() -> Iterator[None]:
    """Make ``count`` raise while functions run that may run any number of times."""
    task = _thread_state.task
    if task is None or not task.countable:
        yield
        return
    # A context of its own: threads that mapfn started before may go on counting.
    part = _child_context(task, countable=False)
    before = _set_thread_task(part)
    try:
        yield
    finally:
        _set_thread_task(before)
        _end_task(part)


class discard_counts_on_error:  # noqa: N801  reads as a verb where it is used
    """Discard the counts of the body if the body raises."""

    __slots__ = ("_record", "_task")

    def __enter__(self) -> None:
        task = self._task = _thread_state.task
        if task is not None:
            self._record = _child_context(task, countable=task.countable)
            _set_thread_task(self._record)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        task = self._task
        if task is None:
            return
        _set_thread_task(task)
        _end_task(self._record, drop=kind is not None)
        if kind is None:
            for name, amount in self._record.counters.items():
                task.counters[name] += amount


def count(name: str, amount: int = 1) -> None:
    """Add to a counter of the job. Each task counts once, however often it is retried.

    Threads of a task may count until the task ends; later counts are dropped with a warning. A
    process that a user function starts cannot count: let it return its counts to the task.

    >>> from redismr import count
    >>> def words(line):
    ...     count("lines")
    ...     return [(word, 1) for word in line.split()]
    >>> words("to be")
    [('to', 1), ('be', 1)]

    Raises:
        RuntimeError: called in a combinefn or partitionfn, which may run any number of times; or
            in a thread that may belong to any of several jobs that run inline.
    """
    task = _thread_state.task
    if task is None or not task.countable:
        _count_from_other_thread(name, amount)
        return
    task.counters[name] += amount


def param(name: str, default: Any = None) -> Any:
    """Return ``params[name]`` as given to ``run`` or ``submit``; ``default`` if it is missing.

    >>> from redismr import param
    >>> param("rate", 2)
    2

    Raises:
        RuntimeError: called in a thread that may belong to any of several jobs that run inline.
    """
    task = _thread_state.task or _find_task()
    return default if task is None else task.params.get(name, default)


def here() -> Here:
    """Return the job, stage, task and source that the calling code works for.

    >>> from redismr import here, run
    >>> dict(run(["a"], lambda item: [(item, here().task)], inline=True))
    {'a': ['m0']}

    Raises:
        RuntimeError: as ``param``.
    """
    task = _thread_state.task or _find_task()
    return Here() if task is None else task.here


def propagate_to_threads() -> None:
    """Pass the running task on to new threads, and to functions that are given to pools."""
    global _threads_wrapped  # noqa: PLW0603  a fact about the process
    if not _threads_wrapped:
        _threads_wrapped = True
        start = threading.Thread.start
        threading.Thread.start = _wrap_start(start)  # type: ignore[method-assign, assignment]
        # A pool starts its threads with the first item: wrapping it then would miss that item. If
        # the main thread has ended the import fails, but then no such pool can be made either.
        with suppress(RuntimeError):
            importlib.import_module("concurrent.futures.thread")
        _wrap_pools()


def _wrap_pools() -> None:
    for module, (name, methods) in _POOL_METHODS.items():
        pool = getattr(sys.modules.get(module), name, None)
        if pool is not None and pool not in _wrapped_pools:
            _wrapped_pools.append(pool)
            for method in methods:
                setattr(pool, method, _wrap_pool_method(getattr(pool, method)))


def _wrap_start(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(start)
    def started(self: threading.Thread) -> None:
        # The threads of a pool outlive tasks: their task comes with each function instead.
        if getattr(vars(self).get("_target"), "__module__", "") in _POOL_METHODS:
            _wrap_pools()
        elif task := _thread_state.task or _find_task_or_none():
            vars(self)["_redismr_task"] = task
        start(self)

    return started


def _wrap_pool_method(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        task = _thread_state.task or _find_task_or_none()
        module = sys.modules.get("concurrent.futures.interpreter")
        if module is not None and isinstance(self, module.InterpreterPoolExecutor):
            task = None  # its threads run other interpreters (Python 3.14), which share no objects
        if task is not None and args:
            args = partial(_call_in_task, task, args[0]), *args[1:]
        elif task is not None and "func" in kwargs:
            kwargs["func"] = partial(_call_in_task, task, kwargs["func"])
        return method(self, *args, **kwargs)

    return wrapped


def _call_in_task(task: TaskContext, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    token = _context_task.set(task)
    try:
        return fn(*args, **kwargs)
    finally:
        _context_task.reset(token)


def _child_context(task: TaskContext, *, countable: bool) -> TaskContext:
    """Return a part of the task that counts for itself, or not at all."""
    return TaskContext(task.here, task.params, countable=countable, parent=task, pid=task.pid)


def _set_thread_task(task: TaskContext | None) -> TaskContext | None:
    before, _thread_state.task = _thread_state.task, task
    _context_task.set(task)
    if task is None:
        _running_tasks.pop(threading.get_ident(), None)
    else:
        _running_tasks[threading.get_ident()] = task
    return before


def _end_task(task: TaskContext, *, drop: bool = False) -> None:
    with _lock:
        task.has_ended, task.is_dropped = True, drop
        if not drop:
            for name, amount in (task.other_threads_counters or {}).items():
                task.counters[name] += amount


def _find_task() -> TaskContext | None:
    """Return the task that a thread without a task of its own works for; None outside all tasks."""
    task = _context_task.get() or vars(threading.current_thread()).get("_redismr_task")
    if task is not None:
        return task
    tasks = list(_running_tasks.values())
    if len(tasks) > 1:
        raise RuntimeError(
            f"{len(tasks)} tasks run in this process, and redismr cannot tell for which of them "
            f"thread {threading.current_thread().name!r} works: start it in mapfn, or give its "
            "work to a concurrent.futures.ThreadPoolExecutor"
        )
    return tasks[0] if tasks else None


def _find_task_or_none() -> TaskContext | None:
    """Return the task; None if it is ambiguous, because the thread may not need it."""
    try:
        return _find_task()
    except RuntimeError:
        return None


def _count_from_other_thread(name: str, amount: int) -> None:
    task = _thread_state.task or _find_task()
    message = f"redismr.count({name!r}) was called"
    if task is None:
        module = sys.modules.get("multiprocessing.process")
        if job_depth() or (module and module.parent_process()):  # the parent may run a task
            _warn_once(f"{message} outside a task", "")
    elif task.pid != os.getpid():
        _warn_once(
            f"{message} in a process that a task has started",
            ". Return what is to be counted to the task's own process, and count it there",
        )
    elif not (task.countable or task.has_ended):
        raise RuntimeError(
            "redismr.count() cannot be used in combinefn, partitionfn or initfn: "
            "they may run any number of times"
        )
    elif not (task.countable and _add_in_time(task, name, amount)):
        # No error: it would end a thread that other threads may wait for.
        _warn_once(
            f"{message} in a thread whose task has ended",
            f" ({threading.current_thread().name}, {task.here.task or task.here.stage}). Wait for "
            "all threads before mapfn returns; only those of a ThreadPoolExecutor or ThreadPool "
            "may live on",
        )


def _add_in_time(task: TaskContext | None, name: str, amount: int) -> bool:
    """Add a count and return True, unless the task has ended.

    A late count of a record goes to the record's task, or is dropped with a skipped record.
    """
    with _lock:
        while task is not None:
            if task.is_dropped:
                return True
            if not task.has_ended:
                counters = task.other_threads_counters = task.other_threads_counters or {}
                counters[name] = counters.get(name, 0) + amount
                return True
            task = task.parent
    return False


def _warn_once(message: str, details: str) -> None:
    if message not in _given_warnings and len(_given_warnings) < 100:
        _given_warnings.add(message)
        warnings.warn(f"{message}: it is not counted{details}", RuntimeWarning, stacklevel=4)


def _after_fork() -> None:
    global _lock, _pid
    _lock, _pid = threading.Lock(), os.getpid()
    if _thread_state.task is not None:  # ``count`` must warn: the parent's task is out of reach
        _thread_state.task = _child_context(_thread_state.task, countable=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
