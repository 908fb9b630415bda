"""Limits of what a task holds in memory before it hands records on.

The data and the option ``memory`` decide when a limit is reached, never time or free memory: a
task that runs again cuts its output at the same records.
"""

from typing import Any

from redismr.core.codec import estimate_bytes

# The most that a map task holds; the bytes are those of the values, estimated from samples.
MAP_BUFFER_KEYS = 1_000_000  # distinct keys
MAP_BUFFER_VALUES = 2_000_000  # values that it cannot add up as they come
MAP_BUFFER_BYTES = 128 << 20
FULL_BUFFER_MEMORY_BYTES = 1 << 30  # with less memory, a proportional share of these three

# The most that a reduce task holds.
RESULT_RECORDS = 50_000
RESULT_BYTES = 4 << 20  # of values, estimated from samples


class BufferLimit:
    """Decides when a buffer is full, by the number of its values and a sample of their sizes."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self.max_count, self._max_bytes = max_count, max_bytes
        self._samples = self._sampled_bytes = 0

    def next_check(self, buffered: int, latest: Any) -> int:
        """Return how many values the buffer must hold at the next call; 0 if the buffer is full.

        ``buffered`` is the number of values it holds, ``latest`` the last of them, as a sample.
        """
        self._samples += 1
        self._sampled_bytes += estimate_bytes(([], [latest])) + 1
        room = self._max_bytes * self._samples // self._sampled_bytes - buffered
        if room <= 0 or buffered >= self.max_count:
            return 0
        # The first checks follow closely: the first values may be huge.
        return min(2 * buffered, buffered + 4096, buffered + room, self.max_count)


def max_map_keys(memory: int | None) -> int:
    """Return the most distinct keys that a map task holds in a process of ``memory`` bytes."""
    if not memory or memory >= FULL_BUFFER_MEMORY_BYTES:
        return MAP_BUFFER_KEYS
    return max(1, int(MAP_BUFFER_KEYS * memory / FULL_BUFFER_MEMORY_BYTES))


def map_buffer_limit(memory: int | None) -> BufferLimit:
    """Return the limit of the values that a map task holds in a process of ``memory`` bytes."""
    if not memory or memory >= FULL_BUFFER_MEMORY_BYTES:
        return BufferLimit(MAP_BUFFER_VALUES, MAP_BUFFER_BYTES)
    share = memory / FULL_BUFFER_MEMORY_BYTES
    return BufferLimit(max(1, int(MAP_BUFFER_VALUES * share)), int(MAP_BUFFER_BYTES * share))


def result_buffer_limit() -> BufferLimit:
    """Return the limit of the results that a reduce task holds."""
    return BufferLimit(RESULT_RECORDS, RESULT_BYTES)
