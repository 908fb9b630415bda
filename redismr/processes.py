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

P = ParamSpec("P")
T = TypeVar("T")

DEPTH = "REDISMR_DEPTH"
"""In the environment of an executor, and of whatever a user function starts there: how many
executors stand above, this one included."""

CORES = "REDISMR_CORES"
"""In the same environment: an executor's share of the cores, which is what a server of its own
takes. So the executors of all servers that stand one below the other are as many as the cores, at
each depth, and not their product."""

MOST_DEPTH = 3
"""So many jobs may be one inside the other, each with a private server of its own."""

_OURS = os.path.dirname(os.path.abspath(__file__)) + os.sep


def here_only(clean_up: Callable[P, T]) -> Callable[P, T | None]:
    """The function, which does nothing in a child that this process forks.

    For whatever ends or deletes what the parent still needs: a child that ends, or collects
    garbage, calls its copies of finalizers and exit handlers too.
    """
    process = os.getpid()

    @wraps(clean_up)
    def cleaned(*args: P.args, **kwargs: P.kwargs) -> T | None:
        return clean_up(*args, **kwargs) if os.getpid() == process else None

    return cleaned


def depth() -> int:
    """How many executors stand above this process: 0 in a program that somebody started."""
    given = os.environ.get(DEPTH, "")
    return int(given) if given.isdecimal() else 0


class _Loading(threading.local):
    here = 0


_loading = _Loading()
_everywhere = 0


@contextmanager
def loading(*, everywhere: bool = False) -> Iterator[None]:
    """While the body runs it loads the code of a job, and must not start another.

    ``everywhere`` means in all threads: in an executor, where no other thread is the user's.
    """
    global _everywhere  # noqa: PLW0603  a fact about the process
    _loading.here += 1
    _everywhere += everywhere
    try:
        yield
    finally:
        _loading.here -= 1
        _everywhere -= everywhere


def refuse_while_loading() -> None:
    """Raise where a module submits a job, or begins to, as a worker imports it.

    That job's workers would import it as well, and so on without end.

    Raises:
        RunawayJob: names the file, the line and the guard.
    """
    if not (_loading.here or _everywhere):
        return
    called, file, line = _culprit()
    raise RunawayJob(
        f"{file}, line {line}, calls {called}() while it is imported: whatever loads the code of "
        "its job would start that job again, without end. Put the call under "
        '`if __name__ == "__main__":`'
    )


def refuse_so_deep() -> None:
    """Raise where a private server would be one too many below others: the last resort.

    Raises:
        RunawayJob: says how deep it is.
    """
    if depth() >= MOST_DEPTH:
        raise RunawayJob(
            f"this is a job inside a job, {depth()} deep, which is as deep as private servers may "
            "be: it seems to start itself, without end. If a module does so as it is imported, put "
            'the call under `if __name__ == "__main__":`. What is meant to go deeper needs a '
            "server that is named, or inline=True"
        )


def _culprit() -> tuple[str, str, int]:
    """What was called of ours, and from where: file and line, of its module if it is a module's."""
    frame = sys._getframe(1)  # noqa: SLF001
    called = ""
    while frame.f_back and frame.f_code.co_filename.startswith(_OURS):
        called = frame.f_code.co_qualname.removesuffix(".__init__")
        frame = frame.f_back
    caller = step = frame
    while not step.f_code.co_filename.startswith(_OURS):
        if step.f_code.co_name == "<module>":
            caller = step
            break
        if step.f_back is None:
            break
        step = step.f_back
    return called, caller.f_code.co_filename, caller.f_lineno
