"""The task protocol: one method per verb, each one atomic step on the server.

Python never reads and then writes: one script makes each change of a job's state (invariants in
ARCHITECTURE.md). Every method may be repeated with the same arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from redismr.config import Connection
from redismr.core.model import Claim
from redismr.errors import KeysAltered
from redismr.store.channel import ChannelStore
from redismr.store.chunks import ChunkStore, Fields, parse_records, staging_commands
from redismr.store.connect import BLOCK_SECONDS
from redismr.store.job_index import SMALL_JOB_TASKS, JobIndexStore, WakeTarget
from redismr.store.keys import CONTROL, Keys
from redismr.store.replies import (
    AddReply,
    Commit,
    CommitReply,
    JobStatus,
    ReclaimReply,
    StageEvents,
    Stealable,
)
from redismr.store.retrying_client import NO_PIGGYBACK, Argument, Piggyback, RetryingClient, text

T = TypeVar("T")

LISTING_MARGIN_MS = 1000
"""A job is listed so much longer than its ttl from its submission on; one that the server made
later than that is listed anew."""


class Store(ChunkStore, JobIndexStore, ChannelStore):
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
        server = RetryingClient(
            connection, patience=patience, name=name, timeout=timeout, on_wait=on_wait
        )
        super().__init__(server, Keys(connection.namespace))
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
        event: bytes = b"",
    ) -> int:
        """The job exists, accepting input; returns its deadline in ms of the server's clock.

        With ``since_ms`` it is announced and listed as well, and its ``event`` is published.

        Raises:
            UnfitServer, StoreUnavailable: as ``RetryingClient.require``, before anything is
            written.
        """
        self.server.require("submitter")
        until_ms = since_ms + ttl_ms + LISTING_MARGIN_MS
        piggyback, channels = NO_PIGGYBACK, ("", "")
        if since_ms:
            priority = int(fields.get("priority", 0))
            piggyback = self._listing_piggyback(job, priority, since_ms, until_ms)
            channels = self._event_channels(str(fields.get("txn", job)))
        flat: list[Argument] = [part for pair in fields.items() for part in pair]
        reply = self._run(
            "create",
            job,
            flat,
            piggyback=piggyback,
            spec_blob=spec,
            code_blob=code,
            params_blob=params,
            ttl_ms=ttl_ms,
            submit_ms=submit_ms,
            channel=channels[0],
            all_channel=channels[1],
            event=event,
        )
        expire_at = int(reply[1])
        if since_ms and expire_at > until_ms:
            self.list_until(job, expire_at, since_ms)
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
        waking: WakeTarget | None = None,
        input_so_far: str = "",
    ) -> AddReply:
        """Map tasks ``first``..``last - 1`` are claimable; an empty range says we are alive.

        Their sealed splits are written in the same transaction: after a failover between the two,
        there would be tasks without input. ``workers``, one for each, are those who may claim it,
        of a job with one map task for each worker. ``waking`` is what ``wake`` takes: then that
        takes no round trip of its own. ``input_so_far``: see ``core.work.InputAmount``.
        """
        piggyback = NO_PIGGYBACK
        if waking:
            piggyback = Piggyback(
                commands_after=self._wake_commands(*waking), on_refused=lambda: self.wake(*waking)
            )
        by_key: dict[str, dict[str, bytes]] = {}
        for index, fields in splits.items():
            by_key.setdefault(self.keys.input(job, index), {}).update(fields)
        status, added, finished, state = self._run(
            "add", job, list(workers), before=staging_commands(by_key, expire_at), piggyback=piggyback,  # noqa: E501
            first=first, last=last, input=input_so_far,
        )  # fmt: skip
        return AddReply(text(status), int(added), int(finished), text(state))

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
        want_reduces: int = 1,
        *,
        backup: bool = False,
        include_spec: bool = False,
    ) -> Claim | None:
        """Up to ``want`` maps, or ``want_reduces``, under a lease; None if the job is gone.

        Not more than a few ms of work: all of it is given, however little is left for others. With
        ``backup``, if none is ready, it may be one that another executor is slow at. With
        ``include_spec``, whoever gets tasks gets the sealed spec as well, and code and params if
        it is small.
        """
        status, state, basis, now, sealed, *ids, left = self._run(
            "claim", job, executor=executor, nonce=nonce, want=want, want_reduces=want_reduces,
            backup=int(backup), include_spec=int(include_spec),
        )  # fmt: skip
        if text(status) == "GONE":
            return None
        tasks = tuple(map(text, ids))
        wake_count = left if len(tasks) + left <= SMALL_JOB_TASKS else 0
        return Claim(
            job, nonce, text(state), tasks, text(basis), int(now), tuple(sealed), wake_count
        )

    def commit(
        self,
        job: str,
        executor: str,
        commits: Sequence[Commit],
        next_nonce: str,
        want: int,
        stage_events: StageEvents | None = None,
        *,
        min_want: int = 1,
        want_reduces: int = 1,
    ) -> CommitReply | None:
        """Count each attempt once or not at all, then claim; None if the job is gone.

        At least ``min_want`` maps are given, even if no quarter is left for others. If these maps
        were the last,
        the claim is for ``want_reduces``, as in ``claim``. Without ``stage_events`` nothing is
        published.
        """
        flat: list[Argument] = []
        for c in commits:
            flat += (c.task, c.token, c.basis, c.chunks, c.shuffled, c.record, c.event, c.read)
        channel, all_channel = self._event_channels(stage_events.txn) if stage_events else ("", "")
        reply = self._run(
            "commit", job, flat, executor=executor, next_nonce=next_nonce, want=want, min_want=min_want,  # noqa: E501
            want_reduces=want_reduces, channel=channel, all_channel=all_channel,
            reducing=stage_events.reducing if stage_events else "", succeeded=stage_events.succeeded if stage_events else "",  # noqa: E501
        )  # fmt: skip
        if text(reply[0]) == "GONE":
            return None
        _, state, basis, now, opened, n, *tail, outputs = reply
        statuses, ids = tail[: int(n)], tail[int(n) :]
        claim = Claim(job, next_nonce, text(state), tuple(map(text, ids)), text(basis), int(now))
        map_outputs = (outputs[0], parse_records(_pairs(outputs[1]))) if outputs else None
        return CommitReply(tuple(map(text, statuses)), int(opened), claim, map_outputs)

    def renew(self, job: str, held: Iterable[tuple[str, str, bool]]) -> tuple[str, frozenset[str]]:
        """Extend the named (task, token, started); returns the job's state and the lost tasks.

        State "" means that the job is gone, and with it every lease.
        """
        return _raise_if_altered(self.renew_all({job: held})[job])

    def renew_all(
        self, held: Mapping[str, Iterable[tuple[str, str, bool]]]
    ) -> dict[str, tuple[str, frozenset[str]] | KeysAltered]:
        """The same for several jobs, in one round trip."""
        pairs = {job: list(leases) for job, leases in held.items()}
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
            self.extend_bulk(job, int(added), int(partitions), int(expire_at))
            self.list_until(job, int(expire_at), self.server_ms())

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
        ordinal: str = "",
        note: bytes = b"",
    ) -> tuple[str, str]:
        """One attempt failed: (RETRY | DEAD | DONE | FENCED | ENDED | GONE, the job's state).

        ``ordinal`` and ``note`` say at which record its process died, where records may be skipped.
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
            sealed_failure=failure,
            ordinal=ordinal,
            note=note.hex(),
        )
        return text(reply[0]), text(reply[1])

    def fail_job(self, job: str, cause: str, failure: bytes) -> bool:
        """End a running job as failed; False if it had ended or is gone."""
        return text(self._run("fail_job", job, cause=cause, sealed_failure=failure)[0]) == "OK"

    def release(self, job: str, executor: str, nonce: str, tasks: Sequence[str] = ()) -> int:
        """Give back claimed tasks uncharged; no tasks named: all that the nonce was given."""
        return int(self._run("release", job, list(tasks), executor=executor, nonce=nonce)[2])

    def reclaim(self, job: str, limit: int = 100) -> ReclaimReply:
        """Take back expired leases, at most ``limit`` of them."""
        return _raise_if_altered(self.reclaim_all([job], limit)[job])

    def reclaim_all(
        self, jobs: Sequence[str], limit: int = 100
    ) -> dict[str, ReclaimReply | KeysAltered]:
        """The same for several jobs, in one round trip; ``limit`` counts for each."""

        def answer(_job: str, reply: list[Any]) -> ReclaimReply:
            _, state, reclaimed, ended, claimable, lease = reply
            return ReclaimReply(text(state), int(reclaimed), int(ended), int(claimable), int(lease))

        return self._run_all("reclaim", dict.fromkeys(jobs, ()), answer, limit=limit)

    def steal(self, job: str, worker: str) -> Stealable:
        """For a worker that has nothing to do: what it could claim; late claims are ready again."""
        _, state, stolen, ready, slow = self._run("steal", job, worker=worker)
        return Stealable(text(state), int(stolen), int(ready), int(slow))

    def map_outputs(self, job: str) -> tuple[str, str, bytes | None, dict[int, bytes]]:
        """(state, basis, sealed end, map index -> record): what a reducer reads, of one moment.

        There are neither end nor records if the job is not reducing.
        """
        _, state, basis, end, flat = self._run("map_outputs", job)
        return text(state), text(basis), end, parse_records(_pairs(flat))

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
        self.server.require("submitter")
        return text(self._run("cancel", job)[0])

    def delete(
        self, job: str, n_map: int, partitions: int, row: Mapping[str, str | int] | None = None
    ) -> None:
        """Nothing of the job is left but its row, whatever it does; however damaged it is."""
        self.server.require("submitter")
        control = [self.keys.control(job, name) for name in CONTROL]
        bulk = self.bulk_keys(job, n_map, partitions)
        unlinks = [("UNLINK", *control), *(("UNLINK", key) for key in bulk)]

        def send_again() -> None:  # where one was refused, to hear why
            self.server.pipeline(unlinks)
            self.unlist(job)

        try:  # one that runs is cancelled first: no attempt that is on its way counts any more
            commands_after = [
                *unlinks,
                *self._unlist_commands(job),
                *self._deleted_row_commands(row),
            ]
            piggyback = Piggyback(commands_after=commands_after, on_refused=send_again)
            self._run("cancel", job, piggyback=piggyback)
        except KeysAltered:
            send_again()
        if row:
            self._trim_deleted_rows()

    def status(self, job: str, *, with_results: bool = False) -> JobStatus | None:
        """Where the job is; None if it is gone. With ``with_results``, its results too if it has succeeded."""  # noqa: E501
        reply = self._run("status", job, with_results=int(with_results))
        if text(reply[0]) == "GONE":
            return None
        _, now, maps, reduces, leased, *executors_at_work, found, flat = reply
        meta = {text(field): text(value) for field, value in _pairs(flat)}
        results = (found[0], parse_records(_pairs(found[1]))) if found else None
        busy, total_ms, last_ms = map(int, executors_at_work)
        return JobStatus(
            int(now), int(maps), int(reduces), int(leased), meta, (busy, total_ms, last_ms), results
        )

    def _run(
        self,
        verb: str,
        job: str,
        rest: Sequence[Argument] = (),
        /,
        before: Sequence[Sequence[Argument]] = (),
        piggyback: Piggyback = NO_PIGGYBACK,
        **argv: Argument,
    ) -> list[Any]:
        named = {"now_ms": self._now, **argv}
        return self.server.call(verb, self._control_keys(job), named, rest, before, piggyback)

    @property
    def _now(self) -> Argument:
        """What scripts take for the time: nothing, so their server's clock; tests may set it."""
        return "" if self.now_ms is None else self.now_ms

    def _run_all(
        self,
        verb: str,
        rest_by_job: Mapping[str, Sequence[Argument]],
        answer: Callable[[str, list[Any]], T],
        **argv: Argument,
    ) -> dict[str, T | KeysAltered]:
        calls = [(self._control_keys(job), rest) for job, rest in rest_by_job.items()]
        found: dict[str, T | KeysAltered] = {}
        for job, reply in zip(
            rest_by_job,
            self.server.call_each(verb, calls, {"now_ms": self._now, **argv}),
            strict=True,
        ):
            try:
                found[job] = answer(job, _raise_if_altered(reply))
            except KeysAltered as exc:
                found[job] = exc
        return found

    def _control_keys(self, job: str) -> dict[str, str]:
        if (names := self._key_names.get(job)) is None:
            if len(self._key_names) > 64:
                self._key_names.clear()
            names = {name: self.keys.control(job, name) for name in CONTROL}
            names["end_"] = names["end"]
            self._key_names[job] = names
        return names


def _pairs(flat: Sequence[bytes]) -> Iterable[tuple[bytes, bytes]]:
    """What a script read with HGETALL."""
    return zip(flat[::2], flat[1::2], strict=True)


def _raise_if_altered(answer: T | KeysAltered) -> T:
    """The answer, if it is none of trouble with a job's keys."""
    if isinstance(answer, KeysAltered):
        raise answer
    return answer
