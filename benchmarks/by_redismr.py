"""The redismr side of each row: public API only, a private server, two executors."""

from __future__ import annotations

import itertools
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import redismr
from benchmarks import cold, hello, jobs, latency, sorting, tables, workloads
from benchmarks.cache import scaled
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES, WORKLOADS

SUBMITTED_BYTES = 2_000_000_000
ITEM_BYTES = 100_000
RESULT_COUNT = 5_000_000
RESULTS_PER_ITEM = 10_000

REDUCERS = {"wordcount": "sum", "prose": "sum", "grep": None}
"""The named reducer that a user of redismr would write in place of the same in Python."""

WHOLE_FILE_JOBS = {"index", "grep"}
"""Jobs that need whole files, because they emit places in them; other jobs read runs of lines."""


def side(job_name: str) -> Side[Any]:
    """Return the side of the job of that name."""
    if job_name == "latency":
        return Side(open_tool=client, warm=warm, work=small_job, repeat=latency.REPEAT)
    if job_name == "cold":
        return cold.side(*_command(), "run", hello.__file__)
    if job_name == "sort":
        return sorting.side(client, warm, sort_files)
    work = WORK_BY_JOB.get(job_name) or partial(run_workload, job_name)
    return Side(open_tool=client, warm=warm, work=work)


def client() -> AbstractContextManager[redismr.Client]:
    """Open a private server and two local executors."""
    return redismr.Client(executors=PROCESSES)


def warm(opened: redismr.Client) -> None:
    """Run a small job, so that every executor has started and run something."""
    dict(opened.run(range(64), tiny, "sum", chunk=1))


def run_workload(job_name: str, opened: redismr.Client) -> Mapping[Any, Any]:
    """Run a workload, and collect its result in a dict, as programs written by hand do.

    The iteration over a job takes partitions as they finish, while others are still reduced.
    """
    job = WORKLOADS[job_name]
    reducer = REDUCERS.get(job_name, job.reducefn)
    source = redismr.files if job_name in WHOLE_FILE_JOBS else redismr.text
    return dict(opened.submit(source(job.paths()), job.mapfn, reducer))


def combiner(opened: redismr.Client) -> Mapping[Any, Any]:
    """Run the word count with a reducer and a combiner of the user's own."""
    job = WORKLOADS["wordcount"]
    source = redismr.text(job.paths())
    return dict(opened.submit(source, job.mapfn, jobs.total, combinefn=jobs.total))


def tasks(opened: redismr.Client) -> Mapping[Any, Any]:
    """Run tasks of one item each: the cost of a task."""
    return dict(opened.run(workloads.tasks(), tiny, "sum", chunk=1))


def tiny_items(opened: redismr.Client) -> Mapping[Any, Any]:
    """Run a million items of one integer each, packed as redismr chooses."""
    return dict(opened.run(workloads.items(), tiny, "sum"))


def distinct_keys(opened: redismr.Client) -> Mapping[Any, Any]:
    """Run a million items onto as many keys."""
    return dict(opened.submit(workloads.items(), distinct, "sum"))


def small_job(opened: redismr.Client) -> Mapping[Any, Any]:
    """Run the smallest job, from submit to result."""
    return dict(opened.run(latency.ITEMS, tiny, "sum"))


def sort_files(folder: Path, opened: redismr.Client) -> list[Path]:
    """Sort records into part files: partitions are ranges, and each reducer writes one."""
    parts = opened.run(
        redismr.text(tables.records()),
        jobs.records,
        write_part,
        partitionfn=jobs.range_of,
        sort=True,
        partitions=sorting.RANGES,
        params={"folder": str(folder)},
    )
    return [folder / name for name in sorted(parts)]


def write_part(items: Iterator[tuple[str, Iterator[str]]]) -> Iterator[tuple[str, int]]:
    """Write one partition, which comes in order; yield the name and the length of its part file.

    The file gets its name when it is complete, because a second attempt may write it too.
    """
    first_key, folder, record_count = "", Path(redismr.param("folder")), 0
    with tempfile.NamedTemporaryFile("w", dir=folder, encoding="ascii", delete=False) as out:
        for key, rests in items:
            first_key = first_key or key
            for rest in rests:
                out.write(f"{key}{rest}\n")
                record_count += 1
    if record_count:
        name = f"part-{jobs.range_of(first_key, sorting.RANGES):03}"
        Path(out.name).rename(folder / name)
        yield name, record_count


def submit(opened: redismr.Client) -> Mapping[Any, Any]:
    """Submit 2 GB from a generator, which the submitter must not keep in memory."""
    return dict(opened.run(big_items(), size, "sum"))


def results(opened: redismr.Client) -> Mapping[Any, Any]:
    """Iterate over five million results, and drop each one."""
    counts = opened.run(range(scaled(RESULT_COUNT // RESULTS_PER_ITEM)), ten_thousand_keys, "sum")
    return {"results": sum(value for _key, value in counts.items())}


WORK_BY_JOB: dict[str, Callable[[redismr.Client], Mapping[Any, Any]]] = {
    "combiner": combiner,
    "tasks": tasks,
    "tiny": tiny_items,
    "distinct": distinct_keys,
    "submit": submit,
    "results": results,
}


def tiny(_key: int, item: int) -> Iterator[tuple[int, int]]:
    """Map an item with ``jobs.tiny``."""
    yield jobs.tiny(item)


def distinct(_key: int, item: int) -> Iterator[tuple[int, int]]:
    """Map an item with ``jobs.distinct``."""
    yield jobs.distinct(item)


def size(_key: int, item: str) -> Iterator[tuple[str, int]]:
    """Emit the length of an item."""
    yield "characters", len(item)


def ten_thousand_keys(_key: int, item: int) -> Iterator[tuple[int, int]]:
    """Emit ten thousand keys that no other item has."""
    first = item * RESULTS_PER_ITEM
    return zip(range(first, first + RESULTS_PER_ITEM), itertools.repeat(1))


def big_items() -> Iterator[str]:
    """Yield strings of 100 kB, all different, that compress to half their size."""
    noise = random.Random(0).randbytes(ITEM_BYTES).hex()
    for number in range(scaled(SUBMITTED_BYTES // ITEM_BYTES)):
        start = number * 7919 % ITEM_BYTES
        yield f"{number:>10}{noise[start : start + ITEM_BYTES - 10]}"


def _command() -> list[str]:
    """Return the command of the installed ``redismr``, or of the module if there is no script."""
    script = Path(sys.executable).with_name("redismr")
    return [str(script)] if script.exists() else [sys.executable, "-m", "redismr"]
