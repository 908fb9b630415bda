"""The verbs of whoever submits a job, waits for it, or ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from redismr.errors import KeysAltered
from redismr.store import replies
from redismr.store.channel import ChannelStore
from redismr.store.job_data import Fields, staging_commands
from redismr.store.job_index import JobIndexStore, WakeTarget
from redismr.store.keys import CONTROL
from redismr.store.reply_values import hash_fields, is_gone, reply_text, reply_word
from redismr.store.round_trips import NO_PIGGYBACK, Argument, Piggyback

LISTING_MARGIN_MS = 1000
"""A new job is listed until its ttl and this margin after its submission. If the server made it so
late that its deadline lies behind that, it is listed again, until its deadline."""


class SubmitterVerbs(JobIndexStore, ChannelStore):
    """Creates a job, hands its input in, asks for its status, and cancels or deletes it."""

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
        """Create the job, so that it accepts input; return its deadline, in ms of the server.

        With ``since_ms``, the time of its submission, also list the job, announce it to workers,
        and publish ``event``.

        Raises:
            UnfitServer, StoreUnavailable: as ``RetryingClient.require``, before anything is
            written.
        """
        self.redis_client.require("submitter")
        until_ms = since_ms + ttl_ms + LISTING_MARGIN_MS
        piggyback, channels = NO_PIGGYBACK, ("", "")
        if since_ms:
            priority = int(fields.get("priority", 0))
            piggyback = self._listing_piggyback(job, priority, since_ms, until_ms)
            channels = self._event_channels(str(fields.get("txn", job)))
        flat: list[Argument] = [part for pair in fields.items() for part in pair]
        _, deadline = self._run(
            "create", job, flat, piggyback=piggyback,
            spec_blob=spec, code_blob=code, params_blob=params, ttl_ms=ttl_ms, submit_ms=submit_ms,
            channel=channels[0], all_channel=channels[1], event=event,
        )  # fmt: skip
        expire_at = int(deadline)
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
    ) -> replies.AddReply:
        """Make map tasks ``first``..``last - 1`` claimable, and renew the submitter's lease.

        The sealed splits are written in the same transaction: else a failover between the two could
        leave tasks without input. ``workers`` names, for each task, the only worker that may claim
        it (a job with one map task for each worker). ``waking`` is what ``wake`` takes: it costs no
        round trip here (``round_trips``). ``input_so_far``: see ``core.status_rows.InputAmount``.
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
            "add", job, list(workers),
            before=staging_commands(by_key, expire_at), piggyback=piggyback,
            first=first, last=last, input_added=input_so_far,
        )  # fmt: skip
        return replies.AddReply(reply_word(status), int(added), int(finished), reply_word(state))

    def close(self, job: str, n: int, nonce: str, end: bytes) -> replies.CloseReply:
        """Declare the input complete: ``n`` map tasks, as the sealed ``end`` says."""
        status, state, added, opened = self._run("close", job, n=n, nonce=nonce, end_blob=end)
        return replies.CloseReply(reply_word(status), reply_word(state), int(added), int(opened))

    def status(self, job: str, *, with_results: bool = False) -> replies.JobStatus | None:
        """Return where the job is; None if it is gone.

        With ``with_results``, also return the results of a job that has succeeded.
        """
        reply = self._run("status", job, with_results=int(with_results))
        if is_gone(reply):
            return None
        _, now, maps, reduces, leased, busy, total_ms, last_ms, found, flat = reply
        return replies.JobStatus(
            int(now), int(maps), int(reduces), int(leased),
            {reply_text(field): reply_text(value) for field, value in hash_fields(flat)},
            replies.ExecutorsAtWork(int(busy), int(total_ms), int(last_ms)),
            replies.end_and_records(*found) if found else None,
        )  # fmt: skip

    def cancel(self, job: str) -> replies.EndStatus:
        """End a running job as cancelled, and free its control data."""
        self.redis_client.require("submitter")
        status, _ = self._run("cancel", job)
        return reply_word(status)  # type: ignore[no-any-return]

    def delete(
        self, job: str, n_map: int, partitions: int, row: Mapping[str, str | int] | None = None
    ) -> None:
        """Delete the job from Redis, whatever its state, and however damaged its keys are.

        ``row`` is the clear row of the job that ``deleted`` returns from then on.
        """
        self.redis_client.require("submitter")
        control = [self.keys.control(job, name) for name in CONTROL]
        bulk = self.keys.bulk(job, n_map, partitions)
        unlinks = [("UNLINK", *control), *(("UNLINK", key) for key in bulk)]

        def send_again() -> None:  # a command was refused: the error says why
            self.redis_client.pipeline(unlinks)
            self.unlist(job)

        try:  # cancel a running job first: then no attempt that is on its way counts any more
            behind = [*unlinks, *self._unlist_commands(job)]
            behind += self._deleted_row_commands(row) if row else []
            self._run("cancel", job, piggyback=Piggyback((), behind, send_again))
        except KeysAltered:
            send_again()
        if row:
            self._trim_deleted_rows()
