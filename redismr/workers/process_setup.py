"""What an executor does to its own process before it runs anything of the user's."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import socket
import sys
from functools import lru_cache
from typing import Any

from redismr.core.model import Provenance
from redismr.engine.kernel import UserCodeError
from redismr.errors import DebuggerError
from redismr.process_guards import CORES_VARIABLE, DEPTH_VARIABLE, job_depth
from redismr.shipping.libraries import loaded_versions, set_baseline

if sys.platform == "linux" and sys.version_info >= (3, 14):
    import multiprocessing.context  # 1.6 ms of a cold start, once for all executors

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

_NO_LIBRARIES = Provenance()

_executor_pid = os.getpid()


def prepare_process(cores: int) -> None:
    """Forget the server's variables, and set collector and allocator for tasks in a row.

    A program that a user function starts has a private server: without the secret this one's URL
    would only be refused. It has so many cores, this executor's share.
    """
    global _executor_pid  # noqa: PLW0603  a fact about the process
    _executor_pid = os.getpid()
    set_baseline()
    os.environ |= {DEPTH_VARIABLE: str(job_depth() + 1), CORES_VARIABLE: str(cores)}
    for name in ("URL", "SECRET", "SECRET_FILE", "PASSWORD", "PASSWORD_FILE"):
        _erase_variable(f"REDISMR_{name}")
    # Rare collections cost nothing measurable and still free cycles; the defaults cost 25 % here.
    gc.set_threshold(200_000, 20, 100)
    _keep_freed_memory()
    _default_to_fork()
    sys.breakpointhook = _on_breakpoint


def local_provenance() -> Provenance:
    """This process, and the libraries that user code has loaded in it."""
    libraries = loaded_versions()
    return Provenance(f"worker {process_name()}", libraries) if libraries else _NO_LIBRARIES


def process_name() -> str:
    """This executor, for people."""
    return _process_name(os.getpid())


@lru_cache(maxsize=1)
def _process_name(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}"


def end_if_forked() -> None:
    """End a child that user code forked and let come back to us: it is no executor.

    It would stage, commit and claim under its parent's tokens, and outlive the supervisor. Its
    status is what Python's own end would give, whatever it has met in our code.
    """
    if os.getpid() == _executor_pid:
        return
    exc = sys.exception()
    if isinstance(exc, UserCodeError):
        exc = exc.__cause__
    elif isinstance(exc, Exception):
        exc = None
    code = exc.code if isinstance(exc, SystemExit) else exc
    os._exit(code if isinstance(code, int) else int(code is not None))


def debugger_error(what: str) -> DebuggerError:
    """The error for a debugger that was called here."""
    return DebuggerError(
        f"{what} was called on a worker, where nobody can type. Run the job with inline=True "
        "(redismr run --inline): there breakpoint() and pdb work"
    )


def _on_breakpoint(*args: Any, **kwargs: Any) -> Any:
    """What breakpoint() does, if PYTHONBREAKPOINT chooses no other debugger, or none.

    Raises:
        DebuggerError: pdb would read the end of the input, and so end the task.
    """
    if os.environ.get("PYTHONBREAKPOINT", "") in ("", "pdb.set_trace"):
        raise debugger_error("breakpoint()")
    return sys.__breakpointhook__(*args, **kwargs)  # noqa: T100  what the user has chosen


def _default_to_fork() -> None:
    """What multiprocessing does on Linux before Python 3.14, where nothing else was asked for.

    A fork server of its own would know neither the modules that came with the job nor its script.
    Not by ``set_start_method``: the user's own call of that would be refused then.
    """
    if sys.platform == "linux" and sys.version_info >= (3, 14):
        default: Any = multiprocessing.context._default_context  # noqa: SLF001
        default._default_context = multiprocessing.get_context("fork")  # noqa: SLF001


def _erase_variable(name: str) -> None:
    """Take a variable from the environment, and from what ``ps`` shows of this process."""
    if value := os.environ.get(name):
        with contextlib.suppress(OSError, AttributeError):
            getenv = ctypes.CDLL(None).getenv
            getenv.restype = ctypes.c_void_p
            if address := getenv(name.encode()):
                ctypes.memset(address, 0, len(os.fsencode(value)))
    os.environ.pop(name, None)


def _keep_freed_memory() -> None:
    """Have the allocator keep what a task freed for the next one: up to 256 MB, blocks up to 64 MB.

    Giving pages back and faulting them in again costs 7 % of a word count's wall time, with glibc,
    and a third of its system time. Either threshold alone gains nothing: to set one fixes the
    other, which else grows with the blocks that are freed.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 << 20)
