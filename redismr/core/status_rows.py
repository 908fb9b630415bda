"""Rows that people see: the progress of a job, the lists of jobs and of workers.

All of it is clear text of the server: a hint for people, never believed by redismr.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from redismr.core.model import Skipped
from redismr.core.work_amount import StageProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is. Totals are None until they are known."""

    job_id: str
    state: str
    #: Tasks that are done; ``maps.done`` counts the items or bytes in them.
    maps_done: int = 0
    #: Tasks that executors hold.
    maps_running: int = 0
    maps_total: int | None = None
    reduces_done: int = 0
    reduces_running: int = 0
    reduces_total: int | None = None
    #: Bytes of all segments that map attempts committed.
    shuffle_bytes: int = 0
    #: Failed attempts so far.
    retries: int = 0
    #: Seconds since the submission.
    elapsed: float = 0.0
    workers: int = 0
    #: Executors of all workers together.
    slots: int = 0
    #: Why no worker takes the job, in words; empty if one does.
    waiting: str = ""
    maps: StageProgress = field(default_factory=StageProgress)
    reduces: StageProgress = field(default_factory=StageProgress)
    #: Given once, with the last progress, when the result has been read.
    skipped: Skipped = field(default_factory=Skipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """One row of ``redismr jobs``."""

    job_id: str
    txn: str
    name: str
    state: str
    maps_done: int
    maps_total: int | None
    reduces_done: int
    reduces_total: int
    #: Seconds since the submission.
    age: float
    #: Seconds until Redis forgets the job.
    ttl: float
    #: Why the job failed, in one line.
    cause: str = ""
    #: True if nothing is left of the job but this row.
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One row of ``redismr workers``."""

    worker_id: str
    host: str
    #: Process id of the supervisor.
    pid: int
    #: ``major.minor`` of the worker's Python.
    python: str
    protocol: int
    #: Fingerprint of the worker's secret.
    key_id: str
    executors: int
    #: Executors that hold a task.
    busy: int
    #: Tasks completed so far.
    tasks: int
    #: Seconds since the supervisor last wrote this row.
    beat_age: float
    #: Why the worker takes no jobs, in words.
    problem: str = ""
    #: True if the supervisor missed three beats: it was killed, stopped or cut off.
    lost: bool = False
