"""A watch over a running job, kept by the process that waits for it."""

import time

from redismr.client.end_errors import fail_as_altered
from redismr.client.submitter import close_input_again
from redismr.core.job_payloads import JobSealer
from redismr.core.model import ENDED_STATES, RUNNING_STATES, JobSpec
from redismr.store import LIMITS, JobStatus, Store, clear_int

ANNOUNCE_SECONDS = 2.0


class JobWatch:
    """Watches one running job, so that it cannot stand still without an error."""

    def __init__(self, store: Store, sealer: JobSealer, spec: JobSpec) -> None:
        self._store, self._sealer, self._spec = store, sealer, spec
        self._announced_at = time.monotonic()

    def check(self, status: JobStatus, n_map: int | None) -> None:
        """Check a status of the job, and repair what a failover took back.

        ``n_map`` is the number of map tasks, if this process has added all of them.

        Raises:
            JobFailed: clear fields were altered. InputLost: a failover took back the input.
        """
        if status.state in ENDED_STATES:
            return
        self._announce_again()
        alteration = altered_field(status, self._spec, self._sealer.keyring.key_id)
        if status.state == "submitting":
            # The end of the input is sealed: then the state must not be "submitting" any more.
            if self._store.get_sealed(self._spec.job_id, "end") is not None:
                alteration = alteration or self._contradiction()
            # This process has closed the input, and a failover took that back: close it again.
            elif n_map is not None:
                close_input_again(self._store, self._sealer, self._spec.python, n_map)
        if alteration:
            raise fail_as_altered(self._store, self._sealer, alteration)

    def _announce_again(self) -> None:
        """List the job again every ``ANNOUNCE_SECONDS``, in case the index lost it."""
        if time.monotonic() - self._announced_at > ANNOUNCE_SECONDS:
            self._announced_at = time.monotonic()
            self._store.announce(self._spec.job_id, self._spec.priority, self._spec.submitted_ms)

    def _contradiction(self) -> str:
        """Return how the state, read again, contradicts the sealed end; empty if it does not.

        One script writes both, so a state that is read after the end is a later one.
        """
        status = self._store.status(self._spec.job_id)
        if status and status.state == "submitting":
            return "its state says that the input is incomplete, but it is complete"
        return ""


def altered_field(status: JobStatus, spec: JobSpec, key_id: str) -> str:
    """Return which clear field of a running job differs from its sealed spec; empty if none does.

    No result depends on these fields, but with an altered one the job could stop without a reason.
    """
    meta = status.meta
    if status.state not in RUNNING_STATES | ENDED_STATES:
        return "its state in Redis is not the state of a job"
    for name, sealed in (
        ("python", spec.python),
        ("protocol", spec.protocol),
        ("key_id", key_id),
        ("code_digest", spec.code_digest),
        ("partitions", spec.partitions),
        ("retries", spec.retries),
        ("lost_leases", spec.lost_leases),
        ("lease_ms", spec.lease_ms),
        ("ttl_ms", spec.ttl_ms),
        ("skip_records", int(spec.on_error != "fail")),
    ):
        if meta.get(name) != str(sealed):
            return f"{name} in Redis differs from what was submitted"
    if not 0 < clear_int(meta.get("expire_at")) - status.now_ms < LIMITS["MAX_TTL_MS"].value:
        return "its deadline (expire_at) in Redis is impossible"
    return ""
