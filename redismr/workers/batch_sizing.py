"""Decides how many tasks to claim at once: about 50 ms of work, judged by the last batches."""

from redismr.store import SMALL_JOB_TASKS

BATCH_SECONDS = 0.05
"""Approximate work in one batch. 20,000 tasks of 0.1 ms are claimed 64 in a round trip. A task of a
second is claimed alone, so that no other task waits behind it."""

BATCH_TASKS = 64  # most tasks in one batch

SMALL_BATCH_SECONDS = 0.003
"""Work that is not worth sharing among executors. Also the most that is claimed of a job before its
first task has run, because the job may be slower than the last one. A job of one item and four
reducers took 0.66 of the time when one executor took all tasks, a job of eight items 0.87."""


class BatchSizer:
    """Sizes batches for one stage of one code and params: the next job is likely to be as quick."""

    def __init__(self) -> None:
        self._task_seconds = 0.0

    def add_batch(self, seconds: float, tasks: int) -> None:
        """Learn that a batch of ``tasks`` took ``seconds``."""
        task_seconds, before = seconds / max(1, tasks), self._task_seconds
        self._task_seconds = task_seconds if before == 0.0 else 0.7 * before + 0.3 * task_seconds

    def small_batch(self) -> int:
        """Return how many tasks are not worth sharing; 1 before the first batch."""
        return self._tasks_in(SMALL_BATCH_SECONDS, SMALL_JOB_TASKS)

    def batch_size(self) -> int:
        """Return how many tasks to claim; 1 before the first batch."""
        return self._tasks_in(BATCH_SECONDS, BATCH_TASKS)

    def _tasks_in(self, seconds: float, most: int) -> int:
        if self._task_seconds == 0.0:
            return 1
        return max(1, min(most, int(seconds / self._task_seconds)))
