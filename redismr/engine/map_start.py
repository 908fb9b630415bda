"""Where a loop over the pairs of a mapfn begins: at the first record, or in the middle of one."""

from collections.abc import Callable, Iterable, Iterator, MutableSequence
from dataclasses import dataclass, field
from typing import Any

from redismr.engine.buffer_limit import BufferLimit, map_buffer_limit, max_map_keys
from redismr.engine.emitted import choose_value_snapshot
from redismr.engine.program import Program

Cursor = MutableSequence[int]
"""``cursor[0]`` is the ordinal of the record that mapfn works on."""


@dataclass(slots=True)
class MapStart:
    """Where a loop begins: at the first record, or where the native loop stopped."""

    records: Iterator[tuple[Any, Any]]
    """The records to read; the first of them is the one that was begun, if any."""
    max_keys: int  #: Number of keys with which the buffer is full.
    buffer_limit: BufferLimit  #: The limit of values, which has seen those in the buffer.
    snapshot_value: Callable[[Any], Any]  #: Fixes values, and knows the last one in the buffer.
    buffer: dict[Any, Any] = field(default_factory=dict)
    """The totals, or lists of values, that were not yielded."""
    value_lists: dict[Any, list[Any]] = field(default_factory=dict)
    """The values of keys whose total in the buffer is None."""
    buffered: int = 0  #: Number of values in the buffer.
    next_check: int = 1  #: Number of values at which ``buffer_limit`` is to be asked.
    ordinal: int = -1  #: The record that was begun.
    out: Any = None  #: What mapfn returned for it.
    pairs_left: Any = None
    """The pairs of it that are still to be added, or all its output; None if none was begun."""

    def take_begun(self) -> tuple[Any, Any]:
        """Return ``pairs_left`` and ``out``, and let go of them: they may be large."""
        begun = self.pairs_left, self.out
        self.pairs_left = self.out = None
        return begun


def start_of_task(program: Program, records: Iterable[tuple[Any, Any]]) -> MapStart:
    """Return the start of a task."""
    max_keys, buffer_limit = max_map_keys(program.memory), map_buffer_limit(program.memory)
    return MapStart(iter(records), max_keys, buffer_limit, choose_value_snapshot(program))
