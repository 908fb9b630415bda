"""Measure a point of a growth row here: ``python -m benchmarks.growing growth-size 160``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import redis

import redismr
from benchmarks import cache, corpus, idle, jobs, proc
from benchmarks.by_redismr import tiny, warm
from benchmarks.cache import scaled
from benchmarks.workloads import PROCESSES

EXECUTORS_MB = 160
MEMORY_MB = 40
TASKS_OF_A_JOB = 100

Work = Callable[[redismr.Client], object]


def main(row: str, value: int) -> dict[str, float]:
    """Return the figures of one value of a row."""
    if row == "growth-idle":
        return {"rate": idle.commands_per_second(value)}
    works: dict[str, Work] = {
        "growth-size": lambda client: count_words(client, value),
        "growth-executors": lambda client: count_words(client, EXECUTORS_MB),
        "growth-memory": lambda client: count_words_in_memory(client, value),
        "growth-tasks": lambda client: dict(client.run(range(scaled(value)), tiny, "sum", chunk=1)),
        "growth-jobs": lambda client: run_many_jobs(client, value),
    }
    megabytes = {"growth-size": value, "growth-executors": EXECUTORS_MB, "growth-memory": MEMORY_MB}
    if row in megabytes:
        cache.load_into_page_cache(corpus.growing_text(megabytes[row]).paths)
    return measure_client(works[row], value if row == "growth-executors" else PROCESSES)


def measure_client(work: Work, executors: int) -> dict[str, float]:
    """Return the seconds, memory and commands of some work on a server of its own."""
    with redismr.Client(executors=executors) as client:
        server = redis.Redis.from_url(client.connection.url)
        warm(client)
        commands_before = command_count(server)
        started = time.perf_counter()
        result = work(client)
        seconds = time.perf_counter() - started
        command_total = command_count(server) - commands_before
        peak = server.info("memory")["used_memory_peak"]
        server.close()
        submitter_mb = proc.peak_mb()
        del result
        return {
            "seconds": seconds,
            "redis_mb": peak / 1e6,
            "worker_mb": proc.others_peak_mb(),
            "submitter_mb": submitter_mb,
            "commands": command_total,
        }


def count_words(client: redismr.Client, megabytes: int) -> dict[Any, Any]:
    """Return all words in a dict."""
    text = redismr.text(corpus.growing_text(megabytes).paths)
    return dict(client.submit(text, jobs.words, "sum"))


def count_words_in_memory(client: redismr.Client, megabytes: int) -> dict[Any, Any]:
    """Return all words, not combined, from reducers that may use so many megabytes."""
    text = redismr.text(corpus.growing_text(MEMORY_MB).paths)
    memory = megabytes << 20
    return dict(client.submit(text, jobs.words, jobs.total, partitions=PROCESSES, memory=memory))


def run_many_jobs(client: redismr.Client, number: int) -> list[dict[Any, Any]]:
    """Hand in all jobs, and then return their results in that order."""
    items = range(TASKS_OF_A_JOB)
    handles = [client.submit(items, tiny, "sum", chunk=1) for _ in range(number)]
    return [dict(handle.result()) for handle in handles]


def command_count(server: Any) -> int:
    """Return the number of commands that Redis has run, without INFO."""
    stats = server.info("commandstats")
    return int(sum(row["calls"] for name, row in stats.items() if "info" not in name))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))
