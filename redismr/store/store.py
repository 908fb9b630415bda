"""The task protocol: one method per verb, each one atomic step on the server.

Python never reads and then writes: every change of a job's state is one script (DESIGN: rules of
section 4, ARCHITECTURE.md: invariants). All methods may be repeated with the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from redismr.config import Connection
from redismr.core.model import Claim
from redismr.errors import KeysAltered
from redismr.store.bulk import BulkStore, Fields, staging
from redismr.store.connect import BLOCK_SECONDS
from redismr.store.hints import HintStore
from redismr.store.keys import CONTROL, Keys
from redismr.store.link import Argument, Link, text

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Commit:
    """What one attempt asks to be counted; ``chunks`` are its staged result chunks."""

    task: str
    token: str
    record: bytes
    basis: str = ""
    chunks: int = 0
    shuffled: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """One status per commit, in order (OK, DUP_OK, FENCED, RESTAGE), and the next claim.

    ``opened`` is how many tasks this call made claimable: wake that many workers.
    """

    statuses: tuple[str, ...]
    opened: int
    claim: Claim


@dataclass(frozen=True, slots=True)
class Added:
    """Where the submitter stands: ids the server has, tasks that are done, the job's state."""

    status: str
    added: int
    finished: int
    state: str


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What a look for expired leases found; ``state`` is empty if the job is gone."""

    state: str
    reclaimed: int
    ended_ms: int
    claimable: int
    lease_ms: int


@dataclass(frozen=True, slots=True)
class Spare:
    """What a worker with idle executors could do for a job: claim ready tasks, back up slow ones.

    ``stolen`` of those that are ready were others' a moment ago.
    """

    state: str
    stolen: int
    ready: int
    slow: int


@dataclass(frozen=True, slots=True)
class Look:
    """Where a job is, of one moment; ``meta`` is clear text and only a hint."""

    now_ms: int
    maps_done: int
    reduces_done: int
    leased: int
    meta: Mapping[str, str]

    @property
    def state(self) -> str:
        """The job's state as the server has it."""
        return self.meta.get("state", "")


class Store(BulkStore, HintStore):
    """A connection to the server that speaks in the verbs of the protocol.

    ``now_ms`` replaces the server's clock in tests; nothing else sets it.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        patience: float | None = 30.0,
        name: str = "redismr",
        timeout: float = BLOCK_SECONDS + 10,
        now_ms: int | None = None,
        on_wait: Callable[[str, float], None] | None = None,
    ) -> None:
        link = Link(connection, patience=patience, name=name, timeout=timeout, on_wait=on_wait)
        super().__init__(link, Keys(connection.namespace))
        self.now_ms = now_ms

    def create(
        self,
        job: str,
        *,
        spec: bytes,
        code: bytes,
        params: bytes,
        ttl_ms: int,
        submit_ms: int,
        fields: Mapping[str, str | int],
        since_ms: int = 0,
    ) -> int:
        """The job exists, accepting input; returns its deadline in ms of the server's clock.

        With ``since_ms`` it is announced first: what exists unlisted is tidied by its ttl alone.
        """
        turn = int(fields.get("priority", 0)), since_ms
        flat: list[Argument] = [part for pair in fields.items() for part in pair]
        reply = self._run(
            "create",
            job,
            flat,
            hints=self._announcing({job: turn}) if since_ms else (),
            spec_blob=spec,
            code_blob=code,
            params_blob=params,
            ttl_ms=ttl_ms,
            submit_ms=submit_ms,
        )
        return int(reply[1])

    def add(
        self,
        job: str,
        first: int,
        last: int,
        splits: Mapping[int, Fields] = MappingProxyType({}),
        expire_at: int = 0,
        workers: Sequence[str] = (),
    ) -> Added:
        """Map tasks ``first``..``last - 1`` are claimable; an empty range says we are alive.

        Their sealed splits are written in the same transaction: after a failover between the two,
        there would be tasks without input. ``workers``, one for each, are those who may claim it,
        of a job with one map task for each worker.
        """
        by_key: dict[str, dict[str, bytes]] = {}
        for index, fields in splits.items():
            by_key.setdefault(self.keys.input(job, index), {}).update(fields)
        status, added, finished, state = self._run(
            "add", job, list(workers), before=staging(by_key, expire_at), first=first, last=last
        )
        return Added(text(status), int(added), int(finished), text(state))

    def close(self, job: str, n: int, nonce: str, end: bytes) -> tuple[str, str, int, int]:
        """The input is complete: (status, state, ids the server has, tasks made claimable)."""
        reply = self._run("close", job, n=n, nonce=nonce, end_blob=end)
        return text(reply[0]), text(reply[1]), int(reply[2]), int(reply[3])

    def claim(
        self, job: str, executor: str, nonce: str, want: int, *, backup: bool = False
    ) -> Claim | None:
        """Up to ``want`` tasks under a lease; None if the job is gone.

        With ``backup``, if none is ready, it may be one that another executor is slow at.
        """
        status, state, basis, now, *ids = self._run(
            "claim", job, executor=executor, nonce=nonce, want=want, backup=int(backup)
        )
        if text(status) == "GONE":
            return None
        return Claim(job, nonce, text(state), tuple(map(text, ids)), text(basis), int(now))

    def commit(
        self, job: str, executor: str, commits: Sequence[Commit], next_nonce: str, want: int
    ) -> Committed | None:
        """Count each attempt once or not at all, then claim; None if the job is gone."""
        flat: list[Argument] = []
        for c in commits:
            flat += (c.task, c.token, c.basis, c.chunks, c.shuffled, c.record)
        reply = self._run("commit", job, flat, executor=executor, next_nonce=next_nonce, want=want)
        if text(reply[0]) == "GONE":
            return None
        _, state, basis, now, opened, n, *tail = reply
        statuses, ids = tail[: int(n)], tail[int(n) :]
        claim = Claim(job, next_nonce, text(state), tuple(map(text, ids)), text(basis), int(now))
        return Committed(tuple(map(text, statuses)), int(opened), claim)

    def renew(self, job: str, held: Iterable[tuple[str, str, bool]]) -> tuple[str, frozenset[str]]:
        """Extend the named (task, token, started); returns the job's state and the lost tasks.

        State "" means that the job is gone, and with it every lease.
        """
        return _sound(self.renew_all({job: held})[job])

    def renew_all(
        self, held: Mapping[str, Iterable[tuple[str, str, bool]]]
    ) -> dict[str, tuple[str, frozenset[str]] | KeysAltered]:
        """The same for several jobs, in one round trip."""
        pairs = {job: list(its) for job, its in held.items()}
        flat = {
            job: [x for task, token, on in its for x in (task, token, "1" if on else "0")]
            for job, its in pairs.items()
        }

        def answer(job: str, reply: list[Any]) -> tuple[str, frozenset[str]]:
            status, state, extend, *lost = reply
            if text(status) == "GONE":
                return "", frozenset(task for task, _, _ in pairs[job])
            if extend:
                self.extend(job)
            return text(state), frozenset(map(text, lost))

        return self._run_all("renew", flat, answer)

    def extend(self, job: str) -> None:
        """A running job's keys live for its ttl from now on, its bulk keys too."""
        status, expire_at, added, partitions = self._run("extend", job)
        if text(status) == "OK":
            self.keep_bulk(job, int(added), int(partitions), int(expire_at))
            self.record(job, int(expire_at), self.server_ms())

    def fail(  # noqa: PLR0913  one for each argument of the script
        self,
        job: str,
        task: str,
        token: str,
        executor: str,
        *,
        kind: str,
        signature: str,
        cause: str,
        failure: bytes,
        place: str = "",
        note: bytes = b"",
    ) -> tuple[str, str]:
        """One attempt failed: (RETRY | DEAD | DONE | FENCED | ENDED | GONE, the job's state).

        ``place`` and ``note`` say at which record its process died, where records may be skipped.
        """
        reply = self._run(
            "fail",
            job,
            id=task,
            token=token,
            executor=executor,
            kind=kind,
            signature=signature,
            cause=cause,
            blob=failure,
            place=place,
            note=note.hex(),
        )
        return text(reply[0]), text(reply[1])

    def fail_job(self, job: str, cause: str, failure: bytes) -> bool:
        """End a running job as failed; False if it had ended or is gone."""
        return text(self._run("fail_job", job, cause=cause, blob=failure)[0]) == "OK"

    def release(self, job: str, executor: str, nonce: str, tasks: Sequence[str] = ()) -> int:
        """Give back claimed tasks uncharged; no tasks named: all that the nonce was given."""
        return int(self._run("release", job, list(tasks), executor=executor, nonce=nonce)[2])

    def reclaim(self, job: str, limit: int = 100) -> Reclaimed:
        """Take back expired leases, at most ``limit`` of them."""
        return _sound(self.reclaim_all([job], limit)[job])

    def reclaim_all(
        self, jobs: Sequence[str], limit: int = 100
    ) -> dict[str, Reclaimed | KeysAltered]:
        """The same for several jobs, in one round trip; ``limit`` counts for each."""

        def answer(_job: str, reply: list[Any]) -> Reclaimed:
            _, state, reclaimed, ended, claimable, lease = reply
            return Reclaimed(text(state), int(reclaimed), int(ended), int(claimable), int(lease))

        return self._run_all("reclaim", dict.fromkeys(jobs, ()), answer, limit=limit)

    def steal(self, job: str, worker: str) -> Spare:
        """For a worker that has nothing to do: what it could claim; late claims are ready again."""
        _, state, stolen, ready, slow = self._run("steal", job, worker=worker)
        return Spare(text(state), int(stolen), int(ready), int(slow))

    def names(self, job: str, known: str = "") -> tuple[str, str, dict[int, bytes]]:
        """(state, basis, map index -> record): what a reducer reads, of one moment.

        The records are empty if the basis is ``known``, or the job is not reducing.
        """
        status, state, basis, *rest = self._run("names", job, known=known)
        if text(status) == "GONE":
            return "", "", {}
        flat = rest[0]
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return text(state), text(basis), {int(i): record for i, record in pairs if i.isdigit()}

    def invalidate(
        self, job: str, task: str, token: str, basis: str, missing: Mapping[int, str]
    ) -> tuple[str, int]:
        """Send maps whose segments are gone to run again: (status, how many run again)."""
        flat: list[Argument] = [
            x for index, map_token in missing.items() for x in (index, map_token)
        ]
        status, _, rerun = self._run("invalidate", job, flat, id=task, token=token, basis=basis)
        return text(status), int(rerun)

    def cancel(self, job: str) -> str:
        """OK, ENDED (it had ended before) or GONE."""
        return text(self._run("cancel", job)[0])

    def delete(self, job: str, n_map: int, partitions: int) -> None:
        """Nothing of the job is left, whatever it does."""
        control = [self.keys.control(job, name) for name in CONTROL]
        bulk = self.bulk(job, n_map, partitions)
        gone = [*(("UNLINK", key) for key in bulk), ("UNLINK", *control)]
        self.unlist(job, gone)

    def look(self, job: str) -> Look | None:
        """Where the job is; None if it is gone."""
        reply = self._run("look", job)
        if text(reply[0]) == "GONE":
            return None
        _, now, maps, reduces, leased, flat = reply
        meta = {text(flat[i]): text(flat[i + 1]) for i in range(0, len(flat), 2)}
        return Look(int(now), int(maps), int(reduces), int(leased), meta)

    def _run(
        self,
        verb: str,
        job: str,
        rest: Sequence[Argument] = (),
        /,
        before: Sequence[Sequence[Argument]] = (),
        hints: Sequence[Sequence[Argument]] = (),
        **argv: Argument,
    ) -> list[Any]:
        named = {"now_ms": self._now, **argv}
        return self.link.call(verb, self._control(job), named, rest, before, hints)

    @property
    def _now(self) -> Argument:
        """What scripts take for the time: nothing, so their server's clock; tests may set it."""
        return "" if self.now_ms is None else self.now_ms

    def _run_all(
        self,
        verb: str,
        rests: Mapping[str, Sequence[Argument]],
        answer: Callable[[str, list[Any]], T],
        **argv: Argument,
    ) -> dict[str, T | KeysAltered]:
        many = [(self._control(job), rest) for job, rest in rests.items()]
        found: dict[str, T | KeysAltered] = {}
        for job, reply in zip(
            rests, self.link.calls(verb, many, {"now_ms": self._now, **argv}), strict=True
        ):
            try:
                found[job] = answer(job, _sound(reply))
            except KeysAltered as exc:
                found[job] = exc
        return found

    def _control(self, job: str) -> dict[str, str]:
        if (known := self._names.get(job)) is None:
            if len(self._names) > 64:
                self._names.clear()
            known = {name: self.keys.control(job, name) for name in CONTROL}
            known["end_"] = known["end"]
            self._names[job] = known
        return known


def _sound(answer: T | KeysAltered) -> T:
    """The answer, if it is none of trouble with a job's keys."""
    if isinstance(answer, KeysAltered):
        raise answer
    return answer
