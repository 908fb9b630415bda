"""Who waits for a job keeps it listed, and ends it if its clear fields are not what was sealed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redismr.client.end_errors import fail_as_altered
from redismr.client.submitter import close_input_again
from redismr.core.model import ENDED_STATES, RUNNING_STATES
from redismr.store import number

if TYPE_CHECKING:
    from redismr.core.job_payloads import JobSealer
    from redismr.core.model import JobSpec
    from redismr.store import JobStatus, Store

ANNOUNCE_SECONDS = 2.0

_MAX_TTL_MS = 400 * 86_400_000


class JobWatch:
    """Sees to it that one job does not stand still, and nobody knows why."""

    def __init__(self, store: Store, sealer: JobSealer, spec: JobSpec) -> None:
        self._store, self._sealer, self._spec = store, sealer, spec
        self._announced_at = time.monotonic()

    def check(self, status: JobStatus, n_map: int | None) -> None:
        """List the job again in case the index lost it; end it if its clear fields were altered.

        ``n_map`` is how many map tasks there are, where we are the ones who know.

        Raises:
            JobFailed: it was altered. InputLost: a failover took back its input.
        """
        if status.state in ENDED_STATES:
            return
        if time.monotonic() - self._announced_at > ANNOUNCE_SECONDS:
            self._announced_at = time.monotonic()
            self._store.announce(self._spec.job_id, self._spec.priority, self._spec.submitted_ms)
        alteration = altered_field(status, self._spec, self._sealer.keyring.key_id)
        if (
            status.state == "submitting"
            and self._store.get_sealed(self._spec.job_id, "end") is not None
        ):
            # The script that closes the input writes both; so by now the state must have moved on.
            status_now = self._store.status(self._spec.job_id)
            if status_now and status_now.state == "submitting":
                alteration = (
                    alteration or "its state says that its input is not all there, which is not so"
                )
        elif status.state == "submitting" and n_map is not None:
            close_input_again(self._store, self._sealer, self._spec.python, n_map)
        if alteration:
            raise fail_as_altered(self._store, self._sealer, alteration)


def altered_field(status: JobStatus, spec: JobSpec, key_id: str) -> str:
    """Which clear field of a running job does not fit its sealed spec; empty if all do.

    Nobody believes them for a result, but the job would stand still, and nobody know why.
    """
    meta = status.meta
    if status.state not in RUNNING_STATES | ENDED_STATES:
        return "its state in Redis is not one that a job can have"
    for name, sealed in (
        ("python", spec.python),
        ("protocol", spec.protocol),
        ("key_id", key_id),
        ("digest", spec.code_digest),
        ("partitions", spec.partitions),
        ("retries", spec.retries),
        ("lost_leases", spec.lost_leases),
        ("lease_ms", spec.lease_ms),
        ("ttl_ms", spec.ttl_ms),
        ("skip_records", int(spec.on_error != "fail")),
    ):
        if meta.get(name) != str(sealed):
            return f"{name} in Redis is not as it was submitted"
    if not 0 < number(meta.get("expire_at")) - status.now_ms < _MAX_TTL_MS:
        return "its deadline (expire_at) in Redis is not one that it can have"
    return ""
