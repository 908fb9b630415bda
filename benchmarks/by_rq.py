"""The RQ side: single tasks, on workers that do not fork for each task.

Workers that fork for each task are four times slower.
"""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import time
from typing import Any

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.registry import FinishedJobRegistry

from benchmarks import jobs, queues
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES


def side(_job_name: str) -> Side[Any]:
    """Return the side of the one job that RQ can do: single tasks."""
    worker = ["benchmarks.by_rq"]
    return queues.many_tasks([worker] * PROCESSES, run)


def run(items: range) -> list[tuple[int, int]]:
    """Hand all tasks in together; fetch all results together when the last task has finished."""
    connection = Redis(unix_socket_path=queues.socket_path())
    queue = Queue(connection=connection)
    data = [Queue.prepare_data(jobs.tiny, (item,), result_ttl=600) for item in items]
    ids = [job.id for job in queue.enqueue_many(data)]
    finished = FinishedJobRegistry(queue=queue)
    started = time.monotonic()
    while finished.get_job_count() < len(ids):
        if time.monotonic() - started > 120:
            raise TimeoutError("RQ did not finish")
        time.sleep(0.005)
    results = [job.return_value() for job in Job.fetch_many(ids, connection)]
    for job_id in ids:
        finished.remove(job_id)
    return results


if __name__ == "__main__":
    from rq import SimpleWorker

    server = Redis(unix_socket_path=queues.socket_path())
    SimpleWorker(["default"], connection=server).work(logging_level="ERROR")
