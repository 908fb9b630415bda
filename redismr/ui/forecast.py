"""How long the rest of a stage will take, from how much is done and how long that took.

Speed is measured in executor-seconds: so time without workers is no work, a worker that joins
counts at once, and whoever begins to watch late knows it too. What runs now is taken to have come
as far as its time allows at that speed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from redismr.ui.rate import RateMeter

if TYPE_CHECKING:
    from redismr.core.work_amount import StageProgress

_MIN_EXECUTOR_SECONDS = 1.0
"""Executor-seconds of finished work before a time is named."""

_WARMUP_SHARE = 0.25
"""Of what is done this much, the first, says nothing: executors loaded the code, ran initfn."""

_MIN_GROWTH = 1.02
"""Growth of what is done after which a point is kept: hours of watching stay small."""

_SMOOTHING_SECONDS = 3.0
"""Seconds over which a change in the number of busy executors is spread: jobs take turns."""


class Forecast:
    """The time that is left of one stage of one job."""

    def __init__(self) -> None:
        self._work: StageProgress | None = None
        self._now = 0.0
        self._smoothed_busy = 0.0
        self._heaviest_since: float | None = None
        self._points: deque[tuple[float, int]] = deque([(0.0, 0)])

    def update(self, now: float, work: StageProgress) -> None:
        """Take note of ``work`` as it is at ``now`` (seconds on any steady clock)."""
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
            self._smoothed_busy = max(0.0, work.busy)  # who comes first counts whole at once
        if self._heaviest_since is None and work.index < work.tasks_begun:
            self._heaviest_since = now - work.least  # or earlier, where nobody saw it begin
        self._now, self._work = now, work

    def seconds_left(self) -> float | None:
        """Seconds until the stage is over; None while there is too little to go by."""
        work, speed = self._work, self._speed()
        if not work or work.total is None or not speed or work.busy < 0:
            return None
        if work.total <= work.done:
            return 0.0
        tasks_are_waiting = work.tasks is None or work.tasks > work.tasks_begun
        busy = float(min(work.busy, work.tasks_begun - work.tasks_done))
        if tasks_are_waiting:
            busy = self._smoothed_busy
        if busy < 0.05:
            return None
        done_estimate = work.done + speed * work.since
        # What takes longer than it should is likely to take as long again.
        left = abs(work.total - done_estimate) / (speed * busy)
        uneven_end = max(0.0, busy - 1) / (2 * busy)  # of a task: they do not end all at once
        seconds_to_start = (work.ahead - done_estimate) / (
            speed * busy
        ) - uneven_end * self._task_seconds(work, speed)
        heaviest = self._heaviest_seconds_left(work, speed, seconds_to_start)
        task = self._task_seconds(work, speed, work.heaviest if heaviest else 0)
        if tasks_are_waiting:
            return max(left + uneven_end * task, heaviest)
        return max(left, heaviest or task - work.least)

    def _speed(self) -> float:
        """How much an executor does in a second; 0 if nothing is known."""
        (spent, done), (spent_now, done_now) = self._points[0], self._points[-1]
        if not done and self._points[1][1] <= done_now / 2:
            spent, done = self._points[1]
        if spent_now < _MIN_EXECUTOR_SECONDS:
            return 0.0
        if spent_now <= spent or done_now <= done:
            spent, done = 0.0, 0
        return (done_now - done) / (spent_now - spent)

    def _task_seconds(self, work: StageProgress, speed: float, excluded: int = 0) -> float:
        """How long a task takes of those not finished, ``excluded`` from one; 0 if nobody knows."""
        if work.tasks is None or work.total is None:
            return 0.0
        tasks = work.tasks - work.tasks_done - bool(excluded)
        return max(0, work.total - work.done - excluded) / max(1, tasks) / speed

    def _heaviest_seconds_left(
        self, work: StageProgress, speed: float, seconds_to_start: float
    ) -> float:
        """Seconds until the heaviest task is over, which begins in ``seconds_to_start``; 0 if it may be."""  # noqa: E501
        if work.total is None or work.total - work.done < work.heaviest:
            return 0.0
        seconds = work.heaviest / speed
        if self._heaviest_since is None:
            return seconds + max(0.0, seconds_to_start)
        return max(0.0, seconds - (self._now - self._heaviest_since))


class StageEstimate:
    """What was seen of one stage of one job: how fast it goes, how long the rest will take."""

    def __init__(self) -> None:
        self._rate_meter, self._forecast = RateMeter(), Forecast()
        self._remaining: int | None = None

    def update(self, now: float, work: StageProgress) -> None:
        """Take note of ``work`` as it is at ``now`` (seconds on any steady clock)."""
        self._rate_meter.update(now, work.done)
        self._forecast.update(now, work)
        # Of very many executors nobody looks at each, and their work is even.
        self._remaining = None if work.busy >= 0 or work.total is None else work.total - work.done

    def rate(self) -> float:
        """Items, bytes or tasks per second."""
        return self._rate_meter.rate()

    def seconds_left(self) -> float | None:
        """Seconds until the stage is over; None while there is too little to go by."""
        return (
            self._forecast.seconds_left()
            if self._remaining is None
            else self._rate_meter.seconds_left(self._remaining)
        )
