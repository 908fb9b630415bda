"""The Dramatiq side: single tasks, with the Redis broker and result backend.

The module is also the one that Dramatiq's workers import.
"""
# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks import jobs, queues
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES

WORKERS = [["dramatiq", "benchmarks.by_dramatiq", "-p", str(PROCESSES), "-t", "1"]]


def _broker() -> Any:
    url = f"unix://{queues.socket_path()}"
    broker = RedisBroker(url=url)
    broker.add_middleware(Results(backend=RedisBackend(url=url)))
    return broker


dramatiq.set_broker(_broker())


@dramatiq.actor(store_results=True)
def tiny(item: int) -> tuple[int, int]:
    """Run one task."""
    return jobs.tiny(item)


def side(_job_name: str) -> Side[Any]:
    """Return the side of the one job that Dramatiq can do: single tasks."""
    return queues.many_tasks(WORKERS, run)


def run(items: range) -> list[Any]:
    """Run a group, and fetch its results in order."""
    broker = _broker()  # the socket is not known at the import
    broker.declare_actor(tiny)
    tiny.broker = broker
    group = dramatiq.group([tiny.message(item) for item in items], broker=broker)
    return list(group.run().get_results(block=True, timeout=120_000))
