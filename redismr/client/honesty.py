"""Who waits for a job keeps it listed, and ends it if its clear fields are not what was sealed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from redismr.client.outcome import ended_as_altered
from redismr.client.submitter import close_again
from redismr.core.model import ENDED_STATES, RUNNING_STATES
from redismr.store import number

if TYPE_CHECKING:
    from redismr.core.model import JobSpec
    from redismr.core.vault import Vault
    from redismr.store import Look, Store

ANNOUNCE_SECONDS = 2.0

_MAX_TTL_MS = 400 * 86_400_000


class Honesty:
    """Sees to it that one job does not stand still, and nobody knows why."""

    def __init__(self, store: Store, vault: Vault, spec: JobSpec) -> None:
        self._store, self._vault, self._spec = store, vault, spec
        self._announced = time.monotonic()

    def keep(self, look: Look, handed_in: int | None) -> None:
        """List the job again in case the index lost it; end it if its clear fields were altered.

        ``handed_in`` is how many map tasks there are, where we are the ones who know.

        Raises:
            JobFailed: it was altered. InputLost: a failover took back its input.
        """
        if look.state in ENDED_STATES:
            return
        if time.monotonic() - self._announced > ANNOUNCE_SECONDS:
            self._announced = time.monotonic()
            self._store.announce(self._spec.job_id, self._spec.priority, self._spec.submitted_ms)
        what = altered(look, self._spec, self._vault.keyring.key_id)
        if look.state == "submitting" and self._store.blob(self._spec.job_id, "end") is not None:
            # The script that closes the input writes both; so by now the state must have moved on.
            again = self._store.look(self._spec.job_id)
            if again and again.state == "submitting":
                what = what or "its state says that its input is not all there, which is not so"
        elif look.state == "submitting" and handed_in is not None:
            close_again(self._store, self._vault, self._spec.python, handed_in)
        if what:
            raise ended_as_altered(self._store, self._vault, what)


def altered(look: Look, spec: JobSpec, key_id: str) -> str:
    """Which clear field of a running job does not fit its sealed spec; empty if all do.

    Nobody believes them for a result, but the job would stand still, and nobody know why.
    """
    meta = look.meta
    if look.state not in RUNNING_STATES | ENDED_STATES:
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
        ("skips", int(spec.on_error != "fail")),
    ):
        if meta.get(name) != str(sealed):
            return f"{name} in Redis is not as it was submitted"
    if not 0 < number(meta.get("expire_at")) - look.now_ms < _MAX_TTL_MS:
        return "its deadline (expire_at) in Redis is not one that it can have"
    return ""
