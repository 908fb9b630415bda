"""The verbs of executors, and of supervisors that act for their executors."""

from collections.abc import Mapping, Sequence

from redismr.core.model import AttemptRef, Claim
from redismr.store.replies import (
    Commit,
    CommitReply,
    EndAndRecords,
    EndReply,
    FailReply,
    InvalidateReply,
    MapOutputsReply,
    ReleaseReply,
    StageEvents,
)
from redismr.store.reply_values import hash_fields, is_gone, parse_records, reply_text, reply_word
from redismr.store.round_trips import SMALL_JOB_TASKS, Argument
from redismr.store.script_runner import ScriptRunner


class ExecutorVerbs(ScriptRunner):
    """Claims tasks, commits, fails or releases attempts, and reads what reducers need."""

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
        commits: Sequence[Commit],
        next_nonce: str,
        want: int,
        stage_events: StageEvents | None = None,
        *,
        min_want: int = 1,
        want_reduces: int = 1,
    ) -> CommitReply | None:
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
        return CommitReply(
            tuple(map(reply_word, tail[: int(n)])),
            int(opened),
            Claim(job, next_nonce, reply_word(state), ids, reply_text(basis), int(now)),
            EndAndRecords(outputs[0], parse_records(hash_fields(outputs[1]))) if outputs else None,
        )

    def map_outputs(self, job: str) -> MapOutputsReply:
        """Return what a reducer reads, all of one moment: the sealed end and the map records."""
        _, state, basis, end, flat = self._run("map_outputs", job)
        outputs = EndAndRecords(end, parse_records(hash_fields(flat)))
        return MapOutputsReply(reply_word(state), reply_text(basis), outputs)

    def invalidate(
        self, attempt: AttemptRef, basis: str, missing: Mapping[int, str]
    ) -> InvalidateReply:
        """Send maps whose segments are gone to run again: ``missing`` is map index -> token."""
        flat: list[Argument] = [part for pair in missing.items() for part in pair]
        status, state, rerun = self._run(
            "invalidate", attempt.job, flat, id=attempt.task, token=attempt.token, basis=basis
        )
        return InvalidateReply(reply_word(status), reply_word(state), int(rerun))

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
    ) -> FailReply:
        """Report that an attempt failed; charge a budget of its task.

        Where records may be skipped, ``ordinal`` and the sealed ``note`` name the record at which
        the process of the attempt died.
        """
        status, state = self._run(
            "fail", attempt.job, id=attempt.task, token=attempt.token, executor=executor, kind=kind,
            signature=signature, cause=cause, sealed_failure=failure, ordinal=ordinal,
            note=note.hex(),
        )  # fmt: skip
        return FailReply(reply_word(status), reply_word(state))

    def fail_job(self, job: str, cause: str, failure: bytes) -> EndReply:
        """End a running job as failed, for a cause that no single task is to blame for."""
        status, state = self._run("fail_job", job, cause=cause, sealed_failure=failure)
        return EndReply(reply_word(status), reply_word(state))

    def release(
        self, job: str, executor: str, nonce: str, tasks: Sequence[str] = ()
    ) -> ReleaseReply:
        """Give claimed tasks back uncharged; without ``tasks``, all tasks of the nonce."""
        status, state, released = self._run(
            "release", job, list(tasks), executor=executor, nonce=nonce
        )
        return ReleaseReply(reply_word(status), reply_word(state), int(released))
