"""The rows' jobs as data: what is read, and which of the user functions run over it.

Sides without a program of their own for a row make one of this, each in its tool's own words.
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
"""Workers of every side: executors, pool processes, Spark's cores, Dask's and Ray's workers."""

TASKS = 20_000
ITEMS = 1_000_000


@dataclass(frozen=True, slots=True)
class Workload:
    """Files to read, a mapper over (path, contents), and what becomes of a key's values.

    ``fold`` adds one value to another where values may be combined on the way. A reducer that
    ``emits`` yields pairs of its own.
    """

    paths: Callable[[], Sequence[str]]
    mapfn: Callable[[str, str], Iterable[tuple[Any, Any]]]
    reducefn: Callable[[Any, Iterable[Any]], Any]
    fold: Callable[[Any, Any], Any] | None = None
    emits: bool = False

    def pairs(self, path: str) -> Iterable[tuple[Any, Any]]:
        """What the mapper makes of one file."""
        return self.mapfn(path, Path(path).read_text(encoding="utf-8"))

    def reduced(self, key: Any, values: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        """What the reducer makes of one key."""
        if self.emits:
            yield from self.reducefn(key, values)
        else:
            yield key, self.reducefn(key, values)

    def in_a_loop(self, paths: Iterable[str]) -> dict[Any, Any]:
        """The result, by the loop that anybody would write."""
        groups: dict[Any, list[Any]] = {}
        for path in paths:
            for key, value in self.pairs(path):
                groups.setdefault(key, []).append(value)
        return {k: v for key, values in groups.items() for k, v in self.reduced(key, values)}


def _text() -> list[str]:
    return corpus.text().paths


def _quarter() -> list[str]:
    """Every fourth file of the text: the index of all of it would fill 5 GB as a dict."""
    return corpus.text().paths[::4]


WORKLOADS = {
    "wordcount": Workload(_text, jobs.words, jobs.total, operator.add),
    "nocombiner": Workload(_text, jobs.words, jobs.total_not_recognised),
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
    """The files that a side of this row reads."""
    if job_name == "sort":
        return tables.records()
    job = WORKLOADS.get("wordcount" if job_name == "combiner" else job_name)
    return job.paths() if job else ()


def items(share: float = 1.0) -> range:
    """The numbers that tiny tasks are about."""
    return range(scaled(int(ITEMS * share)))


def tasks(share: float = 1.0) -> range:
    """The numbers that tasks of one item each are about."""
    return range(scaled(int(TASKS * share)))


def sum_by_key(pairs: Iterable[tuple[Any, int]]) -> dict[Any, int]:
    """Pairs added up by key, as a submitter does whose tool leaves that to it."""
    totals: dict[Any, int] = {}
    for key, one in pairs:
        totals[key] = totals.get(key, 0) + one
    return totals
