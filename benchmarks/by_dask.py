"""The Dask side of each row: bags on Dask's own processes, single tasks on ``distributed``."""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from operator import add, itemgetter
from typing import Any

import dask
from dask import bag

from benchmarks import cold, jobs, latency
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES, WORKLOADS, items, sum_by_key, tasks

PARTITIONS = 10 * PROCESSES
INPUT_SHARES = {"nocombiner": 1 / 8, "index": 1 / 4}
"""The share of the files that Dask is given in rows where its shuffle on disk takes minutes."""


def side(job_name: str) -> Side[Any]:
    """Return the side of the job of that name."""
    if job_name == "cold":
        return cold.hello_side("dask")
    if job_name == "tasks":
        return Side(open_tool=cluster, warm=small_job, work=many_tasks)
    if job_name == "latency":
        return Side(open_tool=cluster, warm=small_job, work=small_job, repeat=latency.REPEAT)
    work: dict[str, Callable[[], Any]] = {
        "tiny": partial(tiny_items, jobs.tiny),
        "distinct": partial(tiny_items, jobs.distinct),
    }
    if job_name in INPUT_SHARES:
        return part_side(job_name, INPUT_SHARES[job_name])
    return Side(
        open_tool=processes, work=lambda _: (work.get(job_name) or partial(mapreduce, job_name))()
    )


@contextmanager
def processes() -> Iterator[None]:
    """Use the default scheduler of bags, with as many processes as the other tools."""
    with dask.config.set(scheduler="processes", num_workers=PROCESSES):
        yield


@contextmanager
def cluster() -> Iterator[Any]:
    """Start ``distributed`` on this machine."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=PROCESSES, threads_per_worker=1, dashboard_address=None) as started,
        Client(started) as client,
    ):
        yield client


def part_side(job_name: str, part: float) -> Side[Any]:
    """Return the side of a job that reads a share of its files."""
    job = WORKLOADS[job_name]
    return Side(
        open_tool=processes,
        work=lambda _: mapreduce(job_name, part),
        collect=_with_tuples if job_name == "index" else dict,
        part=part,
        expected=lambda: job.in_a_loop(_part_of(job.paths(), part)),
    )


def _part_of(paths: Sequence[str], part: float) -> Sequence[str]:
    return paths[: round(len(paths) * part)]


def mapreduce(job_name: str, part: float = 1.0) -> dict[Any, Any]:
    """Run a partition for each file, and fold or group the pairs, as the row's reducer allows."""
    job = WORKLOADS[job_name]
    paths = _part_of(job.paths(), part)
    pairs = bag.from_sequence(paths, npartitions=len(paths)).map(job.pairs).flatten()
    if job.fold is not None:
        return fold_pairs(pairs, job.fold)
    reduced = pairs.groupby(itemgetter(0)).map(partial(_reduce_group, job_name)).flatten()
    return dict(reduced.compute())


def fold_pairs(pairs: Any, fold: Callable[[Any, Any], Any]) -> dict[Any, Any]:
    """Fold with ``foldby``: into a dict for each partition, and then into one dict."""
    total = pairs.foldby(itemgetter(0), partial(_fold_in, fold), 0, combine=fold, combine_initial=0)
    return dict(total.compute())


def _fold_in(fold: Callable[[Any, Any], Any], so_far: Any, pair: tuple[Any, Any]) -> Any:
    return fold(so_far, pair[1])


def _reduce_group(job_name: str, group: tuple[Any, list[tuple[Any, Any]]]) -> list[tuple[Any, Any]]:
    key, pairs = group
    return list(WORKLOADS[job_name].reduced(key, [value for _, value in pairs]))


def _with_tuples(places_by_key: dict[Any, list[Any]]) -> dict[Any, list[Any]]:
    """Turn the places into tuples again: Dask's shuffle makes a list of a tuple in a value."""
    return {key: [tuple(place) for place in places] for key, places in places_by_key.items()}


def tiny_items(pair: Callable[[int], tuple[int, int]]) -> dict[Any, Any]:
    """Run tiny items that are packed into partitions."""
    numbers = bag.range(len(items()), npartitions=PARTITIONS)
    return fold_pairs(numbers.map(pair), add)


def many_tasks(client: Any) -> dict[int, int]:
    """Run a task for each item."""
    return sum_by_key(client.gather(client.map(jobs.tiny, tasks(), pure=False)))


def small_job(client: Any) -> dict[int, int]:
    """Run a task for each of two packs, and one that adds up."""
    packs = client.map(latency.map_pack, latency.PACKS, pure=False)
    return dict(client.submit(latency.reduce_packs, packs, pure=False).result())
