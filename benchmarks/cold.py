"""``hello.py`` written for other tools; each is a program that starts cold and ends.

``python -m benchmarks.cold TOOL`` prints ``word<TAB>count`` lines, as ``redismr run`` does.
"""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import importlib
import subprocess
import sys
from collections import Counter
from functools import partial
from operator import itemgetter
from typing import Any

from benchmarks import hello
from benchmarks.cache import scaled
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES, sum_by_key

REPEAT = scaled(5)


def side(*command: str) -> Side[Any]:
    """Return a side that runs a program, as a shell does, until it has ended."""
    return Side(work=lambda _: _run(command), repeat=REPEAT)


def hello_side(tool: str) -> Side[Any]:
    """Return the side of that tool's program, run by this Python."""
    return side(sys.executable, "-m", "benchmarks.cold", tool)


def _run(command: tuple[str, ...]) -> dict[str, int]:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    pairs = (line.split("\t") for line in done.stdout.decode().splitlines() if "\t" in line)
    return {word: int(count) for word, count in pairs}


def count_line(line: str) -> dict[str, int]:
    """Count the words of a line: the map task of programs that combine by hand."""
    return sum_by_key(hello.mapfn(0, line))


def by_pool() -> Counter[str]:
    """Count with ``multiprocessing``."""
    import multiprocessing

    with multiprocessing.Pool(PROCESSES) as pool:
        return sum(map(Counter, pool.map(count_line, hello.source)), Counter())


def by_futures() -> Counter[str]:
    """Count with ``concurrent.futures``."""
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(PROCESSES) as pool:
        return sum(map(Counter, pool.map(count_line, hello.source)), Counter())


def by_dask() -> dict[str, int]:
    """Count with a bag on Dask's own processes."""
    from dask import bag

    lines = bag.from_sequence(hello.source, npartitions=1)
    pairs = lines.map(partial(hello.mapfn, 0)).map(list).flatten()
    return dict(pairs.map(itemgetter(0)).frequencies().compute(num_workers=PROCESSES))


def by_ray() -> Counter[str]:
    """Count with Ray tasks."""
    import ray

    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False)
    count = ray.remote(count_line)
    return sum(map(Counter, ray.get([count.remote(line) for line in hello.source])), Counter())


def by_spark() -> dict[str, int]:
    """Count with PySpark's RDDs."""
    from pyspark import SparkContext

    context = SparkContext(f"local[{PROCESSES}]")
    pairs = context.parallelize(hello.source, 1).flatMap(partial(hello.mapfn, 0))
    return dict(pairs.reduceByKey(int.__add__).collect())


PROGRAMS = {
    "pool": by_pool,
    "futures": by_futures,
    "dask": by_dask,
    "ray": by_ray,
    "pyspark": by_spark,
}


if __name__ == "__main__":
    # Not the functions of this script: workers import functions by name, from an imported module.
    program = importlib.import_module("benchmarks.cold").PROGRAMS[sys.argv[1]]
    for word, times in program().items():
        print(word, times, sep="\t")
