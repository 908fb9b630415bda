"""Measure a smoothed rate, and the seconds left at an even rate."""

from collections import deque

_MIN_WINDOW_SECONDS = 15.0
"""Seconds that the window spans at least, if they hold enough changes."""
_MIN_CHANGES = 8
"""Changes that the window holds at least: long tasks finish less often than every 15 seconds."""
_MIN_WATCHED_SECONDS = 1.0
"""Seconds between the first and the last change that an estimate of the time left needs."""


class RateMeter:
    """A smoothed rate of a growing count that is looked at now and then.

    The meter keeps only changes, so hours of watching stay small, and the time left counts down
    between two changes instead of jumping. A count that falls (lost work runs again) starts a new
    measurement.
    """

    def __init__(self) -> None:
        self._changes: deque[tuple[float, float]] = deque()
        """(second, count), oldest first."""
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
        # A wait that is over its forecast is likely to take as much time again.
        return max(
            remaining * (last - first) / (after - before) - seconds_unchanged, seconds_unchanged
        )
