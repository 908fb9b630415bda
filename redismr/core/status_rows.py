"""Rows that people see: the progress of a job, the lists of jobs and of workers.

All of it is clear text of the server: a hint for people, never believed by redismr. Work is counted
in items or bytes, because tasks differ in size.
"""

from dataclasses import dataclass, field
from typing import Literal, Self

from redismr.core.model import JobState, Skipped

WORK_UNITS = frozenset({"items", "bytes", "tasks"})


@dataclass(frozen=True, slots=True, kw_only=True)
class StageProgress:
    """The progress of one stage at one moment. Clear text of the server: a hint for people."""

    unit: str = "tasks"  #: What ``done`` and ``total`` count: "items", "bytes" or "tasks".
    done: int = 0  #: Amount of the tasks that are done.
    total: int | None = None  #: Amount of all tasks; None while unknown.
    spent: float = 0.0  #: Executor-seconds that the done tasks took.
    busy: int = 0  #: Executors that run a task; -1 if they are too many to look at.
    since: float = 0.0  #: Seconds that the running tasks have run so far, together.
    least: float = 0.0  #: Seconds that the latest of them has run.
    tasks: int | None = None  #: How many tasks there are; None while unknown.
    tasks_done: int = 0  #: Tasks that are done.
    tasks_begun: int = 0  #: Tasks that are done or running.
    heaviest: int = 0  #: The heaviest task, as in ``InputAmount``.
    index: int = 0  #: See ``InputAmount``.
    ahead: int = 0  #: See ``InputAmount``.


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a job. Totals are None until they are known."""

    job_id: str
    state: JobState | Literal[""]  #: "" if the keys of the job vanished.
    maps_done: int = 0  #: Tasks that are done; ``maps.done`` counts the items or bytes in them.
    maps_running: int = 0  #: Tasks that executors hold.
    maps_total: int | None = None  #: Map tasks; None until the input is complete.
    reduces_done: int = 0  #: Tasks that are done.
    reduces_running: int = 0  #: Tasks that executors hold.
    reduces_total: int | None = None  #: Reduce tasks; 0 for an empty input.
    shuffle_bytes: int = 0  #: Bytes of all segments that map attempts committed.
    retries: int = 0  #: Failed attempts so far.
    elapsed: float = 0.0  #: Seconds since the submission.
    workers: int = 0  #: Living workers that can run the job; 0 once it has succeeded.
    slots: int = 0  #: Executors of these workers together.
    waiting: str = ""  #: Why no worker takes the job, in words; empty if one does.
    maps: StageProgress = field(default_factory=StageProgress)  #: The work in the map stage.
    reduces: StageProgress = field(default_factory=StageProgress)  #: The work in the reduce stage.
    skipped: Skipped = field(default_factory=Skipped)  #: Given once, when the result was read.


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """One row of ``redismr jobs``."""

    job_id: str
    txn: str  #: The caller's own label; the job id if none was given.
    name: str  #: The option ``name``; "" for none.
    state: str  #: A ``JobState``.
    maps_done: int  #: Map tasks that are done.
    maps_total: int | None  #: Map tasks; None until the input is complete.
    reduces_done: int  #: Reduce tasks that are done.
    reduces_total: int  #: Reduce tasks.
    age: float  #: Seconds since the submission.
    ttl: float  #: Seconds until Redis forgets the job.
    cause: str = ""  #: Why the job failed, in one line.
    deleted: bool = False  #: True if nothing is left of the job but this row.


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One row of ``redismr workers``."""

    worker_id: str
    host: str
    pid: int  #: Process id of the supervisor.
    python: str  #: ``major.minor`` of the worker's Python.
    native: bool  #: True if the worker has the C extension, which makes it faster.
    protocol: int  #: ``PROTOCOL`` of the worker: it takes only jobs of this one.
    key_id: str  #: Fingerprint of the worker's secret.
    executors: int  #: Executors that the worker runs.
    busy: int  #: Executors that hold a task.
    tasks: int  #: Tasks completed so far.
    beat_age: float  #: Seconds since the supervisor last wrote this row.
    problem: str = ""  #: Why the worker takes no jobs, in words.
    lost: bool = False  #: True if it missed three beats: it was killed, stopped or cut off.


@dataclass(slots=True)
class InputAmount:
    """The input of a job as far as it was added: its amount, and its heaviest task.

    A new object for each task would cost the submitter a tenth of the time of a one-item task.
    """

    total: int = 0  #: Amount of all tasks.
    heaviest: int = 0  #: Amount of the heaviest task.
    index: int = 0  #: Index of the heaviest task.
    ahead: int = 0  #: Amount of all tasks before the heaviest one.

    def add(self, index: int, amount: int) -> None:
        """Add the task ``index``, which comes after all others.

        >>> input_amount = InputAmount()
        >>> for index, amount in enumerate((3, 5, 5)):
        ...     input_amount.add(index, amount)
        >>> input_amount
        InputAmount(total=13, heaviest=5, index=1, ahead=3)
        """
        if amount > self.heaviest:
            self.heaviest, self.index, self.ahead = amount, index, self.total
        self.total += amount

    def __str__(self) -> str:
        return f"{self.total} {self.heaviest} {self.index} {self.ahead}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the amount that ``str`` wrote; an empty one for what others wrote into Redis.

        >>> InputAmount.parse("13 5 1 3"), InputAmount.parse("13 x") == InputAmount()
        (InputAmount(total=13, heaviest=5, index=1, ahead=3), True)
        """
        words = text.split(" ")
        if len(words) != 4 or not all(w.isdecimal() and w.isascii() and len(w) < 16 for w in words):
            return cls()
        return cls(*map(int, words))
