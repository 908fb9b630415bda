"""The words of the system as data: jobs, tasks, claims, manifests, failures, and their states.

All of it is frozen, and none of it acts. ``JOB_TRANSITIONS`` and ``TASK_TRANSITIONS`` are the one
place where the state machines are written down: the scripts in ``store/lua`` enforce them, a test
compares the two, and ARCHITECTURE.md prints them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, Literal, NamedTuple, Self, TypeVar

PROTOCOL = 4
"""Version of the keys, scripts and sealed formats. A worker takes jobs of its own version only."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Version of this Python. Functions travel as byte code, so workers and submitter need the same."""

PartitionsType = TypeVar("PartitionsType")
_EMPTY_MAPPING: Mapping[Any, Any] = MappingProxyType({})

Stage = Literal["map", "reduce"]
JobState = Literal["submitting", "mapping", "reducing", "succeeded", "failed", "cancelled"]
TaskState = Literal["ready", "leased", "done", "dead"]

CommitStatus = Literal[  # the answer to a commit
    "OK",  # the attempt counts now
    "DUP_OK",  # it counted already
    "FENCED",  # the executor must discard it
    "RESTAGE",  # its staged chunks are gone, so the executor must run it again
]

FailStatus = Literal[  # the state of a task after one of its attempts failed
    "RETRY",  # it runs again, or another attempt of it still runs
    "DEAD",  # its budget is used up, and the job has failed
    "DONE",  # another attempt completed it
    "FENCED",  # the attempt did not hold it any more
    "ENDED",  # the job has ended
    "GONE",  # the job is gone
]

DAY_MS = 86_400_000
MAX_JOB_AGE_MS = 7 * DAY_MS  # until its end: bounds how long a copied job can be replayed
MAX_SKIPPED_KEPT = 1000  # skipped records of a job that are kept in full; all are counted
OnError = str | int | float  # "fail", "skip", or how many records may be skipped (float: of all)

RUNNING_STATES: frozenset[str] = frozenset({"submitting", "mapping", "reducing"})
ENDED_STATES: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

JOB_TRANSITIONS: Mapping[JobState, Mapping[str, JobState]] = {
    # from -> {verb: to}; "advance" is the tail of commit and close
    "submitting": {"close": "mapping", "fail": "failed", "cancel": "cancelled"},
    "mapping": {"advance": "reducing", "fail": "failed", "cancel": "cancelled"},
    "reducing": {
        "advance": "succeeded",
        "invalidate": "mapping",
        "fail": "failed",
        "cancel": "cancelled",
    },
}
TASK_TRANSITIONS: Mapping[TaskState, Mapping[str, TaskState]] = {
    "ready": {"claim": "leased"},
    "leased": {
        "commit": "done",
        "fail": "ready",
        "release": "ready",
        "reclaim": "ready",
        "steal": "ready",
        "exhaust": "dead",
    },
    "done": {"invalidate": "ready"},
}


def task_stage(task: str) -> Stage:
    """Return "map" for ``m12``, "reduce" for ``r3``."""
    return "map" if is_map_task(task) else "reduce"


def is_map_task(task: str) -> bool:
    """True for ``m12``, False for ``r3``."""
    return task[0] == "m"


def task_index(task: str) -> int:
    """Return 12 for ``m12``."""
    return int(task[1:])


def token_of(task: str, nonce: str) -> str:
    """Return the unique name of one attempt: its task and the nonce of its claim."""
    return f"{task}.{nonce}"


@dataclass(frozen=True, slots=True)
class AttemptRef:
    """The name of one attempt in the whole namespace."""

    job: str
    task: str
    token: str  #: ``token_of`` the task and the nonce of the claim.


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """The options of a job, as the submitter sealed them.

    Every process that makes or reads a result believes this record, not the clear text in Redis.
    Times are in ms on the server's clock.
    """

    job_id: str
    txn: str  #: The caller's own label.
    name: str  #: Shown in listings; "" for none.
    python: str  #: ``major.minor`` of the submitter; workers with another do not take the job.
    protocol: int  #: ``PROTOCOL`` of the submitter.
    partitions: int  #: How many reduce tasks there are.
    sort: bool  #: True if the result is in key order.
    code_digest: str  #: SHA-256 of code and params, in hex.
    retries: int  #: How many failed attempts of one task are repeated.
    lost_leases: int  #: How many lost leases of one task are repeated.
    lease_ms: int  #: How long a task stays leased without a renewal.
    task_timeout_ms: int | None  #: Longest time of one attempt; None for no limit.
    memory: int | None  #: Bytes that one executor should take at most; None for no limit.
    priority: int  #: Jobs of higher priority are claimed first.
    seed: int  #: Seed of Python's ``random`` in tasks.
    ttl_ms: int  #: How long the keys stay; the time begins anew while the job runs.
    not_after_ms: int  #: When the job must have ended; bounds the replay of a copied job.
    finish: bool = False  #: True if the code holds a finishfn.
    partitionfn: bool = False  #: True if the code holds a partitionfn.
    backup: bool = True  #: True if a slow task may run a second time beside its first attempt.
    on_error: OnError = "fail"  #: See ``OnError``.
    libraries: Mapping[str, str] = field(default_factory=dict)  #: Name -> version: the submitter's.

    @property
    def submitted_ms(self) -> int:
        """Time of submission, in ms on the server's clock."""
        return self.not_after_ms - MAX_JOB_AGE_MS


@dataclass(frozen=True, slots=True)
class Claim:
    """The tasks that one executor holds under one nonce."""

    job_id: str
    nonce: str  #: One for each claim: with a task's id it makes the token of an attempt.
    state: JobState  #: State of the job after the claim.
    tasks: tuple[str, ...] = ()  #: Empty if there was no task to claim.
    basis: str = ""  #: The opening of the reduce stage; reduce commits must name it.
    now_ms: int = 0  #: Time of the claim on the server's clock.
    sealed_job: tuple[bytes | None, ...] = ()  #: If asked for: spec; if small, code and params.
    wake_count: int = 0  #: How many other workers to wake for the tasks that are left.


class PartSize(NamedTuple):
    """The amount that one attempt wrote for one partition."""

    chunks: int  #: Staged chunks; 0 if the data is inline in the manifest.
    records: int  #: Pairs for reducers, or results.
    raw_bytes: int  #: Bytes before compression.


@dataclass(frozen=True, slots=True)
class TracebackLine:
    """One line of a traceback in user code."""

    file: str
    line: int
    function: str
    text: str  #: The line of source, without its indentation; "" if unknown.


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The reason why one attempt failed, as text: exceptions never cross processes as objects."""

    #: "error"; "crash" (the process died); "timeout"; "lost" (the lease ran out); "skipped" (the
    #: record was left out); "library" (that worker lacks a library, or has another version).
    kind: str
    stage: Stage
    task: str
    #: The user function: mapfn, combinefn, partitionfn, reducefn, source or code; "" for redismr.
    function: str
    error_module: str  #: Module of the exception's class.
    error_name: str  #: Qualified name of the exception's class.
    message: str
    frames: tuple[TracebackLine, ...] = ()  #: The user's frames, the outermost one first.
    where: str = ""  #: The record in words: "record 2001 of logs/a.gz (line 2001, byte 104417)".
    key: str = ""  #: Short repr of the key.
    value: str = ""  #: Short repr of the value.
    host: str = ""
    pid: int = 0
    attempt: int = 1  #: Number of this attempt, from 1.
    attempts: int = 1  #: How many attempts the task may have.
    python: str = ""  #: ``major.minor.micro`` of the worker's Python.
    notes: tuple[str, ...] = ()  #: Its notes, a group's members, and the error before it.
    retryable: bool = True  #: False if every other attempt would fail in the same way.


class Skipped(tuple[Failure, ...]):  # noqa: SLOT001 - a tuple with slots cannot have an attribute
    """The records (and keys of reducefn) that were left out: the first of ``total`` in full."""

    total: int

    def __new__(cls, kept: Iterable[Failure] = (), total: int = 0) -> Self:
        """Make a tuple of the failures known in full, out of ``total``."""
        self = super().__new__(cls, kept)
        self.total = max(total, len(self))
        return self

    def plus(self, other: Skipped) -> Skipped:
        """Return both, in this order; at most ``MAX_SKIPPED_KEPT`` in full."""
        return Skipped((*self, *other)[:MAX_SKIPPED_KEPT], self.total + other.total)


@dataclass(frozen=True, slots=True)
class Provenance:
    """The worker that made some data, and its libraries: shown when the data cannot be read."""

    made_by: str = ""  #: Host and process, for people.
    libraries: Mapping[str, str] = field(default_factory=dict)  #: Name -> version.


class MapManifest(NamedTuple):
    """All that one map attempt wrote. What no committed manifest names does not exist.

    A tuple, because each executor makes one for every map task: 0.5 us, a frozen dataclass 1.2 us.
    """

    task: str
    token: str
    parts: Mapping[int, PartSize] = _EMPTY_MAPPING  #: Staged chunks by partition.
    #: Encoded blocks by partition: a small map task needs no segment at all.
    inline: Mapping[int, tuple[bytes, ...]] = _EMPTY_MAPPING
    records_in: int = 0  #: Records of the split.
    records_out: int = 0  #: Pairs after combining.
    counters: Mapping[str, int] = _EMPTY_MAPPING  #: What ``count`` added, by name.
    skipped: Skipped = Skipped()  #: Records that this attempt left out.
    provenance: Provenance = Provenance()


class ResultManifest(NamedTuple):
    """The result of one partition, and the map attempts that it was made from.

    Sums over those maps stand here too, so that map records can be freed with the segments.
    """

    task: str
    token: str
    basis: str  #: The opening of the reduce stage; equal in all partitions of one result.
    maps: int  #: How many map tasks there were.
    maps_digest: str  #: ``maps_digest_of`` their tokens; equal in all partitions of one result.
    part: PartSize  #: The amount of results.
    inline: tuple[bytes, ...] = ()  #: The frames of a small result.
    has_irregular_keys: bool = False  #: True if a key may belong elsewhere, or come twice.
    counters: Mapping[str, int] = _EMPTY_MAPPING  #: What reducefn counted in this partition.
    map_counters: Mapping[str, int] = _EMPTY_MAPPING  #: What map functions counted, over all maps.
    records_in: int = 0  #: Records that all maps read.
    skipped: Skipped = Skipped()  #: Keys that were left out in this partition.
    #: Records that all maps left out; in full only in the result of partition 0.
    map_skipped: Skipped = Skipped()
    provenance: Provenance = Provenance()


@dataclass(frozen=True, slots=True)
class CollectedResult(Generic[PartitionsType]):
    """What a job that succeeded leaves to its reader."""

    partitions: PartitionsType
    counters: dict[str, int]  #: What user functions counted: name -> amount.
    skipped: Skipped  #: Records and keys that ``on_error`` left out.


@dataclass(frozen=True, slots=True)
class Crash:
    """The record that mapfn worked on when the process of a map attempt ended."""

    ordinal: int  #: Number of the record in its split, from 0; -1 if no record is to blame.
    name: str  #: Name of the error: "WorkerDied" or "TaskTimeout".
    what: str  #: How the process ended, in words.
