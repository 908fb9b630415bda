"""How fast something gets done, and how long the rest will take if it is done evenly."""

from __future__ import annotations

from collections import deque

_MIN_WINDOW_SECONDS = 15.0
"""Seconds looked back over at least, where that holds enough changes."""
_MIN_CHANGES = 8
"""Changes looked back over at least: long tasks finish less often than the window turns."""
_MIN_WATCHED_SECONDS = 1.0
"""Seconds to have watched before naming a time that is left."""


class RateMeter:
    """A smoothed rate from a growing count, seen now and then.

    Only changes are kept, so that hours of watching stay small, and the time left counts down
    between two changes instead of jumping. A count that falls (lost work runs again) starts anew.
    """

    def __init__(self) -> None:
        self._changes: deque[tuple[float, float]] = deque()
        self._now = 0.0

    def update(self, now: float, count: float) -> None:
        """Take note that ``count`` is reached at ``now`` (seconds on any steady clock)."""
        changes = self._changes
        if changes and count < changes[-1][1]:
            changes.clear()
        if not changes or count != changes[-1][1]:
            changes.append((now, count))
        while len(changes) > _MIN_CHANGES and changes[1][0] < now - _MIN_WINDOW_SECONDS:
            changes.popleft()
        self._now = now

    def rate(self) -> float:
        """Per second, up to now: falls while nothing happens."""
        if not self._changes:
            return 0.0
        (first, before), (_, after) = self._changes[0], self._changes[-1]
        return (after - before) / max(self._now - first, 1e-9)

    def seconds_left(self, remaining: float) -> float | None:
        """Seconds until ``remaining`` more are done, or None while there is too little to go by."""
        if not self._changes:
            return None
        (first, before), (last, after) = self._changes[0], self._changes[-1]
        if last - first < _MIN_WATCHED_SECONDS:
            return None
        seconds_unchanged = self._now - last
        # What has kept us waiting for so long is likely to take as long again.
        return max(
            remaining * (last - first) / (after - before) - seconds_unchanged, seconds_unchanged
        )
