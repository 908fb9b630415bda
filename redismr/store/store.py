"""The task protocol: one method per verb, each one atomic step on the server.

Python never reads and then writes: every change of a job's state is one script (DESIGN: rules of
section 4, ARCHITECTURE.md: invariants). All methods may be repeated with the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from redismr.config import Connection
from redismr.core.model import Claim
from redismr.errors import KeysAltered
from redismr.store.answers import Added, Commit, Committed, Look, Moves, Reclaimed, Spare
from redismr.store.bulk import BulkStore, Fields, records, staging
from redismr.store.connect import BLOCK_SECONDS
from redismr.store.hints import FEW_TASKS, HintStore, Waking
from redismr.store.keys import CONTROL, Keys
from redismr.store.link import ALONE, Along, Argument, Link, text

T = TypeVar("T")

LATE_MS = 1000
"""A job is listed so much longer than its ttl from its submission on; one that the server made
later than that is listed anew."""


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

    def create(  # noqa: PLR0913  one for each argument of the script
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
        news: bytes = b"",
    ) -> int:
        """The job exists, accepting input; returns its deadline in ms of the server's clock.

        With ``since_ms`` it is announced and listed as well, and its ``news`` are published.

        Raises:
            UnfitServer, StoreUnavailable: as ``Link.require``, before anything is written.
        """
        self.link.require("submitter")
        along, until_ms, channels = ALONE, since_ms + ttl_ms + LATE_MS, ("", "")
        if since_ms:
            priority = int(fields.get("priority", 0))
            along = self._introducing(job, priority, since_ms, until_ms)
            channels = self._channels(str(fields.get("txn", job)))
        flat: list[Argument] = [part for pair in fields.items() for part in pair]
        reply = self._run(
            "create",
            job,
            flat,
            along=along,
            spec_blob=spec,
            code_blob=code,
            params_blob=params,
            ttl_ms=ttl_ms,
            submit_ms=submit_ms,
            channel=channels[0],
            everybody=channels[1],
            news=news,
        )
        expire_at = int(reply[1])
        if since_ms and expire_at > until_ms:
            self.record(job, expire_at, since_ms)
        return expire_at

    def add(
        self,
        job: str,
        first: int,
        last: int,
        splits: Mapping[int, Fields] = MappingProxyType({}),
        expire_at: int = 0,
        *,
        workers: Sequence[str] = (),
        waking: Waking | None = None,
        input_so_far: str = "",
    ) -> Added:
        """Map tasks ``first``..``last - 1`` are claimable; an empty range says we are alive.

        Their sealed splits are written in the same transaction: after a failover between the two,
        there would be tasks without input. ``workers``, one for each, are those who may claim it,
        of a job with one map task for each worker. ``waking`` is what ``wake`` takes: then that
        takes no round trip of its own. ``input_so_far``: see ``core.work.Extent``.
        """
        along = ALONE
        if waking:
            along = Along(behind=self._waking(*waking), again=lambda: self.wake(*waking))
        by_key: dict[str, dict[str, bytes]] = {}
        for index, fields in splits.items():
            by_key.setdefault(self.keys.input(job, index), {}).update(fields)
        status, added, finished, state = self._run(
            "add", job, list(workers), before=staging(by_key, expire_at), along=along,
            first=first, last=last, input=input_so_far,
        )  # fmt: skip
        return Added(text(status), int(added), int(finished), text(state))

    def close(self, job: str, n: int, nonce: str, end: bytes) -> tuple[str, str, int, int]:
        """The input is complete: (status, state, ids the server has, tasks made claimable)."""
        reply = self._run("close", job, n=n, nonce=nonce, end_blob=end)
        return text(reply[0]), text(reply[1]), int(reply[2]), int(reply[3])

    def claim(
        self,
        job: str,
        executor: str,
        nonce: str,
        want: int,
        reducers: int = 1,
        *,
        backup: bool = False,
        opening: bool = False,
    ) -> Claim | None:
        """Up to ``want`` maps, or ``reducers``, under a lease; None if the job is gone.

        Not more than a few ms of work: all of it is given, however little is left for others. With
        ``backup``, if none is ready, it may be one that another executor is slow at. With
        ``opening``, whoever gets tasks gets the sealed spec as well, and ``parcel`` if it is small.
        """
        status, state, basis, now, sealed, *ids, left = self._run(
            "claim", job, executor=executor, nonce=nonce, want=want, reducers=reducers,
            backup=int(backup), opening=int(opening),
        )  # fmt: skip
        if text(status) == "GONE":
            return None
        tasks = tuple(map(text, ids))
        wakes = left if len(tasks) + left <= FEW_TASKS else 0
        return Claim(job, nonce, text(state), tasks, text(basis), int(now), tuple(sealed), wakes)

    def commit(
        self,
        job: str,
        executor: str,
        commits: Sequence[Commit],
        next_nonce: str,
        want: int,
        moves: Moves | None = None,
        *,
        few: int = 1,
        reducers: int = 1,
    ) -> Committed | None:
        """Count each attempt once or not at all, then claim; None if the job is gone.

        A ``few`` maps are given even if no quarter is left for others. If these maps were the last,
        the claim is for ``reducers``, as in ``claim``. Without ``moves`` nothing is published.
        """
        flat: list[Argument] = []
        for c in commits:
            flat += (c.task, c.token, c.basis, c.chunks, c.shuffled, c.record, c.news, c.read)
        channel, everybody = self._channels(moves.txn) if moves else ("", "")
        reply = self._run(
            "commit", job, flat, executor=executor, next_nonce=next_nonce, want=want, few=few,
            reducers=reducers, channel=channel, everybody=everybody,
            reducing=moves.reducing if moves else "", succeeded=moves.succeeded if moves else "",
        )  # fmt: skip
        if text(reply[0]) == "GONE":
            return None
        _, state, basis, now, opened, n, *tail, named = reply
        statuses, ids = tail[: int(n)], tail[int(n) :]
        claim = Claim(job, next_nonce, text(state), tuple(map(text, ids)), text(basis), int(now))
        its = (named[0], records(_pairs(named[1]))) if named else None
        return Committed(tuple(map(text, statuses)), int(opened), claim, its)

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

    def names(self, job: str) -> tuple[str, str, bytes | None, dict[int, bytes]]:
        """(state, basis, sealed end, map index -> record): what a reducer reads, of one moment.

        There are neither end nor records if the job is not reducing.
        """
        _, state, basis, end, flat = self._run("names", job)
        return text(state), text(basis), end, records(_pairs(flat))

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
        self.link.require("submitter")
        return text(self._run("cancel", job)[0])

    def delete(
        self, job: str, n_map: int, partitions: int, row: Mapping[str, str | int] | None = None
    ) -> None:
        """Nothing of the job is left but its row, whatever it does; however damaged it is."""
        self.link.require("submitter")
        control = [self.keys.control(job, name) for name in CONTROL]
        bulk = self.bulk(job, n_map, partitions)
        gone = [("UNLINK", *control), *(("UNLINK", key) for key in bulk)]

        def again() -> None:  # where one was refused, to hear why
            self.link.together(gone)
            self.unlist(job)

        try:  # one that runs is cancelled first: no attempt that is on its way counts any more
            behind = [*gone, *self._unlisting(job), *self._remembering(row)]
            along = Along(behind=behind, again=again)
            self._run("cancel", job, along=along)
        except KeysAltered:
            again()
        if row:
            self._trim_now_and_then()

    def look(self, job: str, *, outcome: bool = False) -> Look | None:
        """Where the job is; None if it is gone. With ``outcome``, that too if it has succeeded."""
        reply = self._run("look", job, outcome=int(outcome))
        if text(reply[0]) == "GONE":
            return None
        _, now, maps, reduces, leased, *at_work, found, flat = reply
        meta = {text(field): text(value) for field, value in _pairs(flat)}
        its = (found[0], records(_pairs(found[1]))) if found else None
        busy, ms, least = map(int, at_work)
        return Look(int(now), int(maps), int(reduces), int(leased), meta, (busy, ms, least), its)

    def _run(
        self,
        verb: str,
        job: str,
        rest: Sequence[Argument] = (),
        /,
        before: Sequence[Sequence[Argument]] = (),
        along: Along = ALONE,
        **argv: Argument,
    ) -> list[Any]:
        named = {"now_ms": self._now, **argv}
        return self.link.call(verb, self._control(job), named, rest, before, along)

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


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """What a script read with HGETALL."""
    return zip(flat[::2], flat[1::2], strict=True)


def _sound(answer: T | KeysAltered) -> T:
    """The answer, if it is none of trouble with a job's keys."""
    if isinstance(answer, KeysAltered):
        raise answer
    return answer
