"""What a server does while its job runs: timers, its state in the fork's words, and hints."""

from __future__ import annotations

import sys
import threading
from collections.abc import MutableSequence
from typing import TYPE_CHECKING

from redismr.compat import timers
from redismr.compat.transactions import TaskManager
from redismr.ui.errors import say

if TYPE_CHECKING:
    from redismr.compat.hosting import Host
    from redismr.core.model import Progress


class Closed(Exception):
    """The server was closed: its job is to be cancelled."""


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
        self._host, self._manager, self._schedule = host, manager, schedule
        self._closing, self._told = closing, ""

    def __call__(self, progress: Progress) -> None:
        """Take note of one look at the job."""
        timers.fire(self._schedule)
        if self._closing.is_set():
            raise Closed
        reducing = progress.state in {"reducing", "succeeded"}
        self._manager.state = TaskManager.REDUCING if reducing else TaskManager.MAPPING
        if progress.waiting and progress.waiting != self._told:
            self._told, why = progress.waiting, progress.waiting
            if not self._host.client.workers():
                why = f"no workers yet; to start one: {self._host.how_to_join()}"
            say(f"waiting: {why}", sys.stderr)
