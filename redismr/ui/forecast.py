"""Estimate the rate of a stage, and the seconds until the stage is over.

Speed is measured in work per executor-second. So time without workers is no work, a worker that
joins counts at once, and the figure is the same for a watcher who comes late. A running task is
taken to be as far as its time allows at that speed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redismr.core.status_rows import StageProgress

_MIN_EXECUTOR_SECONDS = 1.0  # of finished work, before there is a forecast
_WARMUP_SHARE = 0.25
"""Share of the finished work, the first part, that is left out of the speed while more is known:
executors loaded the code and ran initfn during it."""
_MIN_GROWTH = 1.02  # of the finished work between two points: hours of watching need few points
_SMOOTHING_SECONDS = 3.0
"""Seconds over which a change in the number of busy executors is spread: jobs take turns."""

_MIN_WINDOW_SECONDS = 15.0  # the least span of the window of a rate
_MIN_CHANGES = 8  # the least in the window: long tasks finish less often than every 15 seconds
_MIN_WATCHED_SECONDS = 1.0  # from the first to the last change, before the time left is known


class RateMeter:
    """A smoothed rate of a growing count that is looked at now and then.

    The meter keeps only changes, so hours of watching stay small, and the time left counts down
    between two changes instead of jumping. A count that falls (lost work runs again) starts a new
    measurement.
    """

    def __init__(self) -> None:
        self._changes: deque[tuple[float, float]] = deque()  # (second, count), oldest first
        self._now = 0.0

    def update(self, now: float, count: float) -> None:
        """Note the count at ``now``, in seconds of any steady clock."""
        changes = self._changes
        if changes and count < changes[-1][1]:
            changes.clear()
        if not changes or count != changes[-1][1]:
            changes.append((now, count))
        while len(changes) > _MIN_CHANGES and changes[1][0] < now - _MIN_WINDOW_SECONDS:
            changes.popleft()
        self._now = now

    def rate(self) -> float:
        """Return the count per second up to now; the rate falls while nothing happens."""
        if not self._changes:
            return 0.0
        (first, before), (_, after) = self._changes[0], self._changes[-1]
        return (after - before) / max(self._now - first, 1e-9)

    def seconds_left(self, remaining: float) -> float | None:
        """Return the seconds until ``remaining`` more are done; None while too little is known."""
        if not self._changes:
            return None
        (first, before), (last, after) = self._changes[0], self._changes[-1]
        if last - first < _MIN_WATCHED_SECONDS:
            return None
        seconds_unchanged = self._now - last
        left = remaining * (last - first) / (after - before) - seconds_unchanged
        # A wait that is over its forecast is likely to take as much time again.
        return max(left, seconds_unchanged)


class StageEstimate:
    """The rate of one stage of one job, and the seconds until the stage is over."""

    def __init__(self) -> None:
        self._rate_meter = RateMeter()
        self._work: StageProgress | None = None
        self._now = self._smoothed_busy = 0.0
        self._heaviest_since: float | None = None
        # (executor-seconds spent, amount done), oldest first
        self._points: deque[tuple[float, int]] = deque([(0.0, 0)])

    def update(self, now: float, work: StageProgress) -> None:
        """Note the progress at ``now``, in seconds of any steady clock."""
        self._rate_meter.update(now, work.done)
        if self._work and work.done < self._work.done:  # lost work runs again
            self._points = deque([(0.0, 0)])
            self._heaviest_since = None
        points = self._points
        if len(points) > 2 and work.done < points[-2][1] * _MIN_GROWTH:
            points.pop()
        points.append((work.spent, work.done))
        while len(points) > 2 and points[1][1] <= work.done * _WARMUP_SHARE:
            points.popleft()
        if self._smoothed_busy and work.busy >= 0:
            share = min(1.0, (now - self._now) / _SMOOTHING_SECONDS)
            self._smoothed_busy += (work.busy - self._smoothed_busy) * share
        else:
            self._smoothed_busy = max(0.0, work.busy)  # the first executors count whole at once
        if self._heaviest_since is None and work.index < work.tasks_begun:
            # The heaviest task may have begun earlier, before anybody watched.
            self._heaviest_since = now - work.least
        self._now, self._work = now, work

    def rate(self) -> float:
        """Return items, bytes or tasks per second."""
        return self._rate_meter.rate()

    def seconds_left(self) -> float | None:
        """Return the seconds until the stage is over; None while too little is known."""
        work, speed = self._work, self._speed()
        if not work or work.total is None:
            return None
        if work.busy < 0:  # too many executors to look at each; their work is even
            return self._rate_meter.seconds_left(work.total - work.done)
        if not speed:
            return None
        if work.total <= work.done:
            return 0.0
        tasks_are_waiting = work.tasks is None or work.tasks > work.tasks_begun
        busy: float = min(work.busy, work.tasks_begun - work.tasks_done)
        if tasks_are_waiting:
            busy = self._smoothed_busy
        if busy < 0.05:
            return None
        amount_per_second = speed * busy
        done_estimate = work.done + speed * work.since
        # A stage that is over its forecast is likely to take as much time again: hence abs.
        left = abs(work.total - done_estimate) / amount_per_second
        # Tasks do not end all at once: the share of a task's time that the last one ends later.
        uneven_end = max(0.0, busy - 1) / (2 * busy)
        seconds_to_start = (work.ahead - done_estimate) / amount_per_second
        seconds_to_start -= uneven_end * self._task_seconds(work, speed)
        heaviest = self._heaviest_seconds_left(work, speed, seconds_to_start)
        task = self._task_seconds(work, speed, work.heaviest if heaviest else 0)
        # Case 1: tasks wait for an executor. All that is left counts, and the uneven end.
        if tasks_are_waiting:
            return max(left + uneven_end * task, heaviest)
        # Case 2: every task has begun. The heaviest one, or the one that began last, ends last.
        return max(left, heaviest or task - work.least)

    def _speed(self) -> float:
        """Return the amount that an executor does in a second; 0 if nothing is known."""
        (spent, done), (spent_now, done_now) = self._points[0], self._points[-1]
        if not done and self._points[1][1] <= done_now / 2:
            spent, done = self._points[1]
        if spent_now < _MIN_EXECUTOR_SECONDS:
            return 0.0
        if spent_now <= spent or done_now <= done:
            spent, done = 0.0, 0
        return (done_now - done) / (spent_now - spent)

    def _task_seconds(self, work: StageProgress, speed: float, excluded: int = 0) -> float:
        """Return the mean seconds of a task that is left, one of ``excluded`` size aside; or 0."""
        if work.tasks is None or work.total is None:
            return 0.0
        tasks = work.tasks - work.tasks_done - bool(excluded)
        return max(0, work.total - work.done - excluded) / max(1, tasks) / speed

    def _heaviest_seconds_left(
        self, work: StageProgress, speed: float, seconds_to_start: float
    ) -> float:
        """Return the seconds until the heaviest task is over; 0 if that task may be over already.

        A heaviest task that has not begun begins in ``seconds_to_start``.
        """
        if work.total is None or work.total - work.done < work.heaviest:
            return 0.0
        seconds = work.heaviest / speed
        if self._heaviest_since is None:
            return seconds + max(0.0, seconds_to_start)
        return max(0.0, seconds - (self._now - self._heaviest_since))
