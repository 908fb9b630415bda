"""What user functions may call while they run: ``count``, ``param`` and ``here``.

Outside a task (in a unit test of a mapfn, say) ``count`` does nothing, ``param`` answers its
default and ``here`` answers an empty place. The engine installs the running task's state with
``running``; one thread runs one task, so the state is thread-local.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Here:
    """Where the calling code runs; empty strings outside a task."""

    job: str = ""
    stage: str = ""
    task: str = ""
    source: str = ""


@dataclass(slots=True)
class TaskContext:
    """The running task's counters and parameters; counters are folded into its manifest."""

    here: Here = field(default_factory=Here)
    params: Mapping[str, Any] = field(default_factory=dict)
    counters: Counter[str] = field(default_factory=Counter)
    countable: bool = True


class _Local(threading.local):
    task: TaskContext | None = None


_local = _Local()


@contextmanager
def running(task: TaskContext) -> Iterator[TaskContext]:
    """Make ``task`` what ``count``, ``param`` and ``here`` speak of in this thread."""
    before, _local.task = _local.task, task
    try:
        yield task
    finally:
        _local.task = before


@contextmanager
def uncountable() -> Iterator[None]:
    """Have ``count`` refuse while functions run that may run any number of times."""
    task = _local.task
    if task is None:
        yield
        return
    before, task.countable = task.countable, False
    try:
        yield
    finally:
        task.countable = before


class provisional:  # noqa: N801  reads as a verb where it is used
    """Have what ``count`` adds in the body forgotten if the body raises."""

    __slots__ = ("_before", "_task")

    def __enter__(self) -> None:
        self._task = _local.task
        if self._task is not None:
            self._before = dict(self._task.counters)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and self._task is not None:
            self._task.counters.clear()
            self._task.counters.update(self._before)


def count(name: str, amount: int = 1) -> None:
    """Add to a counter of the job. Counted once per task, whatever is retried.

    Raises:
        RuntimeError: called in a combinefn or partitionfn, which may run any number of times.
    """
    task = _local.task
    if task is None:
        return
    if not task.countable:
        raise RuntimeError(
            "redismr.count() cannot be used in combinefn, partitionfn or initfn: "
            "they run 0..n times"
        )
    task.counters[name] += amount


def param(name: str, default: Any = None) -> Any:
    """The value of ``params[name]`` given to ``run`` or ``submit``, else ``default``."""
    task = _local.task
    return default if task is None else task.params.get(name, default)


def here() -> Here:
    """The job, stage, task and source that the calling code works for."""
    task = _local.task
    return Here() if task is None else task.here
