"""The words of the system as data: jobs, tasks, claims, manifests, failures, and their states.

Nothing here does anything; everything here is frozen. ``JOB_TRANSITIONS`` and
``TASK_TRANSITIONS`` are the one place where the state machines are written down: the scripts in
``store/lua`` enforce them, a test compares the two, ARCHITECTURE.md prints them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Self

from redismr.core.work_amount import StageProgress

PROTOCOL = 4
"""Version of the keys, scripts and sealed formats. Workers of another one do not take a job."""

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""Functions travel as byte code: a job's workers run the Python of its submitter."""

Stage = Literal["map", "reduce"]
JobState = Literal["submitting", "mapping", "reducing", "succeeded", "failed", "cancelled"]
TaskState = Literal["ready", "leased", "done", "dead"]

CommitStatus = Literal["OK", "DUP_OK", "FENCED", "RESTAGE"]
"""Counted now; counted before; to be discarded; staged chunks are gone, so run it again."""

FailStatus = Literal["RETRY", "DEAD", "DONE", "FENCED", "ENDED", "GONE"]
"""What became of a task of which one attempt failed: to be tried again; out of budget, and the job
with it; done by another attempt; not held by that attempt; its job has ended; its job is gone."""

MAX_JOB_AGE_MS = 7 * 86_400_000
"""How long after its submission a job may run at all: bounds the replay of a copied one."""

MAX_SKIPPED_KEPT = 1000
"""Of all that is skipped so many are kept in full, the first ones; all are counted."""

OnError = str | int | float
"""What becomes of a bad record: "fail", "skip", or how many (a fraction: of all) may be skipped."""

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
    """``m12`` is a map task, ``r3`` a reduce task."""
    return "map" if is_map_task(task) else "reduce"


def is_map_task(task: str) -> bool:
    """True for ``m12``, False for ``r3``."""
    return task[0] == "m"


def task_index(task: str) -> int:
    """``m12`` -> 12."""
    return int(task[1:])


def token_of(task: str, nonce: str) -> str:
    """The unique name of one attempt: the task and the nonce of the claim that began it."""
    return f"{task}.{nonce}"


@dataclass(frozen=True, slots=True)
class AttemptRef:
    """The name of one attempt, for all who fail, release or report it."""

    job: str
    task: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What was asked for. Sealed as a whole; believed by everyone who makes or reads a result.

    Times in ms on the server's clock. ``python`` is ``major.minor`` of the submitter; workers of
    another one report and pass. ``not_after_ms`` bounds the replay of a whole job. ``finish`` and
    ``partitionfn`` say that the code holds such a function for whoever reads the result.
    ``backup`` lets a slow task run a second time beside the first. ``libraries`` are those that the
    submitter had loaded, with their versions.
    """

    job_id: str
    txn: str
    name: str
    python: str
    protocol: int
    partitions: int
    sort: bool
    code_digest: str
    retries: int
    lost_leases: int
    lease_ms: int
    task_timeout_ms: int | None
    memory: int | None
    priority: int
    seed: int
    ttl_ms: int
    not_after_ms: int
    finish: bool = False
    partitionfn: bool = False
    backup: bool = True
    on_error: OnError = "fail"
    libraries: Mapping[str, str] = field(default_factory=dict)

    @property
    def submitted_ms(self) -> int:
        """When it was submitted."""
        return self.not_after_ms - MAX_JOB_AGE_MS


@dataclass(frozen=True, slots=True)
class Claim:
    """The tasks one executor holds under one nonce; empty ``tasks`` when there was nothing.

    ``state`` is the job's state after the claim, ``basis`` what reduce commits must name,
    ``now_ms`` the server's clock; ``sealed_job``, if it was asked for, the sealed spec, and, if
    they
    are small, code and params; ``wake_count``, how many others to wake for what it leaves.
    """

    job_id: str
    nonce: str
    state: str
    tasks: tuple[str, ...] = ()
    basis: str = ""
    now_ms: int = 0
    sealed_job: tuple[bytes | None, ...] = ()
    wake_count: int = 0


@dataclass(frozen=True, slots=True)
class PartSize:
    """What one attempt wrote for one partition: staged chunks, records in them, raw bytes."""

    chunks: int
    records: int
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
    """Why one attempt failed, as text: an exception never crosses a process as an object.

    ``function`` names the user function (mapfn, combinefn, partitionfn, reducefn, source, code or
    "" for the engine itself). ``where`` is the record in words ("record 2001 of logs/a.gz (line
    2001, byte 104417)"), ``key`` and ``value`` are short reprs. ``kind`` is "error", "crash" (the
    process died), "timeout", "lost" (the lease ran out), "skipped" (the record was left out) or
    "library" (one is missing on that worker, or of another version).
    """

    kind: str
    stage: Stage
    task: str
    function: str
    error_module: str
    error_name: str
    message: str
    frames: tuple[Frame, ...] = ()
    where: str = ""
    key: str = ""
    value: str = ""
    host: str = ""
    pid: int = 0
    attempt: int = 1
    attempts: int = 1
    python: str = ""
    notes: tuple[str, ...] = ()
    retryable: bool = True


class Skipped(tuple[Failure, ...]):  # noqa: SLOT001 - a tuple with slots cannot have an attribute
    """The records (and keys of reducefn) that were left out: the first ones of ``total``."""

    total: int

    def __new__(cls, kept: Iterable[Failure] = (), total: int = 0) -> Self:
        """``total`` of which these are known in full."""
        self = super().__new__(cls, kept)
        self.total = max(total, len(self))
        return self

    def plus(self, other: Skipped) -> Skipped:
        """Both, in this order; at most ``MAX_SKIPPED_KEPT`` in full."""
        return Skipped((*self, *other)[:MAX_SKIPPED_KEPT], self.total + other.total)


@dataclass(frozen=True, slots=True)
class Provenance:
    """By whom data was made, for people, and with which libraries: name -> version."""

    made_by: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)


_EMPTY_MAPPING: Mapping[Any, Any] = MappingProxyType({})


class MapManifest(NamedTuple):
    """All that one map attempt wrote. What no committed manifest names does not exist.

    A tuple, as each executor makes those of all map tasks: in 0.5 us, a frozen dataclass in 1.2.

    ``inline`` holds the encoded blocks of a small output itself, by partition, so that a small
    map task needs no segment at all; ``parts`` names the staged chunks of a larger one.
    ``skipped`` are the records that were left out, ``provenance`` says by whom and with what.
    """

    task: str
    token: str
    parts: Mapping[int, PartSize] = _EMPTY_MAPPING
    inline: Mapping[int, tuple[bytes, ...]] = _EMPTY_MAPPING
    records_in: int = 0
    records_out: int = 0
    counters: Mapping[str, int] = _EMPTY_MAPPING
    skipped: Skipped = Skipped()
    provenance: Provenance = Provenance()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultManifest:
    """The result of one partition, and from what it was made.

    ``basis`` and ``maps_digest`` name the map attempts it was made from; they are equal in all
    partitions of one result. ``has_irregular_keys``: a key may be of another, or come twice.
    ``map_counters`` and ``records_in`` are the sums over those maps, so that the map records
    can be freed with the intermediate data. ``inline`` holds the frames of a small result itself.
    ``skipped`` are keys left out here, ``map_skipped`` the records left out by those maps: all of
    them too, but only in the result of partition 0 in full. ``provenance`` is as for a map.
    """

    task: str
    token: str
    basis: str
    maps: int
    maps_digest: str
    part: PartSize
    inline: tuple[bytes, ...] = ()
    has_irregular_keys: bool = False
    counters: Mapping[str, int] = field(default_factory=dict)
    map_counters: Mapping[str, int] = field(default_factory=dict)
    records_in: int = 0
    skipped: Skipped = field(default_factory=Skipped)
    map_skipped: Skipped = field(default_factory=Skipped)
    provenance: Provenance = field(default_factory=Provenance)


@dataclass(frozen=True, slots=True)
class Crash:
    """A map attempt whose process ended while mapfn worked on the record of that ordinal."""

    ordinal: int
    name: str
    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is. A hint for people: totals are None until they are known.

    ``maps_done`` and its like count tasks, ``maps.done`` and ``maps.total`` the items or bytes in
    them. ``skipped`` is told once, with the last progress, when the result has been read.
    """

    job_id: str
    state: str
    maps_done: int = 0
    maps_running: int = 0
    maps_total: int | None = None
    reduces_done: int = 0
    reduces_running: int = 0
    reduces_total: int | None = None
    shuffle_bytes: int = 0
    retries: int = 0
    elapsed: float = 0.0
    workers: int = 0
    slots: int = 0
    waiting: str = ""
    maps: StageProgress = field(default_factory=StageProgress)
    reduces: StageProgress = field(default_factory=StageProgress)
    skipped: Skipped = field(default_factory=Skipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobInfo:
    """One row of ``jobs``. Clear text of the server: for people, never believed.

    Where it is ``deleted``, there is nothing left of the job but this row, for ``ttl`` seconds.
    """

    job_id: str
    txn: str
    name: str
    state: str
    maps_done: int
    maps_total: int | None
    reduces_done: int
    reduces_total: int
    age: float
    ttl: float
    cause: str = ""
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """One row of ``workers``. Clear text of the server: for people, never believed."""

    worker_id: str
    host: str
    pid: int
    python: str
    protocol: int
    key_id: str
    executors: int
    busy: int
    tasks: int
    beat_age: float
    problem: str = ""
    lost: bool = False
