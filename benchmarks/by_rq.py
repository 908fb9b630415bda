"""RQ: single tasks, by workers that do not fork for each (those that do are four times slower)."""
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
    """Single tasks, which is all that it can do."""
    worker = ["benchmarks.by_rq"]
    return queues.many_tasks([worker] * PROCESSES, run)


def run(items: range) -> list[tuple[int, int]]:
    """Handed in together; results are fetched together when all have finished."""
    connection = Redis(unix_socket_path=queues.socket_path())
    queue = Queue(connection=connection)
    data = [Queue.prepare_data(jobs.tiny, (item,), result_ttl=600) for item in items]
    ids = [job.id for job in queue.enqueue_many(data)]
    finished = FinishedJobRegistry(queue=queue)
    before = time.monotonic()
    while finished.get_job_count() < len(ids):
        if time.monotonic() - before > 120:
            raise TimeoutError("RQ did not finish")
        time.sleep(0.005)
    found = [job.return_value() for job in Job.fetch_many(ids, connection)]
    for job_id in ids:
        finished.remove(job_id)
    return found


if __name__ == "__main__":
    from rq import SimpleWorker

    server = Redis(unix_socket_path=queues.socket_path())
    SimpleWorker(["default"], connection=server).work(logging_level="ERROR")
