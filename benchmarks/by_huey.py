"""The Huey side: single tasks, with the Redis storage.

The module is also the one that Huey's consumers import.
"""
# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"

from __future__ import annotations

from typing import Any

from huey import RedisHuey

from benchmarks import jobs, queues
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES

WORKERS = [
    ["huey.bin.huey_consumer", "benchmarks.by_huey.huey", "-k", "process", "-w", str(PROCESSES)]
]


def _huey() -> Any:
    return RedisHuey("bench", url=f"unix://{queues.socket_path()}")


huey = _huey()


def tiny(item: int) -> tuple[int, int]:
    """Run one task."""
    return jobs.tiny(item)


huey.task(name="tiny")(tiny)


def side(_job_name: str) -> Side[Any]:
    """Return the side of the one job that Huey can do: single tasks."""
    return queues.many_tasks(WORKERS, run)


def run(items: range) -> list[Any]:
    """Hand tasks in one by one, then fetch each result."""
    task = _huey().task(name="tiny")(tiny)  # the socket is not known at the import
    handles = [task(item) for item in items]
    return [handle.get(blocking=True, timeout=120, max_delay=0.01) for handle in handles]
