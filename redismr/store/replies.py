"""What the verbs of the protocol take and answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from redismr.core.model import Claim

EndAndRecords = tuple[bytes | None, dict[int, bytes]]
"""The sealed end, and map index or partition -> committed record."""


class Commit(NamedTuple):
    """What one attempt asks to be counted; ``chunks`` are its staged result chunks.

    ``event`` is published if it counts. ``read`` is the amount of a map task's input, for people.
    """

    task: str
    token: str
    record: bytes
    basis: str = ""
    chunks: int = 0
    shuffled: int = 0
    event: bytes = b""
    read: int = 0


@dataclass(frozen=True, slots=True)
class StageEvents:
    """What is published on a transaction's channel by the commit that moves its job on."""

    txn: str
    reducing: bytes
    succeeded: bytes


@dataclass(frozen=True, slots=True)
class CommitReply:
    """One status per commit, in order (OK, DUP_OK, FENCED, RESTAGE), and the next claim.

    ``opened`` is how many tasks this call made claimable: wake that many workers. ``map_outputs``
    is what
    the reducers of the claim read, as of ``Store.map_outputs``, if it was of maps and that is
    little.
    """

    statuses: tuple[str, ...]
    opened: int
    claim: Claim
    map_outputs: EndAndRecords | None = None


@dataclass(frozen=True, slots=True)
class AddReply:
    """Where the submitter stands: ids the server has, tasks that are done, the job's state."""

    status: str
    added: int
    finished: int
    state: str


@dataclass(frozen=True, slots=True)
class ReclaimReply:
    """What a look for expired leases found; ``state`` is empty if the job is gone."""

    state: str
    reclaimed: int
    ended_at_ms: int
    claimable: int
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Stealable:
    """What a worker with idle executors could do for a job: claim ready tasks, back up slow ones.

    ``stolen`` of those that are ready were others' a moment ago.
    """

    state: str
    stolen: int
    ready: int
    slow: int


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job is, of one moment; ``meta`` is clear text and only a hint.

    ``executors_at_work``: how many executors are at it (-1: too many to look at each), for so many
    ms since
    their claims together, and the last of them. ``results`` is what ``Store.end_and_results``
    reads, if it
    was asked for and the job has succeeded.
    """

    now_ms: int
    maps_done: int
    reduces_done: int
    leased: int
    meta: Mapping[str, str]
    executors_at_work: tuple[int, int, int] = (0, 0, 0)
    results: EndAndRecords | None = None

    @property
    def state(self) -> str:
        """The job's state as the server has it."""
        return self.meta.get("state", "")
