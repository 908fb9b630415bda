"""The Ray side of each row: tasks, with a shuffle written by hand."""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import ray

from benchmarks import cold, jobs, latency
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES, WORKLOADS, items, sum_by_key, tasks

ITEMS_PER_TASK = 10_000
"""Number of tiny items in a task."""

Shares = list[dict[Any, Any]]


def side(job_name: str) -> Side[Any]:
    """Return the side of the job of that name."""
    if job_name == "cold":
        return cold.hello_side("ray")
    work: dict[str, Callable[[], Any]] = {
        "tasks": many_tasks,
        "tiny": partial(tiny_items, jobs.tiny),
        "distinct": partial(tiny_items, jobs.distinct),
        "latency": small_job,
    }
    return Side(
        open_tool=opened,
        warm=lambda _: [small_job() for _ in range(PROCESSES)],
        work=lambda _: (work.get(job_name) or partial(mapreduce, job_name))(),
        repeat=latency.REPEAT if job_name == "latency" else 1,
    )


@contextmanager
def opened() -> Iterator[None]:
    """Start Ray on this machine, with as many workers as the other tools."""
    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def mapreduce(job_name: str) -> dict[Any, Any]:
    """Run a task for each file, which splits its keys, and a task for each share of the keys."""
    map_file = ray.remote(num_returns=PROCESSES)(_map_file)
    return _shuffle_and_reduce(
        job_name, [map_file.remote(job_name, path) for path in WORKLOADS[job_name].paths()]
    )


def tiny_items(pair: Callable[[int], tuple[int, int]]) -> dict[Any, Any]:
    """Run tiny items that are packed into tasks by hand."""
    all_items = items()
    map_pack = ray.remote(num_returns=PROCESSES)(_map_pack)
    packs = (all_items[at : at + ITEMS_PER_TASK] for at in range(0, len(all_items), ITEMS_PER_TASK))
    return _shuffle_and_reduce("wordcount", [map_pack.remote(pair, pack) for pack in packs])


def _shuffle_and_reduce(job_name: str, maps: list[list[Any]]) -> dict[Any, Any]:
    reduce_share = ray.remote(_reduce_share)
    shares = [reduce_share.remote(job_name, *share) for share in zip(*maps, strict=True)]
    del maps
    merged: dict[Any, Any] = {}
    for share in shares:
        merged.update(ray.get(share))
    return merged


def _map_file(job_name: str, path: str) -> Shares:
    job = WORKLOADS[job_name]
    return _split_by_hash(job.pairs(path), job.fold)


def _map_pack(pair: Callable[[int], tuple[int, int]], pack: range) -> Shares:
    return _split_by_hash(map(pair, pack), WORKLOADS["wordcount"].fold)


def _split_by_hash(
    pairs: Iterable[tuple[Any, Any]], fold: Callable[[Any, Any], Any] | None
) -> Shares:
    """Group or fold the pairs, and split them by hash, on which all processes agree."""
    values_by_key: dict[Any, Any] = {}
    for key, value in pairs:
        if fold is None:
            values_by_key.setdefault(key, []).append(value)
        else:
            values_by_key[key] = fold(values_by_key[key], value) if key in values_by_key else value
    shares: Shares = [{} for _ in range(PROCESSES)]
    for key, value in values_by_key.items():
        shares[hash(key) % PROCESSES][key] = value
    return shares


def _reduce_share(job_name: str, *maps: dict[Any, Any]) -> dict[Any, Any]:
    job, merged = WORKLOADS[job_name], {}
    for share in maps:
        for key, value in share.items():
            if key not in merged:
                merged[key] = value if job.fold else list(value)
            elif job.fold:
                merged[key] = job.fold(merged[key], value)
            else:
                merged[key] += value
    if job.fold:
        return merged
    return {k: v for key, values in merged.items() for k, v in job.reduced(key, values)}


def many_tasks() -> dict[int, int]:
    """Run a task for each item."""
    run = ray.remote(jobs.tiny)
    return sum_by_key(ray.get([run.remote(item) for item in tasks()]))


_map_small = ray.remote(latency.map_pack)


def _reduce_small(*packs: dict[int, int]) -> dict[int, int]:
    return latency.reduce_packs(packs)


_add_up = ray.remote(_reduce_small)


def small_job() -> dict[int, int]:
    """Run a task for each of two packs, and one that adds up."""
    packs = [_map_small.remote(pack) for pack in latency.PACKS]
    return dict(ray.get(_add_up.remote(*packs)))
