"""The jobs of the rows as data: their input, and the user functions that run over it.

A side without a program of its own for a row builds one from this, with the API of its tool.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import corpus, jobs, tables
from benchmarks.cache import scaled

PROCESSES = 2
"""Workers of every side: executors, Pool processes, Spark's cores, Dask's and Ray's workers."""

TASKS = 20_000
ITEMS = 1_000_000


@dataclass(frozen=True, slots=True)
class Workload:
    """Files to read, a mapfn over (path, contents), and a reducefn over (key, values)."""

    paths: Callable[[], Sequence[str]]
    mapfn: Callable[[str, str], Iterable[tuple[Any, Any]]]
    reducefn: Callable[[Any, Iterable[Any]], Any]
    fold: Callable[[Any, Any], Any] | None = None
    """Adds a value to another; None if values must not be combined before the reducer."""
    emits: bool = False
    """True if the reducer yields pairs of its own, and returns no value."""

    def pairs(self, path: str) -> Iterable[tuple[Any, Any]]:
        """Return the pairs that the mapper emits for one file."""
        return self.mapfn(path, Path(path).read_text(encoding="utf-8"))

    def reduced(self, key: Any, values: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """Yield the pairs that the reducer makes of one key."""
        if self.emits:
            yield from self.reducefn(key, values)
        else:
            yield key, self.reducefn(key, values)

    def in_a_loop(self, paths: Iterable[str]) -> dict[Any, Any]:
        """Return the result of a plain loop."""
        groups: dict[Any, list[Any]] = {}
        for path in paths:
            for key, value in self.pairs(path):
                groups.setdefault(key, []).append(value)
        return {k: v for key, values in groups.items() for k, v in self.reduced(key, values)}


def _text() -> list[str]:
    return corpus.text().paths


def _quarter() -> list[str]:
    """Return every fourth file of the text: the index of the whole text is a dict of 5 GB."""
    return corpus.text().paths[::4]


WORKLOADS = {
    "wordcount": Workload(_text, jobs.words, jobs.total, operator.add),
    "nocombiner": Workload(_text, jobs.words, jobs.total),
    "prose": Workload(lambda: corpus.prose().paths, jobs.words, jobs.total, operator.add),
    "index": Workload(_quarter, jobs.words_with_places, jobs.sorted_places),
    "grep": Workload(_text, jobs.mutex_lines, jobs.list_values),
    "join": Workload(
        lambda: tables.orders(skewed=False), jobs.table_rows, jobs.join_orders, emits=True
    ),
    "skewed": Workload(
        lambda: tables.orders(skewed=True), jobs.table_rows, jobs.join_orders, emits=True
    ),
}


def inputs(job_name: str) -> Sequence[str]:
    """Return the files that a side of this row reads."""
    if job_name == "sort":
        return tables.records()
    job = WORKLOADS.get("wordcount" if job_name == "combiner" else job_name)
    return job.paths() if job else ()


def items(share: float = 1.0) -> range:
    """Return the numbers of the rows of tiny items."""
    return range(scaled(int(ITEMS * share)))


def tasks(share: float = 1.0) -> range:
    """Return the numbers of the row of tasks with one item each."""
    return range(scaled(int(TASKS * share)))


def sum_by_key(pairs: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    """Add up pairs by key, as a submitter does if its tool leaves that to the user."""
    totals: dict[Any, int] = {}
    for key, count in pairs:
        totals[key] = totals.get(key, 0) + count
    return totals
