"""Arguments and answers of the verbs: one immutable record for each script.

The records are named tuples: to define a frozen dataclass takes each start 0.4 ms, a named tuple
0.05, and the user waits for the start of workers (20 records: 8 ms against 2).

A ``state`` is clear text of the server, so it is a hint; "" means that the job is gone.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from redismr.core.model import Claim, CommitStatus, JobState
from redismr.store.reply_values import hash_fields, parse_records, reply_word

ClearState = JobState | Literal[""]
"""A job's state; "" if the job is gone."""

AddStatus = Literal["OK", "SHORT", "ENDED", "GONE"]
"""Status of ``add`` and ``close``. SHORT: a failover took input back. ENDED: it takes no more."""

EndStatus = Literal["OK", "ENDED", "GONE"]
"""Status of ``cancel`` and ``fail_job``. ENDED: the job had ended before."""

InvalidateStatus = Literal["OK", "FENCED", "STALE", "DEAD", "GONE"]
"""FENCED: the attempt does not hold its task, or the stage has moved on. STALE: other attempts of
the maps have committed meanwhile. DEAD: a map was invalidated too often, and the job has failed."""


class Commit(NamedTuple):
    """The output of one attempt, for the server to count."""

    task: str
    token: str
    record: bytes  #: The sealed manifest.
    basis: str = ""  #: The basis that the claim named; empty for a map task.
    chunks: int = 0  #: Number of result chunks that a reduce attempt has staged.
    shuffled: int = 0  #: Bytes that a map attempt wrote for reducers.
    event: bytes = b""  #: The signed event to publish if the attempt counts.
    read: int = 0  #: Amount of input that a map task read, for progress rows.


class EndAndRecords(NamedTuple):
    """The sealed end of a job, and map index or partition -> committed record."""

    end: bytes | None  #: The sealed number of map tasks; None if there is none.
    records: dict[int, bytes]  #: Map index or partition -> token and sealed manifest.


def end_and_records(end: bytes | None, flat: Sequence[bytes]) -> EndAndRecords:
    """Return both from a reply, where ``flat`` is a hash as HGETALL returns it to a script."""
    return EndAndRecords(end, parse_records(hash_fields(flat)))


class StageEvents(NamedTuple):
    """Signed events; the commit that moves its job to a stage publishes the event of that stage."""

    txn: str  #: The job's label, which names the channel.
    reducing: bytes  #: Published when the reduce stage opens.
    succeeded: bytes  #: Published when the last partition is done.


class AddReply(NamedTuple):
    """The answer of ``add``."""

    status: AddStatus
    added: int  #: Number of map tasks that the server has.
    finished: int  #: Number of map tasks that are done.
    state: ClearState


class CloseReply(NamedTuple):
    """The answer of ``close``."""

    status: AddStatus
    state: ClearState
    added: int  #: Number of map tasks that the server has.
    opened: int  #: Number of tasks that this call made claimable.


class CommitReply(NamedTuple):
    """The answer of ``commit``: one status per commit, in order, and the next claim."""

    statuses: tuple[CommitStatus, ...]
    opened: int  #: Number of tasks that this call made claimable.
    claim: Claim
    map_outputs: EndAndRecords | None = None  #: Input of the claim's reducers, if it is little.


class RenewReply(NamedTuple):
    """The answer of ``renew``."""

    state: ClearState
    lost: frozenset[str]  #: Tasks whose lease the caller does not hold; all if the job is gone.


class MapOutputsReply(NamedTuple):
    """The answer of ``map_outputs``; has neither end nor records if the job is not reducing."""

    state: ClearState
    basis: str  #: The opening of the reduce stage that the records belong to.
    outputs: EndAndRecords


class InvalidateReply(NamedTuple):
    """The answer of ``invalidate``."""

    status: InvalidateStatus
    state: ClearState
    rerun: int  #: Number of map tasks that run again.


class ReclaimReply(NamedTuple):
    """The answer of ``reclaim``."""

    state: ClearState
    reclaimed: int  #: Number of leases that were taken back.
    ended_at_ms: int  #: When the job ended, on the server's clock; 0 while it runs.
    claimable: int  #: Number of tasks that are ready.
    lease_ms: int  #: The job's lease; 0 if the job is gone.


class Stealable(NamedTuple):
    """The answer of ``steal``: what a worker with idle executors could do for a job."""

    state: ClearState
    stolen: int  #: Number of ready tasks that other executors had claimed until this call.
    ready: int  #: Number of tasks that can be claimed, stolen ones included.
    slow: int  #: Number of tasks that may get a backup attempt.


class ExecutorsAtWork(NamedTuple):
    """The executors that run tasks of a job."""

    executors: int  #: How many; -1: there are too many leases to look at each.
    total_ms: int  #: Time since their claims, added up.
    last_ms: int  #: Time since the last of the claims.


class JobStatus(NamedTuple):
    """The answer of ``status``: where a job is, all of one moment."""

    now_ms: int  #: The server's time.
    maps_done: int  #: Map tasks that are done; 0 after success, as their records are freed.
    reduces_done: int  #: Reduce tasks that are done.
    leased: int  #: Tasks that executors hold.
    meta: Mapping[str, str]  #: Clear text: only a hint.
    executors_at_work: ExecutorsAtWork
    results: EndAndRecords | None = None  #: If they were asked for and the job has succeeded.

    @property
    def state(self) -> ClearState:
        """The job's state as the server has it."""
        return reply_word(self.meta.get("state", ""))  # type: ignore[no-any-return]
