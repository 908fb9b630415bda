"""Forbid processes what they must not do: forked children, workers that load code, nested jobs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FrameType
from typing import ParamSpec, TypeVar

from redismr.errors import RunawayJob
from redismr.user_warnings import REDISMR_FOLDER

P = ParamSpec("P")
T = TypeVar("T")

DEPTH_VARIABLE = "REDISMR_DEPTH"
"""Variable of an executor and its children: how many executors are ancestors, this one included."""

CORES_VARIABLE = "REDISMR_CORES"
"""Variable of an executor and its children: the executor's share of the cores. A private server of
a user function starts no more executors, so that at each depth there are as many as cores."""

MAX_DEPTH = 3  # jobs that may run one inside the other, each on its own private server


def only_in_this_process(clean_up: Callable[P, T]) -> Callable[P, T | None]:
    """Wrap a clean-up function so that it does nothing in a child that this process forks.

    A child that ends, or collects garbage, calls its copies of finalizers and exit handlers. They
    must not end or delete things that the parent still needs.
    """
    process = os.getpid()

    @wraps(clean_up)
    def cleaned(*args: P.args, **kwargs: P.kwargs) -> T | None:
        return clean_up(*args, **kwargs) if os.getpid() == process else None

    return cleaned


def job_depth() -> int:
    """Return how many ancestors of this process are executors: 0 in a program of the user's."""
    given = os.environ.get(DEPTH_VARIABLE, "")
    return int(given) if given.isdecimal() else 0


def cores() -> int:
    """Return how many cores this process may use, in a task the share of its executor."""
    if (share := os.environ.get(CORES_VARIABLE, "")).isdecimal():
        return max(1, int(share))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _LoadCount(threading.local):
    count = 0


_thread_loads = _LoadCount()
_process_loads = 0


@contextmanager
def loading_job_code(*, all_threads: bool = False) -> Iterator[None]:
    """Mark the body as loading the code of a job: it must not start another job."""
    global _process_loads  # noqa: PLW0603  a fact about the process
    _thread_loads.count += 1
    _process_loads += all_threads  # in an executor no other thread is the user's
    try:
        yield
    finally:
        _thread_loads.count -= 1
        _process_loads -= all_threads


def refuse_while_loading() -> None:
    """Refuse a job of a module that a worker imports: its workers would start it, and so on."""
    if not (_thread_loads.count or _process_loads):
        return
    called, file, line = _calling_place()
    raise RunawayJob(
        f"{file}, line {line}, calls {called}() while it is imported: every worker that loads the "
        "code of the job would start the job again, without end. Put the call under "
        '`if __name__ == "__main__":`'
    )


def refuse_too_deep() -> None:
    """Refuse a private server that is nested too deep: the last resort against runaway jobs."""
    if job_depth() >= MAX_DEPTH:
        raise RunawayJob(
            f"this is a job inside a job, {job_depth()} deep, and private servers may not be "
            "nested deeper: it seems to start itself, without end. If a module starts it on "
            'import, put the call under `if __name__ == "__main__":`. To nest deeper on purpose, '
            "give the inner job the URL of a server, or inline=True"
        )


def _calling_place() -> tuple[str, str, int]:
    """Return the redismr function, and where it was called, or the import that led to the call."""
    frame = sys._getframe(1)  # noqa: SLF001
    called = ""
    while frame.f_back and frame.f_code.co_filename.startswith(REDISMR_FOLDER):
        called = frame.f_code.co_qualname.removesuffix(".__init__")
        frame = frame.f_back
    step: FrameType | None = frame
    while step and not step.f_code.co_filename.startswith(REDISMR_FOLDER):
        if step.f_code.co_name == "<module>":
            return called, step.f_code.co_filename, step.f_lineno
        step = step.f_back
    return called, frame.f_code.co_filename, frame.f_lineno
