"""Shared memory in which each executor tells its supervisor what it holds; survives the executor.

One executor writes a slot: which tasks it holds under which nonce, which task runs, and at which
record. The supervisor reads the slot, also after the executor was killed. Writing the ordinal of a
record costs 33 ns, a message on a pipe would cost 2 us.

Consistency: numbers are single aligned words. The text (job, nonce, tasks) has two places. A
sequence number tells which place is valid, and is raised after the other place was written. So a
reader always finds the old text or the new text, also if the writer died in the middle.
"""

import json
import mmap
from collections.abc import Callable, MutableSequence
from typing import NamedTuple, cast

SLOT_BYTES = 8192

# Indexes of the numbers in a slot.
_SEQ = 0  # sequence number of the text
_ORDINAL = 1  # ordinal of the record
_PAIRS = 2  # pairs emitted
_RUNNING = 3  # index of the running task
_TASKS = 4  # tasks counted
_STOP = 5  # 1: stop requested
_BUSY = 6  # 1: busy
_LENGTH = 7  # length of the text in the first place; the next number is that of the second

_TEXT_OFFSET = 128


class Holding(NamedTuple):
    """The tasks that an executor holds.

    All but the last two go into the slot's text, in this order; the last two are its numbers.
    """

    job: str = ""
    nonce: str = ""  #: The nonce of their claim.
    next_nonce: str = ""  #: Of a claim that the server may have granted; its tasks are not known.
    tasks: tuple[str, ...] = ()  #: Claimed under ``nonce``.
    lease_ms: int = 15_000  #: The job's lease.
    timeout_ms: int = 0  #: The job's task_timeout; 0: none.
    running: int = -1  #: Index in ``tasks`` of the task in user code; -1: none.
    ordinal: int = -1  #: Ordinal of the record (or key) in user code; -1: none.


class Slots:
    """The shared memory of all slots. Make it before the first fork."""

    def __init__(self, count: int, max_tasks: int | None = None) -> None:
        """Allow ``max_tasks`` tasks in all slots together; None: any number."""
        memory = mmap.mmap(-1, count * SLOT_BYTES)
        self._max_tasks = max_tasks
        self.all = [Slot(memory, i, self.tasks_left) for i in range(count)]

    def tasks_left(self) -> int | None:
        """Return how many tasks may still be counted; None: any number."""
        if self._max_tasks is None:
            return None
        return self._max_tasks - sum(slot.tasks_counted for slot in self.all)


class Slot:
    """One executor's slot."""

    def __init__(self, memory: mmap.mmap, index: int, tasks_left: Callable[[], int | None]) -> None:
        self.index, self._tasks_left = index, tasks_left
        view = memoryview(memory)[index * SLOT_BYTES : (index + 1) * SLOT_BYTES]
        self._numbers = view[:_TEXT_OFFSET].cast("q")
        half = (SLOT_BYTES - _TEXT_OFFSET) // 2
        self._text_halves = view[_TEXT_OFFSET : _TEXT_OFFSET + half], view[_TEXT_OFFSET + half :]
        place = self._numbers[_ORDINAL : _PAIRS + 1]
        #: The cursor that the kernel moves: ordinal of the record, pairs emitted.
        self.cursor = cast("MutableSequence[int]", place)
        #: Called in a child that user code forks: a child must not move its parent's cursor.
        self.release_cursor = place.release

    def reset(self) -> None:
        """Forget the previous executor, but keep the number of tasks counted in this slot."""
        self._numbers[_BUSY] = self._numbers[_STOP] = 0
        self.set_holding(Holding())

    def set_holding(self, holding: Holding) -> None:
        """Write the tasks held and the next claim's nonce (called by the executor)."""
        text = json.dumps(holding[:-2]).encode()  # ``running`` and ``ordinal`` are numbers
        # A death in here is not the fault of any task.
        self.set_running(-1)
        other = (self._numbers[_SEQ] + 1) % 2
        self._text_halves[other][: len(text)] = text
        self._numbers[_LENGTH + other] = len(text)
        self._numbers[_SEQ] += 1

    def set_running(self, index: int) -> None:
        """Note that the task of this index is in user code; -1: none (called by the executor)."""
        self._numbers[_RUNNING] = -1  # so that no task is read with the record of another
        self._numbers[_ORDINAL] = -1
        self._numbers[_PAIRS] = 0
        self._numbers[_RUNNING] = index

    def count_task(self) -> None:
        """Count one more committed task (called by the executor)."""
        self._numbers[_TASKS] += 1

    def set_busy(self, *, busy: bool) -> None:
        """Note that the executor works, or waits for work (called by the executor)."""
        self._numbers[_BUSY] = int(busy)

    def request_stop(self) -> None:
        """Have the executor finish its task and exit (called by the supervisor)."""
        self._numbers[_STOP] = 1

    @property
    def should_stop(self) -> bool:
        """True if the supervisor asked to stop, or ``max_tasks`` are counted."""
        return bool(self._numbers[_STOP]) or self.limit_tasks(1) <= 0

    def limit_tasks(self, tasks: int) -> int:
        """Return ``tasks``, or fewer if ``max_tasks`` allows only fewer."""
        left = self._tasks_left()
        return tasks if left is None else min(tasks, left)

    @property
    def is_busy(self) -> bool:
        """True if the executor works."""
        return bool(self._numbers[_BUSY])

    @property
    def tasks_counted(self) -> int:
        """Number of tasks counted in this slot since the supervisor started."""
        return int(self._numbers[_TASKS])

    def read(self) -> Holding | None:
        """Return what the executor holds (called by the supervisor).

        None if the executor writes all the time; never None for an executor that has ended.
        """
        for _ in range(100):
            seq = self._numbers[_SEQ]
            raw = bytes(self._text_halves[seq % 2][: self._numbers[_LENGTH + seq % 2]])
            running, ordinal = self._numbers[_RUNNING], self._numbers[_ORDINAL]
            if self._numbers[_SEQ] == seq:
                held = Holding(*json.loads(raw))
                return held._replace(tasks=tuple(held.tasks), running=running, ordinal=ordinal)
        return None
