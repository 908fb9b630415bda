"""A private server and local workers for this process, when no server is named.

One per process and number of executors, started on first use, reused by every client, and gone
with the process, however that ends.
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
from types import MappingProxyType

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
    """A server of our own and a worker child with N executors."""

    def __init__(self, namespace: str, executors: int) -> None:
        self.executors = executors
        self.server: PrivateServer = start(namespace=namespace, wait=False)
        # It takes longer to import what it needs than the server to answer.
        self.worker = LocalWorker(self.server.connection, executors)

    def ready(self) -> None:
        """Return when the server answers.

        Raises:
            StoreUnavailable: it does not; the worker is gone as well.
        """
        try:
            self.server.ready()
        except BaseException:
            self.worker.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether both still run."""
        return self.server.alive and self.worker.alive

    def restart_worker(self) -> None:
        """Start another worker if ours died (killed, out of memory): jobs wait for one."""
        with _lock:
            if self.server.alive and not self.worker.alive:
                self.worker.release_pipe()
                self.worker = LocalWorker(self.server.connection, self.executors)

    def close(self) -> None:
        """Stop both, now."""
        self.worker.close()
        self.server.close()


class LocalWorker(Unpicklable):
    """A worker child: never a fork of the user's process, whose scripts have no guard.

    What user functions print goes to our standard error, lest it mix with the program's output;
    ``stdout=1`` lets it. ``environ`` is added to our environment, and ``pass_fds`` stay open.
    """

    def __init__(
        self,
        connection: Connection,
        executors: int,
        *,
        environ: Mapping[str, str] = MappingProxyType({}),
        stdout: int = 2,
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        refuse_while_loading()
        refuse_too_deep()
        standard_streams.open_missing_descriptors()  # else the pipe may get the number of a standard stream  # noqa: E501
        pipe_read_end, self._pipe_write_end = os.pipe()  # ends when we do: the worker stops then
        package_parent = str(Path(redismr.workers.__file__).parents[2])
        path = os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "redismr.workers"],
            env={
                **os.environ,
                **environ,
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
            start_new_session=True,  # Ctrl-C is the client's to answer
        )
        os.close(pipe_read_end)
        _workers.add(self)

    @property
    def alive(self) -> bool:
        """Whether the worker process still runs."""
        return self._process.poll() is None

    def release_pipe(self) -> None:
        """Let go of the pipe without waiting."""
        if self._pipe_write_end >= 0:
            os.close(self._pipe_write_end)
            self._pipe_write_end = -1

    def close(self) -> None:
        """End the worker by ending its pipe."""
        self.release_pipe()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def prestart(
    url: str | None = None,
    namespace: str | None = None,
    executors: int | None = None,
) -> None:
    """Start our own server and workers, if no server is named: ``Client()`` is going to need them.

    They start while this process imports what a client needs, which takes as long: a first result
    came after 0.48 s instead of 0.61 s. Trouble is the client's to meet, and to tell.
    """
    with contextlib.suppress(RedismrError, OSError):
        if settings.resolve_connection(url, None, namespace) is None:
            _get_or_start(settings.resolve_namespace(namespace), executors)


def embedded_backend(namespace: str, executors: int | None) -> EmbeddedBackend:
    """This process's own server and workers, started if need be; the server answers."""
    backend = _get_or_start(namespace, executors)
    backend.ready()
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
    """A forked child shares nothing: its parent ends what its parent started.

    Not even the pipes: held open by a child, they would keep workers alive that nobody waits for.
    """
    global _lock  # noqa: PLW0603  another thread of the parent may have held it
    _lock = threading.Lock()
    for worker in _workers:
        worker.release_pipe()
    _workers.clear()
    _backends.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_forget_in_forked_child)
