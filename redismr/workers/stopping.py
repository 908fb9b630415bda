"""Ends a worker by grades: finish the running tasks first; when asked again, end at once."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from types import FrameType

from redismr.workers.child import Child
from redismr.workers.executor import STOP_WAIT_SECONDS
from redismr.workers.executor_exits import ExecutorExits
from redismr.workers.server_health import Duty

log = logging.getLogger("redismr.worker")


class Grade(IntEnum):
    """The degree to which a worker is asked to stop."""

    WORK = 0
    DRAIN = 1  #: Claim nothing more, finish the running tasks, give back the others.
    STOP_NOW = 2  #: Kill all executors, and give back their tasks when they are dead.


class Stopping:
    """Raises the grade of one worker, and does what each grade asks for."""

    def __init__(
        self, children: Mapping[int, Child], exits: ExecutorExits, run_duty: Callable[[Duty], None]
    ) -> None:
        self._children, self._exits, self._run_duty = children, exits, run_duty
        self.grade = Grade.WORK
        self._signals = 0
        self._report_deadline = math.inf  #: Until when Redis is tried with unreported exits.

    def on_signal(self, _number: int, _frame: FrameType | None) -> None:
        """Count a signal; the supervisor's loop wakes up and calls ``apply_signals``."""
        self._signals += 1

    def apply_signals(self) -> None:
        """Raise the grade as the signals since the last call ask for."""
        if self._signals and self.grade == Grade.WORK:
            log.info("finishing the running tasks" if self._children else "stopping")
            self.drain()
        if self._signals > 1 and self.grade == Grade.DRAIN:
            log.info("asked again: stopping at once")
            self.stop_now()

    def drain(self) -> None:
        """Have each executor finish its task; give back the tasks behind it."""
        self.grade = max(self.grade, Grade.DRAIN)
        for child in self._children.values():
            child.slot.request_stop()
            child.wake()
        self._run_duty(self._release_unstarted)

    def _release_unstarted(self) -> None:
        for child in self._children.values():
            holding = child.slot.read()
            if holding and 0 <= holding.running < len(holding.tasks) - 1 and not child.kill_reason:
                # If the executor has begun the next task meanwhile, its commit is FENCED.
                self._exits.release(child, holding, holding.tasks[holding.running + 1 :])

    def stop_now(self) -> None:
        """Kill all executors. Their exits give back what they held."""
        self.grade = Grade.STOP_NOW
        for child in self._children.values():
            child.kill("stopped by its supervisor")

    def stop_without_client(self) -> None:
        """Stop at once, because the client is gone; mostly its server went with it."""
        self._report_deadline = time.monotonic()  # so Redis is tried once
        self.stop_now()

    def waits_for_redis(self) -> bool:
        """True if exits are not reported, and Redis may still come back in time for them."""
        if not self._exits.unreported:
            return False
        if self.grade and self._report_deadline == math.inf:
            self._report_deadline = time.monotonic() + STOP_WAIT_SECONDS
        return time.monotonic() < self._report_deadline
