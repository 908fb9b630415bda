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
from redismr import settings, streams
from redismr.confidential import Confined
from redismr.config import Connection
from redismr.errors import RedismrError
from redismr.processes import refuse_so_deep, refuse_while_loading
from redismr.server import PrivateServer, start

_lock = threading.Lock()
_started: dict[tuple[str, int], Embedded] = {}
_workers = weakref.WeakSet["LocalWorker"]()


class Embedded(Confined):
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

    def revive(self) -> None:
        """Start another worker if ours died (killed, out of memory): jobs wait for one."""
        with _lock:
            if self.server.alive and not self.worker.alive:
                self.worker.disown()
                self.worker = LocalWorker(self.server.connection, self.executors)

    def close(self) -> None:
        """Stop both, now."""
        self.worker.close()
        self.server.close()


class LocalWorker(Confined):
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
        refuse_so_deep()
        streams.fill()  # else the pipe may get the number of a standard stream
        watched, self._held = os.pipe()  # ends when we do: the worker stops then
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
                "REDISMR_PARENT_PIPE": str(watched),
                "PYTHONHASHSEED": "0",
                "PYTHONPATH": path,
            },
            pass_fds=(watched, *pass_fds),
            stdin=subprocess.DEVNULL,
            stdout=streams.to_inherit(stdout),
            stderr=streams.to_inherit(2),
            start_new_session=True,  # Ctrl-C is the client's to answer
        )
        os.close(watched)
        _workers.add(self)

    @property
    def alive(self) -> bool:
        """Whether the worker process still runs."""
        return self._process.poll() is None

    def disown(self) -> None:
        """Let go of the pipe without waiting."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1

    def close(self) -> None:
        """End the worker by ending its pipe."""
        self.disown()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def foresee(
    url: str | None = None,
    namespace: str | None = None,
    executors: int | None = None,
) -> None:
    """Start our own server and workers, if no server is named: ``Client()`` is going to need them.

    They start while this process imports what a client needs, which takes as long: a first result
    came after 0.48 s instead of 0.61 s. Trouble is the client's to meet, and to tell.
    """
    with contextlib.suppress(RedismrError, OSError):
        if settings.resolve(url, None, namespace) is None:
            _embedded(settings.namespace_of(namespace), executors)


def embedded(namespace: str, executors: int | None) -> Embedded:
    """This process's own server and workers, started if need be; the server answers."""
    ours = _embedded(namespace, executors)
    ours.ready()
    return ours


def _embedded(namespace: str, executors: int | None) -> Embedded:
    count = executors or redismr.workers.cores()
    with _lock:
        ours = _started.get((namespace, count))
        if ours is None or not ours.alive:
            if ours is not None:
                ours.close()
            ours = _started[namespace, count] = Embedded(namespace, count)
        return ours


def _close_all() -> None:
    while _started:
        _started.popitem()[1].close()


def _disown() -> None:
    """A forked child shares nothing: its parent ends what its parent started.

    Not even the pipes: held open by a child, they would keep workers alive that nobody waits for.
    """
    global _lock  # noqa: PLW0603  another thread of the parent may have held it
    _lock = threading.Lock()
    for worker in _workers:
        worker.disown()
    _workers.clear()
    _started.clear()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_disown)
