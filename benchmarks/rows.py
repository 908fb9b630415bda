"""The rows: the sides of each, of which the first is redismr's, and the targets of their medians.

A side is a tool and a job: ``pool.wordcount`` is ``by_pool.side("wordcount")``. All sides of a row
must have the same result, except those in ``not_compared``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks import corpus, tables
from benchmarks.cache import scaled
from benchmarks.measure import Measured
from benchmarks.workloads import ITEMS, TASKS

Medians = Mapping[str, Measured]
Figure = Callable[[Medians], float]

CHUNK_SIZES = (100, 1_000, 10_000, 50_000)


@dataclass(frozen=True, slots=True)
class Target:
    """A figure made of medians, and its bound. The figure raises KeyError if a side is missing."""

    words: str
    bound: float
    figure: Figure
    at_least: bool = False

    def met(self, figure: float) -> bool:
        """True if the figure keeps the bound."""
        return figure >= self.bound if self.at_least else figure <= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """Sides to run in turn."""

    title: str
    sides: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    make_input: Callable[[], str] = str
    """Makes the input before any side runs, and returns its description."""
    item_count: int = 0
    """Number of items at full scale, for a rate; 0 for no rate."""
    not_compared: tuple[str, ...] = ()


def _text() -> str:
    return f"{corpus.text()}"


def _quarter() -> str:
    return f"every fourth file of {corpus.text()}"


def _prose() -> str:
    return f"{corpus.prose()}"


def _records() -> str:
    return f"{scaled(tables.RECORDS):,} records in {len(tables.records())} files"


def _orders() -> str:
    for skewed in (False, True):
        tables.orders(skewed=skewed)
    return f"{scaled(tables.ORDERS):,} orders of {scaled(tables.CUSTOMERS):,} customers"


def _sides_of(job: str, *tools: str) -> tuple[str, ...]:
    return tuple(f"{tool}.{job}" for tool in tools)


def _ratio(field: str, side: str, other_sides: tuple[str, ...]) -> Figure:
    """Return the ratio of redismr's figure to the best of the other sides that are present."""

    def figure(medians: Medians) -> float:
        present = [getattr(medians[name], field) for name in other_sides if name in medians]
        if not present:
            raise KeyError(other_sides)
        return float(getattr(medians[side], field) / min(present))

    return figure


def _max_ratio(
    bound: float, side: str, words: str, *other_sides: str, field: str = "all_work"
) -> Target:
    return Target(f"times {words}", bound, _ratio(field, side, other_sides))


def _against_pool(bound: float, side: str, words: str, pool: str) -> tuple[Target, Target]:
    """Return two targets: for tools that are ready, and with their start and end."""
    return (
        _max_ratio(bound, side, words, pool),
        _max_ratio(bound, side, f"{words}, start and end included", pool, field="all_whole"),
    )


def _times_as_fast(bound: float, side: str, words: str, *other_sides: str) -> Target:
    def figure(medians: Medians) -> float:
        return 1 / _ratio("all_work", side, other_sides)(medians)

    return Target(f"times as fast as {words}", bound, figure, at_least=True)


def _max_seconds(bound: float, side: str, words: str) -> Target:
    return Target(f"seconds, {words}", bound, lambda medians: medians[side].work)


def _max_memory(bound: float, side: str) -> Target:
    return Target("MB in the submitter", bound, lambda medians: medians[side].peak_mb)


def _min_rate(bound: float, side: str, task_count: int) -> Target:
    return Target(
        "tasks a second",
        bound,
        lambda medians: scaled(task_count) / medians[side].all_work,
        at_least=True,
    )


FRAMEWORKS = ("dask", "ray", "pyspark")
REDISMR_AND_POOLS = ("redismr", "pool", "pool_gc")
QUEUE_SIDES = ("celery.tasks", "rq.tasks", "dramatiq.tasks")
POOL_TINY_SIDES = tuple(f"pool.tiny.{size}" for size in CHUNK_SIZES)
POOL_DISTINCT_SIDES = tuple(f"pool.distinct.{size}" for size in CHUNK_SIZES)
WORDCOUNT_SIDE = "redismr.wordcount"

ROWS = {
    "wordcount": Row(
        'word count of source text, redismr with "sum"',
        _sides_of("wordcount", *REDISMR_AND_POOLS, *FRAMEWORKS, "mincemeat"),
        (
            *_against_pool(0.9, WORDCOUNT_SIDE, "the Pool", "pool.wordcount"),
            *_against_pool(
                1.0, WORDCOUNT_SIDE, "the Pool with our GC settings", "pool_gc.wordcount"
            ),
            _max_ratio(1.35, WORDCOUNT_SIDE, "the Pool's CPU", "pool.wordcount", field="cpu"),
            _times_as_fast(3, WORDCOUNT_SIDE, "Dask", "dask.wordcount"),
            _times_as_fast(3, WORDCOUNT_SIDE, "PySpark", "pyspark.wordcount"),
            _times_as_fast(1, WORDCOUNT_SIDE, "Ray", "ray.wordcount"),
            _times_as_fast(20, WORDCOUNT_SIDE, "mincemeat.py", "mincemeat.wordcount"),
        ),
        make_input=_text,
    ),
    "combiner": Row(
        "word count of source text, redismr with the user's own reducer and combiner",
        ("redismr.combiner", "pool.wordcount", "pool_gc.wordcount"),
        _against_pool(1.0, "redismr.combiner", "the Pool", "pool.wordcount"),
        make_input=_text,
    ),
    "nocombiner": Row(
        "word count of source text, nothing combined on the way",
        _sides_of("nocombiner", *REDISMR_AND_POOLS, *FRAMEWORKS, "mincemeat"),
        make_input=_text,
    ),
    "prose": Row(
        "word count of prose, which has few distinct words",
        _sides_of("prose", *REDISMR_AND_POOLS, *FRAMEWORKS),
        _against_pool(1.0, "redismr.prose", "the Pool", "pool.prose"),
        make_input=_prose,
    ),
    "index": Row(
        "inverted index: each word with the sorted list of its places",
        _sides_of("index", *REDISMR_AND_POOLS, *FRAMEWORKS),
        _against_pool(1.0, "redismr.index", "the Pool", "pool.index"),
        make_input=_quarter,
    ),
    "grep": Row(
        "lines that match a pattern, with their places",
        _sides_of("grep", *REDISMR_AND_POOLS, *FRAMEWORKS),
        make_input=_text,
    ),
    "sort": Row(
        "sort of records of 100 bytes into files",
        _sides_of("sort", *REDISMR_AND_POOLS, "pyspark", "gnu"),
        (_max_ratio(5.0, "redismr.sort", "GNU sort", "gnu.sort"),),
        make_input=_records,
    ),
    "join": Row(
        "orders joined with their customers",
        _sides_of("join", *REDISMR_AND_POOLS, *FRAMEWORKS),
        _against_pool(1.0, "redismr.join", "the Pool", "pool.join"),
        make_input=_orders,
    ),
    "skewed": Row(
        "the same where 30 % of the orders are one customer's",
        (*_sides_of("skewed", *REDISMR_AND_POOLS, *FRAMEWORKS), "redismr.join"),
        (_max_ratio(1.5, "redismr.skewed", "the same join without skew", "redismr.join"),),
        not_compared=("redismr.join",),
        make_input=_orders,
    ),
    "tasks": Row(
        "tasks of one item, nothing packed",
        _sides_of("tasks", "redismr", "pool", "ray", "dask", "celery", "rq", "dramatiq", "huey"),
        (
            _min_rate(10_000, "redismr.tasks", TASKS),
            _times_as_fast(5, "redismr.tasks", "Ray", "ray.tasks"),
            _times_as_fast(
                10, "redismr.tasks", "the best of Celery, RQ and Dramatiq", *QUEUE_SIDES
            ),
        ),
        item_count=TASKS,
    ),
    "tiny": Row(
        "tiny items onto ten keys",
        ("redismr.tiny", *POOL_TINY_SIDES, "dask.tiny", "ray.tiny"),
        (_max_ratio(3.0, "redismr.tiny", "Pool.imap at its best chunksize", *POOL_TINY_SIDES),),
        item_count=ITEMS,
    ),
    "distinct": Row(
        "tiny items onto as many keys",
        ("redismr.distinct", *POOL_DISTINCT_SIDES, "dask.distinct", "ray.distinct"),
        (
            _max_ratio(
                1.5, "redismr.distinct", "the Pool at its best chunksize", *POOL_DISTINCT_SIDES
            ),
        ),
        item_count=ITEMS,
    ),
    "latency": Row(
        "a small job from submit to result, on warm workers",
        _sides_of("latency", "redismr", "futures", "ray", "dask", "celery"),
        (_max_seconds(0.008, "redismr.latency", "median of 200"),),
    ),
    "cold": Row(
        "hello, world from a shell, nothing running before",
        _sides_of("cold", "redismr", "futures", "pool", *FRAMEWORKS),
        (_max_seconds(0.7, "redismr.cold", "median of 5"),),
    ),
    "submit": Row(
        "2 GB submitted from a generator",
        ("redismr.submit",),
        (_max_memory(150, "redismr.submit"),),
    ),
    "results": Row(
        "5,000,000 results iterated", ("redismr.results",), (_max_memory(150, "redismr.results"),)
    ),
}
