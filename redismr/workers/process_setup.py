"""Prepares an executor's process for user code: environment, memory, debuggers, forks."""

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
    """Erase the server's variables; set garbage collector and allocator for tasks in a row.

    A redismr program that a user function starts gets a private server, because without the secret
    this server would refuse it. The program gets ``cores``, this executor's share.
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
    """Return the name of this process and the libraries that user code has loaded in it."""
    libraries = loaded_versions()
    return Provenance(f"worker {process_name()}", libraries) if libraries else _NO_LIBRARIES


def process_name() -> str:
    """Return host and pid of this executor, for people."""
    return _host_and_pid(os.getpid())


@lru_cache(maxsize=1)
def _host_and_pid(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}"


def end_if_forked() -> None:
    """End this process if user code forked it and returned in the child: a child is no executor.

    The child would stage, commit and claim under its parent's tokens, and outlive the supervisor.
    Its exit status is the one that Python would give without redismr.
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
    """Return the error for a debugger that was called on a worker."""
    return DebuggerError(
        f"{what} was called on a worker, where nobody can type. Run the job with inline=True "
        "(redismr run --inline): there breakpoint() and pdb work"
    )


def _on_breakpoint(*args: Any, **kwargs: Any) -> Any:
    # pdb would find an empty standard input, and end the task.
    if os.environ.get("PYTHONBREAKPOINT", "") in ("", "pdb.set_trace"):
        raise debugger_error("breakpoint()")
    return sys.__breakpointhook__(*args, **kwargs)  # noqa: T100  the user has chosen it


def _default_to_fork() -> None:
    """Make fork the default of multiprocessing, as on Linux before Python 3.14.

    The fork server of multiprocessing would know neither the job's modules nor its script.
    ``set_start_method`` is not called, because a later call by the user would then be refused.
    """
    if sys.platform == "linux" and sys.version_info >= (3, 14):
        default: Any = multiprocessing.context._default_context  # noqa: SLF001
        default._default_context = multiprocessing.get_context("fork")  # noqa: SLF001


def _erase_variable(name: str) -> None:
    """Remove a variable from the environment and from the process's memory that ``ps`` shows."""
    if value := os.environ.get(name):
        with contextlib.suppress(OSError, AttributeError):
            getenv = ctypes.CDLL(None).getenv
            getenv.restype = ctypes.c_void_p
            if address := getenv(name.encode()):
                ctypes.memset(address, 0, len(os.fsencode(value)))
    os.environ.pop(name, None)


def _keep_freed_memory() -> None:
    """Have the allocator keep freed memory for the next task: 256 MB, in blocks of up to 64 MB.

    With glibc, returning pages and faulting them in again costs 7 % of a word count's wall time,
    and a third of its system time. Either threshold alone gains nothing: setting one freezes the
    other, which otherwise grows with the freed blocks.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 64 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 256 << 20)
