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

from redismr.core.trace import clean

SLOT_BYTES = 8192
_SEQ, _ORDINAL, _PAIRS, _RUNNING, _TASKS, _STOP, _BUSY, _LENGTH, _LENGTH2 = range(9)
_TEXT = 128


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

    def __init__(self, count: int, most: int | None = None) -> None:
        """``most`` tasks may be counted in all slots together; None: any number."""
        self._memory = mmap.mmap(-1, count * SLOT_BYTES)
        self._most = most
        self.all = [Slot(self._memory, i, self.left) for i in range(count)]

    def left(self) -> int | None:
        """How many tasks may still be counted; None: any number."""
        return None if self._most is None else self._most - sum(slot.tasks for slot in self.all)


class Slot:
    """One executor's slot."""

    def __init__(self, memory: mmap.mmap, index: int, left: Callable[[], int | None]) -> None:
        self.index = index
        self._left = left
        view = memoryview(memory)[index * SLOT_BYTES : (index + 1) * SLOT_BYTES]
        self._words = view[:_TEXT].cast("q")
        half = (SLOT_BYTES - _TEXT) // 2
        self._texts = view[_TEXT : _TEXT + half], view[_TEXT + half :]
        place = self._words[_ORDINAL : _PAIRS + 1]
        #: The kernel's cursor: ordinal of the record, pairs emitted.
        self.cursor = cast("MutableSequence[int]", place)
        #: For a child that user code forks: it must not move its parent's cursor.
        self.let_go = place.release

    def reset(self) -> None:
        """Forget the previous executor, except how many tasks the slot has done."""
        self._words[_BUSY] = 0
        self._words[_STOP] = 0
        self.hold(Holding())

    def hold(self, holding: Holding) -> None:
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
        self.run(-1)  # neither what is held now nor what comes is to blame for a death in here
        other = (self._words[_SEQ] + 1) % 2
        self._texts[other][: len(text)] = text
        self._words[_LENGTH + other] = len(text)
        self._words[_SEQ] += 1

    def run(self, index: int) -> None:
        """Executor: the task of this index is in user code; -1: none is."""
        self._words[_RUNNING] = -1  # the record that is forgotten next was not this task's
        self._words[_ORDINAL] = -1
        self._words[_PAIRS] = 0
        self._words[_RUNNING] = index

    def count_task(self) -> None:
        """Executor: one more task was counted."""
        self._words[_TASKS] += 1

    def set_busy(self, *, busy: bool) -> None:
        """Executor: working, or waiting for work."""
        self._words[_BUSY] = int(busy)

    def stop(self) -> None:
        """Supervisor: claim nothing more, give back what has not started, finish, exit."""
        self._words[_STOP] = 1

    @property
    def stopping(self) -> bool:
        """Whether the supervisor asked to stop, or enough tasks are counted."""
        return bool(self._words[_STOP]) or self.wanted(1) <= 0

    def wanted(self, tasks: int) -> int:
        """How many of so many tasks may still be counted."""
        left = self._left()
        return tasks if left is None else min(tasks, left)

    @property
    def busy(self) -> bool:
        """Whether the executor is working."""
        return bool(self._words[_BUSY])

    @property
    def tasks(self) -> int:
        """Tasks counted in this slot since the supervisor started."""
        return int(self._words[_TASKS])

    def read(self) -> Holding | None:
        """Supervisor: what the executor holds; None if it cannot be known just now.

        It can always be known of an executor that has ended.
        """
        for _ in range(100):
            seq = self._words[_SEQ]
            raw = bytes(self._texts[seq % 2][: self._words[_LENGTH + seq % 2]])
            running, ordinal = self._words[_RUNNING], self._words[_ORDINAL]
            if self._words[_SEQ] == seq:
                job, nonce, next_nonce, tasks, lease_ms, timeout_ms = json.loads(raw)
                return Holding(
                    job, nonce, next_nonce, tuple(tasks), lease_ms, timeout_ms, running, ordinal
                )
        return None


@dataclass(frozen=True, slots=True)
class Post:
    """Where an executor stands: its slot, its line to the supervisor, its names, its cores."""

    slot: Slot
    control: socket.socket
    name: str
    cores: int = 1

    def tell(self, problem: str) -> None:
        """Let the supervisor say what keeps us from working: once, for all its executors."""
        with contextlib.suppress(OSError):
            line = clean(problem, 300).replace("\n", " ")
            self.control.sendall(f"problem {line}\n".encode())
