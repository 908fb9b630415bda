"""What each executor tells its supervisor, through memory that survives the executor.

A slot is written by one executor and read by the supervisor, also after the executor was killed:
which tasks it holds under which nonce, which one runs, and at which record. Writing the record's
ordinal costs 33 ns, a message on a pipe 2 us.

Consistency: numbers are single aligned words. The text (job, nonce, tasks) has two places; a
sequence number tells which one is valid, and counts after the other was written. So a reader always
finds what was held before or what is held now, also when the writer died in the middle.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import socket
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass
from typing import cast

from redismr.core.printable import printable_text

SLOT_BYTES = 8192
_SEQ, _ORDINAL, _PAIRS, _RUNNING, _TASKS, _STOP, _BUSY, _LENGTH, _LENGTH2 = range(9)
_TEXT_OFFSET = 128


@dataclass(frozen=True, slots=True)
class Holding:
    """What an executor holds: ``tasks`` under ``nonce``, and maybe more under ``next_nonce``.

    ``running`` is the index in ``tasks`` of the one in user code, -1 if none is.
    """

    job: str = ""
    nonce: str = ""
    next_nonce: str = ""
    tasks: tuple[str, ...] = ()
    lease_ms: int = 15_000
    timeout_ms: int = 0
    running: int = -1
    ordinal: int = -1


class Slots:
    """The shared memory of all slots; made before the first fork."""

    def __init__(self, count: int, max_tasks: int | None = None) -> None:
        """``max_tasks`` may be counted in all slots together; None: any number."""
        self._memory = mmap.mmap(-1, count * SLOT_BYTES)
        self._max_tasks = max_tasks
        self.all = [Slot(self._memory, i, self.tasks_left) for i in range(count)]

    def tasks_left(self) -> int | None:
        """How many tasks may still be counted; None: any number."""
        return (
            None
            if self._max_tasks is None
            else self._max_tasks - sum(slot.tasks_counted for slot in self.all)
        )


class Slot:
    """One executor's slot."""

    def __init__(self, memory: mmap.mmap, index: int, tasks_left: Callable[[], int | None]) -> None:
        self.index = index
        self._tasks_left = tasks_left
        view = memoryview(memory)[index * SLOT_BYTES : (index + 1) * SLOT_BYTES]
        self._numbers = view[:_TEXT_OFFSET].cast("q")
        half = (SLOT_BYTES - _TEXT_OFFSET) // 2
        self._text_halves = view[_TEXT_OFFSET : _TEXT_OFFSET + half], view[_TEXT_OFFSET + half :]
        place = self._numbers[_ORDINAL : _PAIRS + 1]
        #: The kernel's cursor: ordinal of the record, pairs emitted.
        self.cursor = cast("MutableSequence[int]", place)
        #: For a child that user code forks: it must not move its parent's cursor.
        self.release_cursor = place.release

    def reset(self) -> None:
        """Forget the previous executor, except how many tasks the slot has done."""
        self._numbers[_BUSY] = 0
        self._numbers[_STOP] = 0
        self.set_holding(Holding())

    def set_holding(self, holding: Holding) -> None:
        """Executor: this is what I hold now, or am about to ask for; none of it runs yet."""
        text = json.dumps(
            [
                holding.job,
                holding.nonce,
                holding.next_nonce,
                holding.tasks,
                holding.lease_ms,
                holding.timeout_ms,
            ]
        ).encode()
        self.set_running(
            -1
        )  # neither what is held now nor what comes is to blame for a death in here
        other = (self._numbers[_SEQ] + 1) % 2
        self._text_halves[other][: len(text)] = text
        self._numbers[_LENGTH + other] = len(text)
        self._numbers[_SEQ] += 1

    def set_running(self, index: int) -> None:
        """Executor: the task of this index is in user code; -1: none is."""
        self._numbers[_RUNNING] = -1  # the record that is forgotten next was not this task's
        self._numbers[_ORDINAL] = -1
        self._numbers[_PAIRS] = 0
        self._numbers[_RUNNING] = index

    def count_task(self) -> None:
        """Executor: one more task was counted."""
        self._numbers[_TASKS] += 1

    def set_busy(self, *, busy: bool) -> None:
        """Executor: working, or waiting for work."""
        self._numbers[_BUSY] = int(busy)

    def request_stop(self) -> None:
        """Supervisor: claim nothing more, give back what has not started, finish, exit."""
        self._numbers[_STOP] = 1

    @property
    def should_stop(self) -> bool:
        """Whether the supervisor asked to stop, or enough tasks are counted."""
        return bool(self._numbers[_STOP]) or self.limit_tasks(1) <= 0

    def limit_tasks(self, tasks: int) -> int:
        """How many of so many tasks may still be counted."""
        left = self._tasks_left()
        return tasks if left is None else min(tasks, left)

    @property
    def is_busy(self) -> bool:
        """Whether the executor is working."""
        return bool(self._numbers[_BUSY])

    @property
    def tasks_counted(self) -> int:
        """Tasks counted in this slot since the supervisor started."""
        return int(self._numbers[_TASKS])

    def read(self) -> Holding | None:
        """Supervisor: what the executor holds; None if it cannot be known just now.

        It can always be known of an executor that has ended.
        """
        for _ in range(100):
            seq = self._numbers[_SEQ]
            raw = bytes(self._text_halves[seq % 2][: self._numbers[_LENGTH + seq % 2]])
            running, ordinal = self._numbers[_RUNNING], self._numbers[_ORDINAL]
            if self._numbers[_SEQ] == seq:
                job, nonce, next_nonce, tasks, lease_ms, timeout_ms = json.loads(raw)
                return Holding(
                    job, nonce, next_nonce, tuple(tasks), lease_ms, timeout_ms, running, ordinal
                )
        return None


@dataclass(frozen=True, slots=True)
class ExecutorSetup:
    """Where an executor stands: its slot, its line to the supervisor, its names, its cores."""

    slot: Slot
    control: socket.socket
    name: str
    cores: int = 1

    def report_problem(self, problem: str) -> None:
        """Let the supervisor say what keeps us from working: once, for all its executors."""
        with contextlib.suppress(OSError):
            line = printable_text(problem, 300).replace("\n", " ")
            self.control.sendall(f"problem {line}\n".encode())
