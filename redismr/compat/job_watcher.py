"""Callbacks for the progress of a server's job: timers, the server's state, reasons to wait."""

from __future__ import annotations

import sys
import threading
from collections.abc import MutableSequence

from redismr.compat import timers
from redismr.compat.doorway import Progress, print_message
from redismr.compat.hosting import MINCEMEAT_PORT, HostedServer
from redismr.compat.transactions import TaskManager


class ServerClosed(Exception):
    """The server was closed, so its job is to be cancelled."""


class WaitReporter:
    """Reports on stderr what a job waits for, each reason once; called with the job's progress.

    If there are no workers, the report says how to start one: with ``command``, whose port is
    ``default_port`` if none is given.
    """

    def __init__(self, hosted_server: HostedServer, command: str, default_port: int) -> None:
        self._hosted_server, self._last_reason = hosted_server, ""
        self._command, self._default_port = command, default_port

    def __call__(self, progress: Progress) -> None:
        """Report a new reason to wait."""
        if not progress.waiting or progress.waiting == self._last_reason:
            return
        self._last_reason = reason = progress.waiting
        if all(worker.lost for worker in self._hosted_server.client.workers()):
            how = self._hosted_server.how_to_join(self._command, self._default_port)
            reason = f"no workers yet; to start one: {how}"
        print_message(f"waiting: {reason}", sys.stderr)


class JobWatcher:
    """Called with the progress of a server's job several times a second.

    Raises:
        ServerClosed: the server is closing.
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
        """Fire timers, set the server's state, and report what the job waits for."""
        timers.run_due(self._schedule)
        if self._closing.is_set():
            raise ServerClosed
        reducing = progress.state in {"reducing", "succeeded"}
        self._manager.state = TaskManager.REDUCING if reducing else TaskManager.MAPPING
        self._report_waiting(progress)
