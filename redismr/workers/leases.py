"""Leases: renewing those of our executors, taking back those that others let expire.

Decides, and leaves the acting to the supervisor: what it returns are executors to stop, with why.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from redismr.core.model import ENDED_STATES, token_of
from redismr.errors import KeysAltered
from redismr.store import Store, number
from redismr.workers.slots import Holding, Slot

log = logging.getLogger("redismr.worker")

TICK_SECONDS = 5.0
FORGET_MS = 60_000
"""An ended job stays in the index this long: longer than a failover can rewind."""

SHORTEST_MS = 100  # the option's floor: what Redis says in clear must not make us spin

MAX_FREED = 1_000_000
"""Clear numbers are not believed beyond this."""

LEASE_LOST = "lease lost"
OVERDUE = "ran longer than"


@dataclass(slots=True)
class Child:
    """An executor as its supervisor sees it."""

    slot: Slot
    pid: int
    line: socket.socket
    idle: bool = False
    doomed: str = ""
    running_since: float = 0.0
    running_what: tuple[str, int] = ("", -1)
    buffer: bytes = field(default=b"")


class LeaseKeeper:
    """The duties of a supervisor towards the leases of a namespace."""

    def __init__(
        self, store: Store, on_altered: Callable[[str, str], object] = lambda _job, _why: None
    ) -> None:
        self._store, self._on_altered = store, on_altered
        self._shortest_ms = 15_000
        self._tidied: set[str] = set()

    @property
    def tick_seconds(self) -> float:
        """How often ``renew`` and ``reclaim`` are due: a third of the shortest lease in sight."""
        return min(TICK_SECONDS, self._shortest_ms / 3000)

    def hurry(self, lease_ms: int) -> None:
        """An executor begins a job whose lease is this short."""
        self._shortest_ms = min(self._shortest_ms, max(lease_ms, SHORTEST_MS))

    def renew(self, children: list[Child]) -> list[tuple[Child, str]]:
        """Renew what these executors hold; returns those that work in vain or too long."""
        held: dict[str, list[tuple[Child, Holding]]] = {}
        doomed: list[tuple[Child, str]] = []
        for child in children:
            holding = child.slot.read()
            if holding and holding.job and not _stopped(child.pid):
                held.setdefault(holding.job, []).append((child, holding))
                if why := _overdue(child, holding):
                    doomed.append((child, why))
        self._shortest_ms = min(
            [15_000]
            + [max(h.lease_ms, SHORTEST_MS) for holders in held.values() for _, h in holders]
            + [h.timeout_ms for holders in held.values() for _, h in holders if h.timeout_ms]
        )
        for job, holders in held.items():
            pairs = [
                (task, token_of(task, holding.nonce), index <= holding.running)
                for _, holding in holders
                for index, task in enumerate(holding.tasks)
            ]
            try:
                state, lost = self._store.renew(job, pairs)
                self._assert_listed(job)
            except KeysAltered as exc:
                self._on_altered(job, str(exc))
                continue
            doomed += [(c, LEASE_LOST) for c, h in holders if _in_vain(c, h, state, lost)]
        return doomed

    def reclaim(self) -> bool:
        """Take back expired leases of every job in the index; True if there is work to claim."""
        work = False
        for job in self._store.runnable():
            try:
                seen = self._store.reclaim(job)
            except KeysAltered as exc:
                self._on_altered(job, str(exc))
                continue
            if not seen.state:
                self._store.forget(job)
            elif seen.state in ENDED_STATES:
                over = self._store.server_ms() - seen.ended_ms > FORGET_MS
                if over or job not in self._tidied:
                    self._tidy(job, seen.state)
                if over:
                    self._tidied.discard(job)
                    self._store.forget(job)
            else:
                self.hurry(seen.lease_ms)
                work |= seen.claimable > 0
            if seen.reclaimed:
                log.info("job %s: %d leases ran out, taken back", job, seen.reclaimed)
        return work

    def _tidy(self, job: str, state: str) -> None:
        """Free an ended job's bulk, in case who ended it died before it did.

        Again when the job is forgotten: attempts that still ran may have staged something since.
        """
        self._tidied.add(job)
        if state in ("succeeded", "cancelled"):
            meta = self._store.meta(job, "added", "partitions")
            added, partitions = number(meta.get("added")), number(meta.get("partitions"))
            self._store.free(job, min(added, MAX_FREED), min(partitions, MAX_FREED))

    def _assert_listed(self, job: str) -> None:
        """The index is in another slot and may lose an entry: whoever works on a job repeats it."""
        priority = self._store.meta(job, "priority").get("priority")
        if priority:
            self._store.announce(job, number(priority))


def _in_vain(child: Child, before: Holding, state: str, lost: frozenset[str]) -> bool:
    """Whether the executor is still in a task whose lease is lost, or whose job has ended."""
    if before.running < 0 or before.tasks[before.running] not in lost:
        return False
    now = child.slot.read()
    # Only if it is still in the same task: else it has committed, which also ends a lease.
    if now is None or (now.nonce, now.running) != (before.nonce, before.running):
        return False
    log.info("task %s: stopped, %s", before.tasks[before.running], state or "its job is gone")
    return True


def _overdue(child: Child, holding: Holding) -> str:
    """Why the executor must be stopped for being in one task too long, or nothing."""
    what, now = (holding.nonce, holding.running), time.monotonic()
    if what != child.running_what:
        child.running_what, child.running_since = what, now
    limit = holding.timeout_ms / 1000
    if limit and holding.running >= 0 and now - child.running_since > limit:
        return f"{OVERDUE} task_timeout={limit:g} s"
    return ""


def _stopped(pid: int) -> bool:
    """Whether the process was stopped by a signal: then its leases are others' to take."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[:1] == [b"T"]
    except OSError:  # gone, or no Linux
        return False
