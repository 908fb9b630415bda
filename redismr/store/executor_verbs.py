"""The verbs of executors, and of supervisors that act for their executors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from redismr.core.model import AttemptRef, Claim, FailStatus
from redismr.errors import KeysAltered
from redismr.store import replies
from redismr.store.channel import ChannelStore
from redismr.store.job_data import JobDataStore
from redismr.store.job_index import JobIndexStore
from redismr.store.reply_values import is_gone, reply_text, reply_word
from redismr.store.round_trips import SMALL_JOB_TASKS, Argument
from redismr.store.store_base import raise_if_altered


class ExecutorVerbs(JobDataStore, JobIndexStore, ChannelStore):
    """Claims, commits, fails, releases, renews, reclaims and steals; reads what reducers need."""

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
        """Claim up to ``want`` maps, or ``want_reduces`` reduces, under a lease.

        Returns None if the job is gone. The server grants as many tasks as are ready, up to the
        number asked for, even if none remain for others: callers ask for a few ms of work. With
        ``backup``, and no task ready, the claim may be a task that another executor is slow at.
        ``include_spec``: see ``round_trips``.
        """
        reply = self._run(
            "claim", job, executor=executor, nonce=nonce, want=want, want_reduces=want_reduces,
            backup=int(backup), include_spec=int(include_spec),
        )  # fmt: skip
        if is_gone(reply):
            return None
        _, state, basis, now, sealed, *ids, ready_untouched = reply
        tasks = tuple(map(reply_text, ids))
        wake_count = ready_untouched if len(tasks) + ready_untouched <= SMALL_JOB_TASKS else 0
        return Claim(
            job, nonce, reply_word(state), tasks, reply_text(basis), int(now), tuple(sealed),
            wake_count,
        )  # fmt: skip

    def commit(
        self,
        job: str,
        executor: str,
        commits: Sequence[replies.Commit],
        next_nonce: str,
        want: int,
        stage_events: replies.StageEvents | None = None,
        *,
        min_want: int = 1,
        want_reduces: int = 1,
    ) -> replies.CommitReply | None:
        """Count each attempt once or not at all, then claim; return None if the job is gone.

        The claim gets at least ``min_want`` maps, even beyond ``MAX_SHARE_OF_READY``. If these
        maps were the last, the claim is for ``want_reduces``, as in ``claim``. Without
        ``stage_events`` the server publishes nothing.
        """
        flat: list[Argument] = []
        for c in commits:
            flat += (c.task, c.token, c.basis, c.chunks, c.shuffled, c.record, c.event, c.read)
        channel, all_channel = self._event_channels(stage_events.txn) if stage_events else ("", "")
        reply = self._run(
            "commit", job, flat, executor=executor, next_nonce=next_nonce,
            want=want, min_want=min_want, want_reduces=want_reduces,
            channel=channel, all_channel=all_channel,
            reducing=stage_events.reducing if stage_events else "",
            succeeded=stage_events.succeeded if stage_events else "",
        )  # fmt: skip
        if is_gone(reply):
            return None
        _, state, basis, now, opened, n, *tail, outputs = reply
        ids = tuple(map(reply_text, tail[int(n) :]))
        return replies.CommitReply(
            tuple(map(reply_word, tail[: int(n)])),
            int(opened),
            Claim(job, next_nonce, reply_word(state), ids, reply_text(basis), int(now)),
            replies.end_and_records(*outputs) if outputs else None,
        )

    def map_outputs(self, job: str) -> replies.MapOutputsReply:
        """Return what a reducer reads, all of one moment: the sealed end and the map records."""
        _, state, basis, end, flat = self._run("map_outputs", job)
        outputs = replies.end_and_records(end, flat)
        return replies.MapOutputsReply(reply_word(state), reply_text(basis), outputs)

    def invalidate(
        self, attempt: AttemptRef, basis: str, missing: Mapping[int, str]
    ) -> replies.InvalidateReply:
        """Send maps whose segments are gone to run again: ``missing`` is map index -> token."""
        flat: list[Argument] = [part for pair in missing.items() for part in pair]
        status, state, rerun = self._run(
            "invalidate", attempt.job, flat, id=attempt.task, token=attempt.token, basis=basis
        )
        return replies.InvalidateReply(reply_word(status), reply_word(state), int(rerun))

    def fail(
        self,
        attempt: AttemptRef,
        executor: str,
        *,
        kind: str,
        signature: str,
        cause: str,
        failure: bytes,
        ordinal: str = "",
        note: bytes = b"",
    ) -> FailStatus:
        """Report that an attempt failed; charge a budget of its task.

        Where records may be skipped, ``ordinal`` and the sealed ``note`` name the record at which
        the process of the attempt died.
        """
        status, _ = self._run(
            "fail", attempt.job, id=attempt.task, token=attempt.token, executor=executor, kind=kind,
            signature=signature, cause=cause, sealed_failure=failure, ordinal=ordinal,
            note=note.hex(),
        )  # fmt: skip
        return reply_word(status)  # type: ignore[no-any-return]

    def fail_job(self, job: str, cause: str, failure: bytes) -> replies.EndStatus:
        """End a running job as failed, for a cause that no single task is to blame for."""
        status, _ = self._run("fail_job", job, cause=cause, sealed_failure=failure)
        return reply_word(status)  # type: ignore[no-any-return]

    def release(self, job: str, executor: str, nonce: str, tasks: Sequence[str] = ()) -> int:
        """Give claimed tasks back uncharged; without ``tasks``, all tasks of the nonce.

        Returns the number of tasks that are ready again.
        """
        reply = self._run("release", job, list(tasks), executor=executor, nonce=nonce)
        return int(reply[-1])

    def renew(self, job: str, held: Iterable[tuple[str, str, bool]]) -> replies.RenewReply:
        """Renew these leases of one job: task, token, and whether the executor has begun it."""
        return raise_if_altered(self.renew_all({job: held})[job])

    def renew_all(
        self, held: Mapping[str, Iterable[tuple[str, str, bool]]]
    ) -> dict[str, replies.RenewReply | KeysAltered]:
        """Renew leases of several jobs in one round trip; extend a job that is due for it."""
        leases = {job: list(its) for job, its in held.items()}

        def parse_reply(job: str, reply: list[Any]) -> replies.RenewReply:
            if is_gone(reply):
                return replies.RenewReply("", frozenset(task for task, _, _ in leases[job]))
            _, state, is_extension_due, *lost = reply
            if is_extension_due:
                self.extend(job)
            return replies.RenewReply(reply_word(state), frozenset(map(reply_text, lost)))

        flat = {
            job: [part for task, token, started in its for part in (task, token, str(+started))]
            for job, its in leases.items()
        }
        return self._run_each("renew", flat, parse_reply)

    def extend(self, job: str) -> None:
        """Let the keys of a running job live for its ttl from now on, bulk keys included."""
        status, expire_at, added, partitions = self._run("extend", job)
        if reply_text(status) == "OK":
            self.extend_bulk(job, int(added), int(partitions), int(expire_at))
            self.list_until(job, int(expire_at), self.server_ms())

    def reclaim(self, job: str, limit: int = 100) -> replies.ReclaimReply:
        """Take back at most ``limit`` expired leases of one job."""
        return raise_if_altered(self.reclaim_all([job], limit)[job])

    def reclaim_all(
        self, jobs: Sequence[str], limit: int = 100
    ) -> dict[str, replies.ReclaimReply | KeysAltered]:
        """Take back expired leases of several jobs in one round trip, ``limit`` of each."""

        def parse_reply(_job: str, reply: list[Any]) -> replies.ReclaimReply:
            _, state, reclaimed, ended, claimable, lease_ms = reply
            return replies.ReclaimReply(
                reply_word(state), int(reclaimed), int(ended), int(claimable), int(lease_ms)
            )

        return self._run_each("reclaim", dict.fromkeys(jobs, ()), parse_reply, limit=limit)

    def steal(self, job: str, worker: str) -> replies.Stealable:
        """Make late claims of others ready again; return what an idle worker could claim."""
        _, state, stolen, ready, slow = self._run("steal", job, worker=worker)
        return replies.Stealable(reply_word(state), int(stolen), int(ready), int(slow))
