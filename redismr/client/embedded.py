"""The embedded backend: a private server and a local worker for this process.

It is used when no server is named. A process has one for each namespace and number of executors:
the first client starts it, later clients use it too, and it ends with the process in any case.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path

import redismr.workers
from redismr import settings, standard_streams
from redismr.confidential import Unpicklable
from redismr.config import Connection
from redismr.errors import RedismrError
from redismr.process_guards import refuse_too_deep, refuse_while_loading
from redismr.server import PrivateServer, start

_lock = threading.Lock()
_backends: dict[tuple[str, int], EmbeddedBackend] = {}
_workers = weakref.WeakSet["LocalWorker"]()


class EmbeddedBackend(Unpicklable):
    """A private server, and a child process that is a worker with N executors."""

    def __init__(self, namespace: str, executors: int) -> None:
        self.executors = executors
        self.server: PrivateServer = start(namespace=namespace, wait=False)
        # The worker imports modules meanwhile, which takes longer than the server's start.
        self.worker = LocalWorker(self.server.connection, executors)

    @property
    def alive(self) -> bool:
        """True if the server and the worker still run."""
        return self.server.alive and self.worker.alive

    def restart_worker(self) -> None:
        """Start another worker if the worker has died (killed, out of memory)."""
        with _lock:
            if self.server.alive and not self.worker.alive:
                self.worker.release_pipe()
                self.worker = LocalWorker(self.server.connection, self.executors)

    def close(self) -> None:
        """End the worker and the server."""
        self.worker.close()
        self.server.close()


class LocalWorker(Unpicklable):
    """A worker as a child process: a new Python, never a fork of the user's program.

    The user's program may have threads, and a script without a ``__main__`` guard.
    The text that user functions print goes to this process's standard error, apart from the
    program's own output; ``stdout=1`` sends it to standard output. ``environ`` is added to this
    process's environment, and the descriptors ``pass_fds`` stay open in the child.
    """

    def __init__(
        self,
        connection: Connection,
        executors: int,
        *,
        environ: Mapping[str, str] | None = None,
        stdout: int = 2,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        refuse_while_loading()
        refuse_too_deep()
        # Else the pipe may get the number of a standard stream.
        standard_streams.open_missing_descriptors()
        # The pipe ends when this process does: then the worker stops.
        pipe_read_end, self._pipe_write_end = os.pipe()
        package_parent = str(Path(redismr.workers.__file__).parents[2])
        path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "redismr.workers"],
            env={
                **os.environ,
                **(environ or {}),
                "REDISMR_URL": connection.url,
                "REDISMR_SECRET": connection.secret,
                "REDISMR_NAMESPACE": connection.namespace,
                "REDISMR_EMBEDDED": "1" if connection.embedded else "",
                "REDISMR_EXECUTORS": str(executors),
                "REDISMR_PARENT_PIPE": str(pipe_read_end),
                "PYTHONHASHSEED": "0",
                "PYTHONPATH": path,
            },
            pass_fds=(pipe_read_end, *pass_fds),
            stdin=subprocess.DEVNULL,
            stdout=standard_streams.inheritable_descriptor(stdout),
            stderr=standard_streams.inheritable_descriptor(2),
            start_new_session=True,  # only the client answers Ctrl-C
        )
        os.close(pipe_read_end)
        _workers.add(self)

    @property
    def alive(self) -> bool:
        """True if the worker process still runs."""
        return self._process.poll() is None

    def release_pipe(self) -> None:
        """Close the pipe, which ends the worker, without waiting for it."""
        if self._pipe_write_end >= 0:
            os.close(self._pipe_write_end)
            self._pipe_write_end = -1

    def close(self) -> None:
        """End the worker: close its pipe, and kill it after 5 s."""
        self.release_pipe()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def prestart(
    url: str | None = None, namespace: str | None = None, executors: int | None = None
) -> None:
    """Start the embedded backend for the next ``Client()``, if no server is named.

    The backend starts while this process imports the modules of a client, which takes as long: a
    first result came after 0.48 s instead of 0.61 s. Errors are left for the client to raise.
    """
    with contextlib.suppress(RedismrError, OSError):
        if settings.resolve_connection(url, None, namespace) is None:
            _get_or_start(settings.resolve_namespace(namespace), executors)


def embedded_backend(namespace: str, executors: int | None) -> EmbeddedBackend:
    """Return this process's embedded backend, started if need be, once its server answers."""
    backend = _get_or_start(namespace, executors)
    try:
        backend.server.ready()
    except BaseException:
        backend.worker.close()
        raise
    return backend


def _get_or_start(namespace: str, executors: int | None) -> EmbeddedBackend:
    count = executors or redismr.workers.cores()
    with _lock:
        backend = _backends.get((namespace, count))
        if backend is None or not backend.alive:
            if backend is not None:
                backend.close()
            backend = _backends[namespace, count] = EmbeddedBackend(namespace, count)
        return backend


def _close_all() -> None:
    while _backends:
        _backends.popitem()[1].close()


def _forget_in_forked_child() -> None:
    """Forget the backends of the parent process, which alone ends them.

    The pipes are closed too: a child that held them open would keep the parent's workers alive.
    """
    global _lock  # noqa: PLW0603  another thread of the parent may hold the old one
    _lock = threading.Lock()
    for worker in _workers:
        worker.release_pipe()
    _workers.clear()
    _backends.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_in_forked_child)
