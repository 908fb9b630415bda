"""The clear fields of a job that an executor reads before it opens anything sealed."""

from __future__ import annotations

from dataclasses import dataclass

from redismr.store import Store, number


class JobAltered(Exception):
    """Data that decides a whole job was altered in Redis, so no task of the job can be trusted."""


@dataclass(frozen=True, slots=True)
class JobHeader:
    """Tells whether this executor can take a job. Only hints: the sealed spec decides."""

    job: str
    #: ``major.minor`` of the submitter.
    python: str
    protocol: int  #: ``PROTOCOL`` of the submitter.
    #: Fingerprint of the secret that the job is sealed with.
    key_id: str
    #: Digest of code and params.
    code_digest: str
    priority: int
    lease_ms: int  #: How long a task stays leased without a renewal.
    #: When the job's keys expire, in ms on the server's clock.
    expire_at: int

    @classmethod
    def read(cls, store: Store, job: str) -> JobHeader | None:
        """Return the header of a job, or None if the job is gone."""
        m = store.meta(
            job, "python", "protocol", "key_id", "code_digest", "priority", "lease_ms", "expire_at"
        )
        if not m:
            return None
        return cls(
            job,
            m["python"],
            number(m["protocol"]),
            m["key_id"],
            m["code_digest"],
            number(m["priority"]),
            number(m["lease_ms"]),
            number(m["expire_at"]),
        )
