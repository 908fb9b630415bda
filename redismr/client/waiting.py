"""Why nothing happens: nobody waits mute."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from redismr.core.model import ENDED_STATES, PROTOCOL, RUNNING_STATES
from redismr.store import number

if TYPE_CHECKING:
    from redismr.core.model import JobSpec
    from redismr.core.seal import Keyring
    from redismr.store import Look, Store

EXPLAIN_AFTER = 5.0
"""Seconds without any work on a job after which the reason is said."""

_REFRESH = 2.0


_MAX_TTL_MS = 400 * 86_400_000


def altered(look: Look, spec: JobSpec, key_id: str) -> str:
    """Which clear field of a running job does not fit its sealed spec; empty if all do.

    Nobody believes them for a result, but the job would stand still, and nobody know why.
    """
    meta = look.meta
    if look.state not in RUNNING_STATES | ENDED_STATES:
        return "its state in Redis is none that a job can have"
    for name, sealed in (
        ("python", spec.python),
        ("protocol", spec.protocol),
        ("key_id", key_id),
        ("digest", spec.code_digest),
        ("partitions", spec.partitions),
        ("retries", spec.retries),
        ("lost_leases", spec.lost_leases),
        ("lease_ms", spec.lease_ms),
    ):
        if meta.get(name) != str(sealed):
            return f"{name} in its clear state is not what its sealed spec says"
    if not 0 < number(meta.get("expire_at")) - look.now_ms < _MAX_TTL_MS:
        return "its deadline (expire_at) in Redis is none that it can have"
    return ""


class Waiting:
    """Watches one job for idleness and explains it from the rows of the workers."""

    def __init__(self, store: Store, keyring: Keyring, spec: JobSpec) -> None:
        self._store, self._keyring, self._spec = store, keyring, spec
        self._since = time.monotonic()
        self._done = -1
        self._told = ""
        self._read_at = 0.0
        self._rows: list[dict[str, object]] = []

    @property
    def idle_seconds(self) -> float:
        """For how long nobody has worked on the job."""
        return time.monotonic() - self._since

    @property
    def workers(self) -> int:
        """Workers that may take the job."""
        return len(self._eligible())

    @property
    def slots(self) -> int:
        """Their executors."""
        return sum(int(str(row.get("executors", 0))) for row in self._eligible())

    def watch(self, look: Look, *, silent: bool) -> None:
        """Take note of one look; explain idleness on stderr, once per reason, unless ``silent``."""
        done = look.maps_done + look.reduces_done
        if look.leased or done != self._done:
            self._since, self._done = time.monotonic(), done
        elif not silent and self.idle_seconds > EXPLAIN_AFTER:
            why = self.reason()
            if why and why != self._told:
                self._told = why
                sys.stderr.write(f"redismr: waiting: {why}\n")

    def reason_if_idle(self, look: Look) -> str:
        """The reason, if the job is idle for long; for progress rows."""
        self.watch(look, silent=True)
        return self.reason() if self.idle_seconds > EXPLAIN_AFTER else ""

    def reason(self) -> str:
        """Why nobody takes the job, and what to do; empty if somebody could."""
        rows = self._read()
        where, namespace = self._store.link.where, self._store.keys.namespace
        if not rows:
            return (
                f"no workers are connected to {where} (namespace {namespace}). "
                "Start one: redismr worker"
            )
        if self._eligible():
            return ""
        ours = self._keyring.key_id
        strangers = sorted({str(r.get("key_id")) for r in rows if r.get("key_id") != ours})
        if len([r for r in rows if r.get("key_id") != ours]) == len(rows):
            return (
                f"{len(rows)} workers are connected to {where}, but with another secret "
                f"(fingerprint {', '.join(strangers)}; ours is {ours}). Set the same "
                "REDISMR_SECRET on both sides"
            )
        pythons = sorted({str(r.get("python")) for r in rows if r.get("key_id") == ours})
        if self._spec.python not in pythons:
            return (
                f"the job needs workers with Python {self._spec.python}; those connected run "
                f"{', '.join(pythons)}"
            )
        return f"no connected worker speaks protocol {self._spec.protocol}: upgrade redismr there"

    def _eligible(self) -> list[dict[str, object]]:
        return [
            row
            for row in self._read()
            if row.get("key_id") == self._keyring.key_id
            and row.get("python") == self._spec.python
            and row.get("protocol") == PROTOCOL
        ]

    def _read(self) -> list[dict[str, object]]:
        now = time.monotonic()
        if now - self._read_at > _REFRESH:
            _, rows = self._store.worker_rows()
            self._rows = list(rows.values())
            self._read_at = now
        return self._rows
