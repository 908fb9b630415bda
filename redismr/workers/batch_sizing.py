"""How many tasks are claimed at once: about 50 ms of work, going by the last ones."""

from __future__ import annotations

from redismr.store import SMALL_JOB_TASKS

BATCH_SECONDS = 0.05
"""A batch is sized to about this much work: 20,000 tasks of 0.1 ms take 64 a round trip, and a
task of a second is claimed alone, so that no other executor waits for it."""

BATCH_TASKS = 64

SMALL_BATCH_SECONDS = 0.003
"""So much work is not worth sharing, and not more is claimed of a job of which none has been run,
as it may be slower than the last one. A job of one item, and its four reducers, came back in 0.66
of the time when one executor took them all, one of eight items in 0.87."""


class BatchSizer:
    """Of one stage of one code and its params: a job is likely to be as quick as the last one."""

    def __init__(self) -> None:
        self._task_seconds = 0.0

    def add_batch(self, seconds: float, tasks: int) -> None:
        """So long took a batch of so many."""
        task_seconds, before = seconds / max(1, tasks), self._task_seconds
        self._task_seconds = task_seconds if before == 0.0 else 0.7 * before + 0.3 * task_seconds

    def small_batch(self) -> int:
        """How many tasks are not worth sharing; one if nothing is known."""
        return self._tasks_in(SMALL_BATCH_SECONDS, SMALL_JOB_TASKS)

    def batch_size(self) -> int:
        """How many tasks to claim; one if nothing is known."""
        return self._tasks_in(BATCH_SECONDS, BATCH_TASKS)

    def _tasks_in(self, seconds: float, most: int) -> int:
        if self._task_seconds == 0.0:
            return 1
        return max(1, min(most, int(seconds / self._task_seconds)))
