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
from typing import Any, Literal, NamedTuple, Self

PROTOCOL = 4
"""Version of the keys, scripts and sealed formats. A worker takes jobs of its own version only."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Version of this Python. Functions travel as byte code, so workers and submitter need the same."""

Stage = Literal["map", "reduce"]
JobState = Literal["submitting", "mapping", "reducing", "succeeded", "failed", "cancelled"]
TaskState = Literal["ready", "leased", "done", "dead"]

CommitStatus = Literal["OK", "DUP_OK", "FENCED", "RESTAGE"]
"""Answer to a commit: the attempt counts now; it counted already; the executor must discard it; its
staged chunks are gone, so the executor must run it again."""

FailStatus = Literal["RETRY", "DEAD", "DONE", "FENCED", "ENDED", "GONE"]
"""State of a task after one of its attempts failed: it will be tried again; its budget is used up
and the job failed; another attempt completed it; another attempt holds it; the job has ended; the
job is gone."""

MAX_JOB_AGE_MS = 7 * 86_400_000
"""Most time from a job's submission to its end: bounds how long a copied job can be replayed."""

MAX_SKIPPED_KEPT = 1000
"""Most skipped records of a job that are kept in full: the first ones. All are counted."""

OnError = str | int | float
"""What to do with a bad record: "fail", "skip", or how many may be skipped (float: of all)."""

RUNNING_STATES: frozenset[str] = frozenset({"submitting", "mapping", "reducing"})
ENDED_STATES: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})

JOB_TRANSITIONS: Mapping[str, Mapping[str, str]] = {
    # from -> {verb: to}; "advance" is the tail of commit and close
    "submitting": {"close": "mapping", "fail": "failed", "cancel": "cancelled"},
    "mapping": {
        "advance": "reducing",
        "fail": "failed",
        "cancel": "cancelled",
    },
    "reducing": {
        "advance": "succeeded",
        "invalidate": "mapping",
        "fail": "failed",
        "cancel": "cancelled",
    },
}
TASK_TRANSITIONS: Mapping[str, Mapping[str, str]] = {
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
    """The name of one attempt, as scripts that commit, fail or release it take it."""

    job: str
    task: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """The options of a job, as the submitter sealed them.

    Every process that makes or reads a result believes this record, not the clear text in Redis.
    Times are in ms on the server's clock.
    """

    job_id: str
    #: The caller's own label.
    txn: str
    name: str
    #: ``major.minor`` of the submitter's Python. Workers with another one do not take the job.
    python: str
    #: ``PROTOCOL`` of the submitter.
    protocol: int
    #: How many reduce tasks there are.
    partitions: int
    #: True if the result is in key order.
    sort: bool
    #: SHA-256 of code and params, in hex.
    code_digest: str
    #: How many failed attempts of one task are repeated.
    retries: int
    #: How many lost leases of one task are repeated.
    lost_leases: int
    lease_ms: int
    #: Longest time of one attempt; None for no limit.
    task_timeout_ms: int | None
    #: Bytes that one executor should take at most; None for no limit.
    memory: int | None
    #: Jobs of higher priority are claimed first.
    priority: int
    #: Seed of Python's ``random`` in tasks.
    seed: int
    #: How long the result stays after the end of the job.
    ttl_ms: int
    #: When the job must have ended; bounds the replay of a copied job.
    not_after_ms: int
    #: True if the code holds a finishfn.
    finish: bool = False
    #: True if the code holds a partitionfn.
    partitionfn: bool = False
    #: True if a slow task may run a second time beside its first attempt.
    backup: bool = True
    on_error: OnError = "fail"
    #: Name -> version of the libraries that the submitter had loaded.
    libraries: Mapping[str, str] = field(default_factory=dict)

    @property
    def submitted_ms(self) -> int:
        """Time of submission, in ms on the server's clock."""
        return self.not_after_ms - MAX_JOB_AGE_MS


@dataclass(frozen=True, slots=True)
class Claim:
    """The tasks that one executor holds under one nonce."""

    job_id: str
    nonce: str
    #: State of the job after the claim.
    state: str
    #: Empty if there was no task to claim.
    tasks: tuple[str, ...] = ()
    #: The opening of the reduce stage; reduce commits must name it.
    basis: str = ""
    #: Time of the claim on the server's clock.
    now_ms: int = 0
    #: If asked for: the sealed spec; where they are small, also code and params.
    sealed_job: tuple[bytes | None, ...] = ()
    #: How many other workers to wake for the tasks that are left.
    wake_count: int = 0


@dataclass(frozen=True, slots=True)
class PartSize:
    """The amount that one attempt wrote for one partition."""

    #: Staged chunks; 0 if the data is inline in the manifest.
    chunks: int
    records: int
    #: Bytes before compression.
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a traceback in user code."""

    file: str
    line: int
    function: str
    text: str


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
    error_module: str
    #: Qualified name of the exception's class.
    error_name: str
    message: str
    #: The user's frames, the outermost one first.
    frames: tuple[Frame, ...] = ()
    #: The record in words: "record 2001 of logs/a.gz (line 2001, byte 104417)".
    where: str = ""
    #: Short repr of the key.
    key: str = ""
    #: Short repr of the value.
    value: str = ""
    host: str = ""
    pid: int = 0
    #: Number of this attempt, from 1.
    attempt: int = 1
    #: How many attempts the task may have.
    attempts: int = 1
    #: ``major.minor.micro`` of the worker's Python.
    python: str = ""
    notes: tuple[str, ...] = ()
    #: False if every other attempt would fail in the same way.
    retryable: bool = True


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

    #: Host and process, for people.
    made_by: str = ""
    #: Name -> version.
    libraries: Mapping[str, str] = field(default_factory=dict)


_EMPTY_MAPPING: Mapping[Any, Any] = MappingProxyType({})


class MapManifest(NamedTuple):
    """All that one map attempt wrote. What no committed manifest names does not exist.

    A tuple, because each executor makes one for every map task: 0.5 us, a frozen dataclass 1.2 us.
    """

    task: str
    token: str
    #: Staged chunks by partition.
    parts: Mapping[int, PartSize] = _EMPTY_MAPPING
    #: Encoded blocks by partition: a small map task needs no segment at all.
    inline: Mapping[int, tuple[bytes, ...]] = _EMPTY_MAPPING
    records_in: int = 0
    records_out: int = 0
    #: What ``count`` added, by name.
    counters: Mapping[str, int] = _EMPTY_MAPPING
    #: Records that this attempt left out.
    skipped: Skipped = Skipped()
    provenance: Provenance = Provenance()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultManifest:
    """The result of one partition, and the map attempts that it was made from.

    Sums over those maps stand here too, so that map records can be freed with the segments.
    """

    task: str
    token: str
    #: The opening of the reduce stage; equal in all partitions of one result.
    basis: str
    #: How many map tasks there were.
    maps: int
    #: ``maps_digest_of`` their tokens; equal in all partitions of one result.
    maps_digest: str
    part: PartSize
    #: The frames of a small result.
    inline: tuple[bytes, ...] = ()
    #: True if reducefn gave other keys than it was given: one may belong elsewhere, or come twice.
    has_irregular_keys: bool = False
    #: What reduce functions counted in this partition.
    counters: Mapping[str, int] = field(default_factory=dict)
    #: What map functions counted, over all maps.
    map_counters: Mapping[str, int] = field(default_factory=dict)
    #: Records that all maps read.
    records_in: int = 0
    #: Keys that were left out in this partition.
    skipped: Skipped = field(default_factory=Skipped)
    #: Records that all maps left out; in full only in the result of partition 0.
    map_skipped: Skipped = field(default_factory=Skipped)
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class Crash:
    """The record that mapfn worked on when the process of a map attempt ended."""

    #: Number of the record in its split, from 0.
    ordinal: int
    #: The record in words, for people.
    name: str
    #: How the process ended, in words.
    what: str
