"""The Celery side: single tasks, and a chord as the smallest map-reduce job.

The module is also the one that Celery's workers import.
"""
# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator,misc"

from __future__ import annotations

from typing import Any

from celery import Celery, chord, group

from benchmarks import jobs, latency, queues
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES

WORKERS = [
    ["celery", "-A", "benchmarks.by_celery", "worker", "-c", str(PROCESSES), "-P", "prefork"]
]

app = Celery()
app.conf.update(
    broker_url=f"redis+socket://{queues.socket_path()}",
    result_backend=f"redis+socket://{queues.socket_path()}",
    broker_connection_retry_on_startup=True,
)


@app.task
def tiny(item: int) -> tuple[int, int]:
    """Run one task."""
    return jobs.tiny(item)


@app.task
def map_pack(pack: list[int]) -> dict[int, int]:
    """Run a map task."""
    return latency.map_pack(pack)


@app.task
def reduce_packs(packs: list[dict[int, int]]) -> dict[int, int]:
    """Run the reduce task, which is the body of the chord."""
    return latency.reduce_packs(packs)


def side(job_name: str) -> Side[Any]:
    """Return the side of the job of that name."""
    if job_name == "latency":
        return Side(
            open_tool=lambda: queues.server_and_workers(WORKERS),
            warm=small_job,
            work=small_job,
            repeat=latency.REPEAT,
        )
    return queues.many_tasks(WORKERS, run)


def _connect() -> None:
    """Set the URLs of the server, whose socket is not known at the import."""
    for name in ("broker_url", "result_backend"):
        setattr(app.conf, name, f"redis+socket://{queues.socket_path()}")


def run(items: range) -> list[Any]:
    """Run a group, and fetch its results together."""
    _connect()
    return list(group(tiny.s(item) for item in items)().join_native(timeout=60))


def small_job(_opened: object) -> dict[int, int]:
    """Run a map task for each of two packs, and the reduce task after them."""
    _connect()
    packs = [map_pack.s(list(pack)) for pack in latency.PACKS]
    counts = chord(packs)(reduce_packs.s()).get(timeout=60, interval=0.001)
    return {int(key): count for key, count in counts.items()}
