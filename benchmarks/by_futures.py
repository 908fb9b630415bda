"""The side of ``concurrent.futures`` in the rows of the smallest jobs."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks import cold, latency
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES


def side(job_name: str) -> Side[Any]:
    """Return the side of the job of that name."""
    if job_name == "cold":
        return cold.hello_side("futures")
    return Side(open_tool=_open, warm=small_job, work=small_job, repeat=latency.REPEAT)


def _open() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(PROCESSES)


def small_job(pool: ProcessPoolExecutor) -> dict[int, int]:
    """Run a task for each of two packs; the parent adds up."""
    return latency.reduce_packs(pool.map(latency.map_pack, latency.PACKS))
