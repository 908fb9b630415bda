"""What a server does while its job runs: timers, its state in the fork's words, and hints."""

from __future__ import annotations

import sys
import threading
from collections.abc import MutableSequence
from typing import TYPE_CHECKING

from redismr.compat import timers
from redismr.compat.hosting import DEFAULT_PORT
from redismr.compat.transactions import TaskManager
from redismr.ui.errors import say

if TYPE_CHECKING:
    from redismr.compat.hosting import Host
    from redismr.core.model import Progress


class Closed(Exception):
    """The server was closed: its job is to be cancelled."""


class Explain:
    """Called with a job's progress, says on stderr what it waits for, each reason once.

    Where there are no workers it is how to start one: by ``command``, whose port, if it is given
    none, is ``default_port``.
    """

    def __init__(self, host: Host, command: str, default_port: int) -> None:
        self._host, self._command, self._default_port = host, command, default_port
        self._told = ""

    def __call__(self, progress: Progress) -> None:
        """Take note of one look at the job."""
        if not progress.waiting or progress.waiting == self._told:
            return
        self._told = why = progress.waiting
        if all(worker.lost for worker in self._host.client.workers()):
            how = self._host.how_to_join(self._command, self._default_port)
            why = f"no workers yet; to start one: {how}"
        say(f"waiting: {why}", sys.stderr)


class Watch:
    """Called with the job's progress several times a second.

    Raises:
        Closed: the server is to end.
    """

    def __init__(
        self,
        host: Host,
        manager: TaskManager,
        schedule: MutableSequence[timers.Timer],
        closing: threading.Event,
    ) -> None:
        self._manager, self._schedule, self._closing = manager, schedule, closing
        command = "redismr mincemeat -l" if host.resumed else "redismr mincemeat"
        self._explain = Explain(host, command, DEFAULT_PORT)

    def __call__(self, progress: Progress) -> None:
        """Take note of one look at the job."""
        timers.fire(self._schedule)
        if self._closing.is_set():
            raise Closed
        reducing = progress.state in {"reducing", "succeeded"}
        self._manager.state = TaskManager.REDUCING if reducing else TaskManager.MAPPING
        self._explain(progress)
