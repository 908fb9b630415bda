"""Rows about jobs and workers, from clear text of the server: for people, no proof."""

from collections.abc import Mapping
from typing import Any

from redismr.core.model import JobSpec
from redismr.core.status_rows import JobInfo, WorkerInfo
from redismr.errors import KeysAltered
from redismr.store import Store, clear_int

_MAX_LABEL_CHARS = 200


def job_rows(store: Store) -> list[JobInfo]:
    """Return a row for every job that still exists, newest first."""
    rows = []
    for job_id in reversed(store.recent()):
        try:
            status = store.status(job_id)
        except KeysAltered:
            continue  # what lies there is no job; the others are still listed
        if status is None:
            continue  # the job expired or was deleted
        meta = status.meta
        n_map = clear_int(meta["n_map"]) if meta.get("n_map") else None
        rows.append(
            JobInfo(
                job_id=job_id,
                txn=meta.get("txn", ""),
                name=meta.get("name", ""),
                state=status.state,
                maps_done=(n_map or 0) if status.state == "succeeded" else status.maps_done,
                maps_total=n_map,
                reduces_done=status.reduces_done,
                reduces_total=clear_int(meta.get("partitions")),
                age=(status.now_ms - clear_int(meta.get("created_at"), status.now_ms)) / 1000,
                ttl=(clear_int(meta.get("expire_at"), status.now_ms) - status.now_ms) / 1000,
                cause=meta.get("cause", ""),
            )
        )
    return rows


def deleted_rows(store: Store) -> list[JobInfo]:
    """Return a row for every job that ``run`` deleted: the last 1000, until their ttl is over."""
    now_ms, rows = store.deleted()
    found = []
    for row in rows:
        maps, reduces = clear_int(row.get("maps")), clear_int(row.get("reduces"))
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
                age=(now_ms - clear_int(row.get("created"))) / 1000,
                ttl=(clear_int(row.get("until")) - now_ms) / 1000,
                deleted=True,
            )
        )
    # A row whose ttl is over stays in the store until another job is deleted.
    return [info for info in found if info.ttl > 0]


def worker_rows(store: Store) -> list[WorkerInfo]:
    """Return a row for every worker that beat in the last minute, including lost workers."""
    now_ms, rows = store.worker_rows()
    return [
        WorkerInfo(
            worker_id=worker_id,
            host=str(row.get("host", "")),
            pid=int(row.get("pid", 0)),
            python=str(row.get("python", "")),
            native=row.get("native") == 1,
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


def can_run_job(row: Mapping[str, Any], spec: JobSpec, key_id: str) -> bool:
    """True if a worker, as its row says, has the secret, Python and protocol of a job."""
    worker = row.get("key_id"), row.get("python"), row.get("protocol")
    return worker == (key_id, spec.python, spec.protocol)


def deleted_row(spec: JobSpec, n_map: int, now_ms: int) -> dict[str, str | int]:
    """Return the row to keep of a job that is deleted now and had ``n_map`` map tasks."""
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
