"""How many tasks are claimed at once: about 50 ms of work, going by the last ones."""

from __future__ import annotations

BATCH_SECONDS = 0.05
"""A batch is sized to about this much work: 20,000 tasks of 0.1 ms take 64 a round trip, and a
task of a second is claimed alone, so that no other executor waits for it."""

BATCH_TASKS = 64

FIRST = 16
"""Of a job of which none has been run so small a part of a batch is claimed, 3 ms of work: it may
be slower than the last one."""


class Pace:
    """Of one stage of one code and its params: a job is likely to be as quick as the last one."""

    def __init__(self) -> None:
        self._task_seconds = 0.0

    def note(self, seconds: float, tasks: int) -> None:
        """So long took a batch of so many."""
        each, before = seconds / max(1, tasks), self._task_seconds
        self._task_seconds = each if before == 0.0 else 0.7 * before + 0.3 * each

    def guess(self) -> int:
        """How many tasks to claim of a job of which none has been run."""
        return max(1, self.want() // FIRST)

    def want(self) -> int:
        """How many tasks to claim; one if nothing is known."""
        if self._task_seconds == 0.0:
            return 1
        return max(1, min(BATCH_TASKS, int(BATCH_SECONDS / self._task_seconds)))
