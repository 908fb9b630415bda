"""Rows that people see: the progress of a job, the lists of jobs and of workers.

All of it is clear text of the server: a hint for people, never believed by redismr.
"""

from dataclasses import dataclass, field
from typing import Literal

from redismr.core.model import JobState, Skipped
from redismr.core.work_amount import StageProgress


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
    protocol: int  #: ``PROTOCOL`` of the worker: it takes only jobs of this one.
    key_id: str  #: Fingerprint of the worker's secret.
    executors: int  #: Executors that the worker runs.
    busy: int  #: Executors that hold a task.
    tasks: int  #: Tasks completed so far.
    beat_age: float  #: Seconds since the supervisor last wrote this row.
    problem: str = ""  #: Why the worker takes no jobs, in words.
    lost: bool = False  #: True if it missed three beats: it was killed, stopped or cut off.
