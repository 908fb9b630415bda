"""What a process may not do: a forked child, one that loads a job's code, one far below others."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from redismr.errors import RunawayJob
from redismr.user_warnings import REDISMR_FOLDER

P = ParamSpec("P")
T = TypeVar("T")

DEPTH_VARIABLE = "REDISMR_DEPTH"
"""In the environment of an executor, and of whatever a user function starts there: how many
executors stand above, this one included."""

CORES_VARIABLE = "REDISMR_CORES"
"""In the same environment: an executor's share of the cores, which is what a server of its own
takes. So the executors of all servers that stand one below the other are as many as the cores, at
each depth, and not their product."""

MAX_DEPTH = 3
"""So many jobs may be one inside the other, each with a private server of its own."""


def only_in_this_process(clean_up: Callable[P, T]) -> Callable[P, T | None]:
    """The function, which does nothing in a child that this process forks.

    For whatever ends or deletes what the parent still needs: a child that ends, or collects
    garbage, calls its copies of finalizers and exit handlers too.
    """
    process = os.getpid()

    @wraps(clean_up)
    def cleaned(*args: P.args, **kwargs: P.kwargs) -> T | None:
        return clean_up(*args, **kwargs) if os.getpid() == process else None

    return cleaned


def job_depth() -> int:
    """How many executors stand above this process: 0 in a program that somebody started."""
    given = os.environ.get(DEPTH_VARIABLE, "")
    return int(given) if given.isdecimal() else 0


def cores() -> int:
    """Return how many cores this process may use: the default number of executors.

    Inside a task these are the executor's share of the cores.
    """
    if (share := os.environ.get(CORES_VARIABLE, "")).isdecimal():
        return max(1, int(share))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _LoadCount(threading.local):
    count = 0


_thread_loads = _LoadCount()
_process_loads = 0


@contextmanager
def loading_job_code(*, all_threads: bool = False) -> Iterator[None]:
    """While the body runs it loads the code of a job, and must not start another.

    ``all_threads`` means in all threads: in an executor, where no other thread is the user's.
    """
    global _process_loads  # noqa: PLW0603  a fact about the process
    _thread_loads.count += 1
    _process_loads += all_threads
    try:
        yield
    finally:
        _thread_loads.count -= 1
        _process_loads -= all_threads


def refuse_while_loading() -> None:
    """Raise where a module submits a job, or begins to, as a worker imports it.

    That job's workers would import it as well, and so on without end.

    Raises:
        RunawayJob: names the file, the line and the guard.
    """
    if not (_thread_loads.count or _process_loads):
        return
    called, file, line = _calling_place()
    raise RunawayJob(
        f"{file}, line {line}, calls {called}() while it is imported: whatever loads the code of "
        "its job would start that job again, without end. Put the call under "
        '`if __name__ == "__main__":`'
    )


def refuse_too_deep() -> None:
    """Raise where a private server would be one too many below others: the last resort.

    Raises:
        RunawayJob: says how deep it is.
    """
    if job_depth() >= MAX_DEPTH:
        raise RunawayJob(
            f"this is a job inside a job, {job_depth()} deep, which is as deep as private servers may "  # noqa: E501
            "be: it seems to start itself, without end. If a module does so as it is imported, put "
            'the call under `if __name__ == "__main__":`. What is meant to go deeper needs a '
            "server that is named, or inline=True"
        )


def _calling_place() -> tuple[str, str, int]:
    """What was called of ours, and from where: file and line, of its module if it is a module's."""
    frame = sys._getframe(1)  # noqa: SLF001
    called = ""
    while frame.f_back and frame.f_code.co_filename.startswith(REDISMR_FOLDER):
        called = frame.f_code.co_qualname.removesuffix(".__init__")
        frame = frame.f_back
    caller = step = frame
    while not step.f_code.co_filename.startswith(REDISMR_FOLDER):
        if step.f_code.co_name == "<module>":
            caller = step
            break
        if step.f_back is None:
            break
        step = step.f_back
    return called, caller.f_code.co_filename, caller.f_lineno
