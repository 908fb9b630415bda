"""Arguments and answers of the verbs: one frozen dataclass for each script.

A ``state`` is clear text of the server, so it is a hint; "" means that the job is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from redismr.core.model import Claim, CommitStatus, FailStatus, JobState
from redismr.store.reply_values import reply_word

ClearState = JobState | Literal[""]
"""A job's state; "" if the job is gone."""

CreateStatus = Literal["OK", "EXISTS"]
AddStatus = Literal["OK", "SHORT", "ENDED", "GONE"]
"""Status of ``add`` and ``close``: done; a failover took input back; the job has ended; is gone."""

EndStatus = Literal["OK", "ENDED", "GONE"]
"""Status of ``cancel``, ``fail_job`` and ``extend``: done; ended before; the job is gone."""

ReleaseStatus = Literal["OK", "GONE"]
InvalidateStatus = Literal["OK", "FENCED", "STALE", "DEAD", "GONE"]
"""Maps run again; the attempt does not hold its task, or the stage has moved on; other attempts of
the maps have committed meanwhile; a map was invalidated too often, and the job has failed; the job
is gone."""


class HeldLease(NamedTuple):
    """A lease to be renewed; ``started`` tells that the executor has begun the task."""

    task: str
    token: str
    started: bool


class Commit(NamedTuple):
    """The output of one attempt, for the server to count."""

    task: str
    token: str
    record: bytes
    """The sealed manifest."""
    basis: str = ""
    """The basis that the claim named; empty for a map task."""
    chunks: int = 0
    """Number of result chunks that a reduce attempt has staged."""
    shuffled: int = 0
    """Bytes that a map attempt wrote for reducers."""
    event: bytes = b""
    """The signed event to publish if the attempt counts."""
    read: int = 0
    """Amount of input that a map task read, for progress rows."""


class EndAndRecords(NamedTuple):
    """The sealed end of a job, and map index or partition -> committed record."""

    end: bytes | None
    records: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class StageEvents:
    """Signed events; the commit that moves its job to a stage publishes the event of that stage."""

    txn: str
    reducing: bytes
    succeeded: bytes


@dataclass(frozen=True, slots=True)
class CreateReply:
    """The answer of ``create``."""

    status: CreateStatus
    expire_at: int
    """The job's deadline, in ms of the server's clock."""


@dataclass(frozen=True, slots=True)
class AddReply:
    """The answer of ``add``."""

    status: AddStatus
    added: int
    """Number of map tasks that the server has."""
    finished: int
    """Number of map tasks that are done."""
    state: ClearState


@dataclass(frozen=True, slots=True)
class CloseReply:
    """The answer of ``close``."""

    status: AddStatus
    state: ClearState
    added: int
    """Number of map tasks that the server has."""
    opened: int
    """Number of tasks that this call made claimable."""


@dataclass(frozen=True, slots=True)
class CommitReply:
    """The answer of ``commit``: one status per commit, in order, and the next claim."""

    statuses: tuple[CommitStatus, ...]
    opened: int
    """Number of tasks that this call made claimable."""
    claim: Claim
    map_outputs: EndAndRecords | None = None
    """Input of the reducers of the claim, if the commits were of maps and it is little."""


@dataclass(frozen=True, slots=True)
class RenewReply:
    """The answer of ``renew``."""

    state: ClearState
    lost: frozenset[str]
    """Tasks whose lease the caller no longer holds; all of them if the job is gone."""


@dataclass(frozen=True, slots=True)
class ExtendReply:
    """The answer of ``extend``: the job's new deadline, and what names its bulk keys."""

    status: EndStatus
    expire_at: int
    added: int
    partitions: int


@dataclass(frozen=True, slots=True)
class FailReply:
    """The answer of ``fail``."""

    status: FailStatus
    state: ClearState


@dataclass(frozen=True, slots=True)
class EndReply:
    """The answer of ``cancel`` and ``fail_job``."""

    status: EndStatus
    state: ClearState


@dataclass(frozen=True, slots=True)
class ReleaseReply:
    """The answer of ``release``."""

    status: ReleaseStatus
    state: ClearState
    released: int
    """Number of tasks that are ready again."""


@dataclass(frozen=True, slots=True)
class MapOutputsReply:
    """The answer of ``map_outputs``; has neither end nor records if the job is not reducing."""

    state: ClearState
    basis: str
    outputs: EndAndRecords


@dataclass(frozen=True, slots=True)
class InvalidateReply:
    """The answer of ``invalidate``."""

    status: InvalidateStatus
    state: ClearState
    rerun: int
    """Number of map tasks that run again."""


@dataclass(frozen=True, slots=True)
class ReclaimReply:
    """The answer of ``reclaim``."""

    state: ClearState
    reclaimed: int
    """Number of leases that were taken back."""
    ended_at_ms: int
    claimable: int
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Stealable:
    """The answer of ``steal``: what a worker with idle executors could do for a job."""

    state: ClearState
    stolen: int
    """Number of ready tasks that other executors had claimed until this call."""
    ready: int
    slow: int
    """Number of tasks that may get a backup attempt."""


@dataclass(frozen=True, slots=True)
class ExecutorsAtWork:
    """The executors that run tasks of a job."""

    count: int
    """-1: there are too many leases to look at each."""
    total_ms: int
    """Time since their claims, added up."""
    last_ms: int
    """Time since the last of the claims."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """The answer of ``status``: where a job is, all of one moment."""

    now_ms: int
    maps_done: int
    reduces_done: int
    leased: int
    meta: Mapping[str, str]
    """Clear text: only a hint."""
    executors_at_work: ExecutorsAtWork
    results: EndAndRecords | None = None
    """Answer of ``Store.end_and_results``, if asked for and the job has succeeded."""

    @property
    def state(self) -> ClearState:
        """The job's state as the server has it."""
        return reply_word(self.meta.get("state", ""))  # type: ignore[no-any-return]
