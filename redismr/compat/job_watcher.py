"""What a server does while its job runs: timers, its state in the fork's words, and hints."""

from __future__ import annotations

import sys
import threading
from collections.abc import MutableSequence
from typing import TYPE_CHECKING

from redismr.compat import timers
from redismr.compat.doorway import Progress, print_message
from redismr.compat.hosting import MINCEMEAT_PORT
from redismr.compat.transactions import TaskManager

if TYPE_CHECKING:
    from redismr.compat.hosting import HostedServer


class ServerClosed(Exception):
    """The server was closed: its job is to be cancelled."""


class WaitReporter:
    """Called with a job's progress, says on stderr what it waits for, each reason once.

    Where there are no workers it is how to start one: by ``command``, whose port, if it is given
    none, is ``default_port``.
    """

    def __init__(self, hosted_server: HostedServer, command: str, default_port: int) -> None:
        self._hosted_server, self._command, self._default_port = (
            hosted_server,
            command,
            default_port,
        )
        self._last_reason = ""

    def __call__(self, progress: Progress) -> None:
        """Take note of one look at the job."""
        if not progress.waiting or progress.waiting == self._last_reason:
            return
        self._last_reason = reason = progress.waiting
        if all(worker.lost for worker in self._hosted_server.client.workers()):
            how = self._hosted_server.how_to_join(self._command, self._default_port)
            reason = f"no workers yet; to start one: {how}"
        print_message(f"waiting: {reason}", sys.stderr)


class JobWatcher:
    """Called with the job's progress several times a second.

    Raises:
        ServerClosed: the server is to end.
    """

    def __init__(
        self,
        hosted_server: HostedServer,
        manager: TaskManager,
        schedule: MutableSequence[timers.Timer],
        closing: threading.Event,
    ) -> None:
        self._manager, self._schedule, self._closing = manager, schedule, closing
        command = "redismr mincemeat -l" if hosted_server.was_resumed else "redismr mincemeat"
        self._report_waiting = WaitReporter(hosted_server, command, MINCEMEAT_PORT)

    def __call__(self, progress: Progress) -> None:
        """Take note of one look at the job."""
        timers.run_due(self._schedule)
        if self._closing.is_set():
            raise ServerClosed
        reducing = progress.state in {"reducing", "succeeded"}
        self._manager.state = TaskManager.REDUCING if reducing else TaskManager.MAPPING
        self._report_waiting(progress)
