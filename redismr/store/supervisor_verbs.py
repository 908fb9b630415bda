"""The verbs of supervisors: they keep leases of living executors, and take back those of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from redismr.errors import KeysAltered
from redismr.store.replies import ExtendReply, HeldLease, ReclaimReply, RenewReply, Stealable
from redismr.store.reply_values import is_gone, reply_text, reply_word
from redismr.store.script_runner import ScriptRunner, raise_if_altered


class SupervisorVerbs(ScriptRunner):
    """Renews, reclaims and steals leases; prolongs the life of running jobs."""

    def renew(self, job: str, held: Iterable[tuple[str, str, bool]]) -> RenewReply:
        """Renew these leases (``HeldLease``) of one job."""
        return raise_if_altered(self.renew_all({job: held})[job])

    def renew_all(
        self, held: Mapping[str, Iterable[tuple[str, str, bool]]]
    ) -> dict[str, RenewReply | KeysAltered]:
        """Renew leases of several jobs in one round trip; extend a job that is due for it."""
        leases = {job: [HeldLease(*lease) for lease in its] for job, its in held.items()}

        def parse_reply(job: str, reply: list[Any]) -> RenewReply:
            if is_gone(reply):
                return RenewReply("", frozenset(lease.task for lease in leases[job]))
            _, state, is_extension_due, *lost = reply
            if is_extension_due:
                self.extend(job)
            return RenewReply(reply_word(state), frozenset(map(reply_text, lost)))

        flat = {
            job: [part for lease in its for part in (lease.task, lease.token, str(+lease.started))]
            for job, its in leases.items()
        }
        return self._run_each("renew", flat, parse_reply)

    def extend(self, job: str) -> ExtendReply:
        """Let the keys of a running job live for its ttl from now on, bulk keys included."""
        status, expire_at, added, partitions = self._run("extend", job)
        reply = ExtendReply(reply_word(status), int(expire_at), int(added), int(partitions))
        if reply.status == "OK":
            self.extend_bulk(job, reply.added, reply.partitions, reply.expire_at)
            self.list_until(job, reply.expire_at, self.server_ms())
        return reply

    def reclaim(self, job: str, limit: int = 100) -> ReclaimReply:
        """Take back at most ``limit`` expired leases of one job."""
        return raise_if_altered(self.reclaim_all([job], limit)[job])

    def reclaim_all(
        self, jobs: Sequence[str], limit: int = 100
    ) -> dict[str, ReclaimReply | KeysAltered]:
        """Take back expired leases of several jobs in one round trip, ``limit`` of each."""

        def parse_reply(_job: str, reply: list[Any]) -> ReclaimReply:
            _, state, reclaimed, ended, claimable, lease_ms = reply
            return ReclaimReply(
                reply_word(state), int(reclaimed), int(ended), int(claimable), int(lease_ms)
            )

        return self._run_each("reclaim", dict.fromkeys(jobs, ()), parse_reply, limit=limit)

    def steal(self, job: str, worker: str) -> Stealable:
        """Make late claims of others ready again; return what an idle worker could claim."""
        _, state, stolen, ready, slow = self._run("steal", job, worker=worker)
        return Stealable(reply_word(state), int(stolen), int(ready), int(slow))
