"""The Pool side of each row: programs written by hand with ``multiprocessing.Pool``."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any

from benchmarks import cold, jobs, pool_wordcount, sorting, tables
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES, WORKLOADS, items, sum_by_key, tasks


def side(job_name: str) -> Side[Any]:
    """Return the side of a job; a number after the name of the job is a chunksize."""
    job_name, _, number = job_name.partition(".")
    if job_name in {"wordcount", "prose"}:
        return Side(
            work=lambda _: pool_wordcount.count(list(WORKLOADS[job_name].paths()), PROCESSES)
        )
    if job_name == "sort":
        return sorting.side(open_pool, warm, sort_files)
    if job_name == "cold":
        return cold.hello_side("pool")
    work: dict[str, Callable[[Pool], Any]] = {
        "tasks": lambda pool: sum_by_key(pool.imap(jobs.tiny, tasks(), chunksize=1)),
        "tiny": lambda pool: sum_by_key(pool.imap(jobs.tiny, items(), chunksize=int(number))),
        "distinct": lambda pool: distinct_keys(pool, int(number)),
    }
    return Side(
        open_tool=open_pool, warm=warm, work=work.get(job_name) or partial(group_files, job_name)
    )


def open_pool() -> Pool:
    """Open a Pool of as many processes as redismr has executors."""
    return multiprocessing.Pool(PROCESSES)


def warm(pool: Pool) -> None:
    """Run something small, so that every process has started."""
    pool.map(abs, range(64))


def group_files(job_name: str, pool: Pool) -> dict[Any, Any]:
    """Group each file in a process of the Pool; merge and reduce in the parent."""
    job = WORKLOADS[job_name]
    groups: dict[Any, list[Any]] = {}
    for file_groups in pool.imap(partial(group_file, job_name), job.paths()):
        for key, values in file_groups.items():
            if key in groups:
                groups[key] += values
            else:
                groups[key] = values
    return dict(chain.from_iterable(job.reduced(*pair) for pair in groups.items()))


def group_file(job_name: str, path: str) -> dict[Any, list[Any]]:
    """Return the values of each key of one file."""
    return group_by_key(WORKLOADS[job_name].pairs(path))


def group_by_key(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """Return the values of each key, in order."""
    groups: dict[Any, list[Any]] = {}
    for key, value in pairs:
        if key in groups:
            groups[key].append(value)
        else:
            groups[key] = [value]
    return groups


def distinct_keys(pool: Pool, chunksize: int) -> dict[int, int]:
    """Group items in the processes; merge and add up in the parent."""
    all_items = items()
    chunks = (all_items[at : at + chunksize] for at in range(0, len(all_items), chunksize))
    groups: dict[int, list[int]] = {}
    for chunk_groups in pool.imap(group_chunk, chunks):
        for key, ones in chunk_groups.items():
            if key in groups:
                groups[key] += ones
            else:
                groups[key] = ones
    return {key: sum(ones) for key, ones in groups.items()}


def group_chunk(chunk: range) -> dict[int, list[int]]:
    """Return the values of each key of some items."""
    return group_by_key(map(jobs.distinct, chunk))


def sort_files(folder: Path, pool: Pool) -> list[Path]:
    """Split each file by ranges of keys; then sort each range."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        pool.map(partial(write_ranges, scratch), tables.records(), chunksize=1)
        return pool.map(partial(sort_range, scratch, folder), range(sorting.RANGES), chunksize=1)


def write_ranges(scratch: str, path: str) -> None:
    """Write the records of one file into a file for each range."""
    ranges: list[list[tuple[str, str]]] = [[] for _ in range(sorting.RANGES)]
    for key, rest in jobs.records(path, Path(path).read_text(encoding="ascii")):
        ranges[jobs.range_of(key, sorting.RANGES)].append((key, rest))
    for number, pairs in enumerate(ranges):
        name = Path(scratch, f"{number:03}-{Path(path).name}")
        name.write_text("".join(f"{key}{rest}\n" for key, rest in pairs), encoding="ascii")


def sort_range(scratch: str, folder: Path, number: int) -> Path:
    """Sort the records of one range, from all files, into a part file."""
    pieces = sorted(Path(scratch).glob(f"{number:03}-*"))
    texts = (jobs.records("", piece.read_text(encoding="ascii")) for piece in pieces)
    pairs = sorted(chain.from_iterable(texts), key=lambda pair: pair[0])
    part = folder / f"part-{number:03}"
    part.write_text("".join(f"{key}{rest}\n" for key, rest in pairs), encoding="ascii")
    return part
