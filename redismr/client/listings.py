"""Rows about jobs and workers, as the server has them in clear: for people, never believed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redismr.core.status_rows import JobInfo, WorkerInfo
from redismr.errors import KeysAltered
from redismr.store import number

if TYPE_CHECKING:
    from redismr.core.model import JobSpec
    from redismr.store import Store


_MAX_LABEL_CHARS = 200


def job_rows(store: Store) -> list[JobInfo]:
    """Every job that still exists, newest first."""
    rows = []
    for job_id in reversed(store.recent()):
        try:
            status = store.status(job_id)
        except KeysAltered:
            continue  # nothing of ours lies there; the others are listed all the same
        if status is None:
            continue
        meta = status.meta
        n_map = number(meta["n_map"]) if meta.get("n_map") else None
        rows.append(
            JobInfo(
                job_id=job_id,
                txn=meta.get("txn", ""),
                name=meta.get("name", ""),
                state=status.state,
                maps_done=(n_map or 0) if status.state == "succeeded" else status.maps_done,
                maps_total=n_map,
                reduces_done=status.reduces_done,
                reduces_total=number(meta.get("partitions")),
                age=(status.now_ms - number(meta.get("created_at"), status.now_ms)) / 1000,
                ttl=(number(meta.get("expire_at"), status.now_ms) - status.now_ms) / 1000,
                cause=meta.get("cause", ""),
            )
        )
    return rows


def deleted_rows(store: Store) -> list[JobInfo]:
    """Every job that ``run`` has deleted, as long as that is remembered."""
    now_ms, rows = store.deleted()
    found = []
    for row in rows:
        maps, reduces = number(row.get("maps")), number(row.get("reduces"))
        found.append(
            JobInfo(
                job_id=str(row.get("job", "")),
                txn=str(row.get("txn", "")),
                name=str(row.get("name", "")),
                state="succeeded",
                maps_done=maps,
                maps_total=maps,
                reduces_done=reduces,
                reduces_total=reduces,
                age=(now_ms - number(row.get("created"))) / 1000,
                ttl=(number(row.get("until")) - now_ms) / 1000,
                deleted=True,
            )
        )
    return [info for info in found if info.ttl > 0]


def worker_rows(store: Store) -> list[WorkerInfo]:
    """Every worker that was heard of in the last minute, those that are lost as well."""
    now_ms, rows = store.worker_rows()
    return [
        WorkerInfo(
            worker_id=worker_id,
            host=str(row.get("host", "")),
            pid=int(row.get("pid", 0)),
            python=str(row.get("python", "")),
            protocol=int(row.get("protocol", 0)),
            key_id=str(row.get("key_id", "")),
            executors=int(row.get("executors", 0)),
            busy=int(row.get("busy", 0)),
            tasks=int(row.get("tasks", 0)),
            beat_age=max(0.0, (now_ms - int(row["beat"])) / 1000),
            problem=str(row.get("problem", "")),
            lost=row["lost"],
        )
        for worker_id, row in sorted(rows.items())
    ]


def deleted_row(spec: JobSpec, n_map: int, now_ms: int) -> dict[str, str | int]:
    """What is remembered of a job that is deleted now: ``n_map`` is how many map tasks it had."""
    return {
        "job": spec.job_id,
        "txn": spec.txn[:_MAX_LABEL_CHARS],
        "name": spec.name[:_MAX_LABEL_CHARS],
        "maps": n_map,
        "reduces": spec.partitions if n_map else 0,
        "created": spec.submitted_ms,
        "deleted": now_ms,
        "until": now_ms + spec.ttl_ms,
    }
