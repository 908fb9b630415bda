"""The PySpark side of each row: RDDs, on as many cores as the others have processes."""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pyspark import SparkConf, SparkContext

from benchmarks import cold, sorting, tables
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES, WORKLOADS

PARTITIONS = 4 * PROCESSES
SETTINGS = {
    "spark.driver.memory": "6g",
    "spark.driver.maxResultSize": "0",
    "spark.python.worker.memory": "2g",  # PySpark must not spill to disk, as the other tools do not
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


def side(job_name: str) -> Side[Any]:
    """Return the side of the job of that name."""
    if job_name == "cold":
        return cold.hello_side("pyspark")
    if job_name == "sort":
        return sorting.side(opened, warm, sort_files)
    return Side(open_tool=opened, warm=warm, work=partial(mapreduce, job_name))


@contextmanager
def opened() -> Iterator[Any]:
    """Start Spark on this machine, with a JVM of its own."""
    conf = SparkConf().setMaster(f"local[{PROCESSES}]").setAll(list(SETTINGS.items()))
    context = SparkContext(conf=conf)
    context.setLogLevel("ERROR")
    try:
        yield context
    finally:
        context.stop()


def warm(context: Any) -> None:
    """Run something small, so that the Python workers have started."""
    context.parallelize(range(64), PROCESSES).map(abs).count()


def mapreduce(job_name: str, context: Any) -> dict[Any, Any]:
    """Run a partition for each file, and fold or group the pairs, as the row's reducer allows."""
    job = WORKLOADS[job_name]
    paths = list(job.paths())
    pairs = context.parallelize(paths, len(paths)).flatMap(partial(_pairs, job_name))
    if job.fold is not None:
        return dict(pairs.reduceByKey(job.fold, PARTITIONS).collect())
    groups = pairs.groupByKey(PARTITIONS)
    return dict(groups.flatMap(partial(_reduce_group, job_name)).collect())


def sort_files(folder: Path, context: Any) -> list[Path]:
    """Sort by ranges that Spark samples, and save: by key, and by the number after the key."""
    paths = tables.records()
    lines = context.parallelize(paths, len(paths)).flatMap(_lines)
    lines.sortBy(_identity, numPartitions=sorting.RANGES).saveAsTextFile(str(folder / "parts"))
    return sorted((folder / "parts").glob("part-*"))


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="ascii").splitlines()


def _identity(line: str) -> str:
    return line


def _pairs(job_name: str, path: str) -> Any:
    return WORKLOADS[job_name].pairs(path)


def _reduce_group(job_name: str, group: tuple[Any, Any]) -> Iterator[tuple[Any, Any]]:
    return WORKLOADS[job_name].reduced(*group)
