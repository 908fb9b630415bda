"""Helpers of the protocol tests that are no fixtures."""

from __future__ import annotations

from redismr.store import Store

LEASE_MS = 1000


def make_job(store: Store, job: str, **fields: object) -> str:
    store.create(
        job,
        spec=b"spec",
        code=b"code",
        params=b"params",
        ttl_ms=3_600_000,
        submit_ms=15_000,
        fields={
            "partitions": 2,
            "lease_ms": LEASE_MS,
            "retries": 3,
            "lost_leases": 3,
            **fields,
        },
    )
    return job
