"""The rows: which sides each has, the first of them redismr's, and what their medians are to show.

A side is a tool and a job, ``pool.wordcount``: ``by_pool.side("wordcount")``. All sides of a row
must come to the same result, but for those that are told ``apart``.
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
    """A figure made of medians, and the bound that it is to keep. KeyError: a side is not there."""

    words: str
    bound: float
    figure: Figure
    at_least: bool = False

    def met(self, figure: float) -> bool:
        """Whether the bound is kept."""
        return figure >= self.bound if self.at_least else figure <= self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """Sides to run in turn.

    ``reads`` makes the input, so that no side must, and says what it is; ``things`` is how many of
    something there are, for a rate.
    """

    title: str
    sides: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    reads: Callable[[], str] = str
    things: int = 0
    apart: tuple[str, ...] = ()


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


def _of(job: str, *tools: str) -> tuple[str, ...]:
    return tuple(f"{tool}.{job}" for tool in tools)


def _ratio(what: str, ours: str, others: tuple[str, ...]) -> Figure:
    """Ours against the best of the others that are there."""

    def figure(found: Medians) -> float:
        there = [getattr(found[name], what) for name in others if name in found]
        if not there:
            raise KeyError(others)
        return float(getattr(found[ours], what) / min(there))

    return figure


def _at_most(bound: float, ours: str, words: str, *others: str, what: str = "all_work") -> Target:
    return Target(f"times {words}", bound, _ratio(what, ours, others))


def _pool(bound: float, ours: str, words: str, pool: str) -> tuple[Target, Target]:
    """Both ways to look at it: on tools that are ready, and with start and end."""
    return (
        _at_most(bound, ours, words, pool),
        _at_most(bound, ours, f"{words}, start and end included", pool, what="all_whole"),
    )


def _faster(bound: float, ours: str, words: str, *others: str) -> Target:
    def figure(found: Medians) -> float:
        return 1 / _ratio("all_work", ours, others)(found)

    return Target(f"times as fast as {words}", bound, figure, at_least=True)


def _seconds(bound: float, side: str, words: str) -> Target:
    return Target(f"seconds, {words}", bound, lambda found: found[side].work)


def _memory(bound: float, side: str) -> Target:
    return Target("MB in the submitter", bound, lambda found: found[side].peak_mb)


def _rate(bound: float, side: str, things: int) -> Target:
    return Target(
        "tasks a second", bound, lambda found: scaled(things) / found[side].all_work, at_least=True
    )


FRAMEWORKS = ("dask", "ray", "pyspark")
BY_HAND = ("redismr", "pool", "pool_gc")
QUEUES = ("celery.tasks", "rq.tasks", "dramatiq.tasks")
POOLED = tuple(f"pool.tiny.{size}" for size in CHUNK_SIZES)
POOLED_KEYS = tuple(f"pool.distinct.{size}" for size in CHUNK_SIZES)
COUNT = "redismr.wordcount"

ROWS = {
    "wordcount": Row(
        'word count of source text, redismr with "sum"',
        _of("wordcount", *BY_HAND, *FRAMEWORKS, "mincemeat"),
        (
            *_pool(0.9, COUNT, "the Pool", "pool.wordcount"),
            *_pool(1.0, COUNT, "the Pool with our GC settings", "pool_gc.wordcount"),
            _at_most(1.35, COUNT, "the Pool's CPU", "pool.wordcount", what="cpu"),
            _faster(3, COUNT, "Dask", "dask.wordcount"),
            _faster(3, COUNT, "PySpark", "pyspark.wordcount"),
            _faster(1, COUNT, "Ray", "ray.wordcount"),
            _faster(20, COUNT, "mincemeat.py", "mincemeat.wordcount"),
        ),
        reads=_text,
    ),
    "combiner": Row(
        "word count of source text, redismr with the user's own reducer and combiner",
        ("redismr.combiner", "pool.wordcount", "pool_gc.wordcount"),
        _pool(1.0, "redismr.combiner", "the Pool", "pool.wordcount"),
        reads=_text,
    ),
    "nocombiner": Row(
        "word count of source text, nothing combined on the way",
        _of("nocombiner", *BY_HAND, *FRAMEWORKS, "mincemeat"),
        reads=_text,
    ),
    "prose": Row(
        "word count of prose, which has few distinct words",
        _of("prose", *BY_HAND, *FRAMEWORKS),
        _pool(1.0, "redismr.prose", "the Pool", "pool.prose"),
        reads=_prose,
    ),
    "index": Row(
        "inverted index: each word with the sorted list of its places",
        _of("index", *BY_HAND, *FRAMEWORKS),
        _pool(1.0, "redismr.index", "the Pool", "pool.index"),
        reads=_quarter,
    ),
    "grep": Row(
        "lines that match a pattern, with their places",
        _of("grep", *BY_HAND, *FRAMEWORKS),
        reads=_text,
    ),
    "sort": Row(
        "sort of records of 100 bytes into files",
        _of("sort", *BY_HAND, "pyspark", "gnu"),
        (_at_most(5.0, "redismr.sort", "GNU sort", "gnu.sort"),),
        reads=_records,
    ),
    "join": Row(
        "orders joined with their customers",
        _of("join", *BY_HAND, *FRAMEWORKS),
        _pool(1.0, "redismr.join", "the Pool", "pool.join"),
        reads=_orders,
    ),
    "skewed": Row(
        "the same where 30 % of the orders are one customer's",
        (*_of("skewed", *BY_HAND, *FRAMEWORKS), "redismr.join"),
        (_at_most(1.5, "redismr.skewed", "the same join without skew", "redismr.join"),),
        apart=("redismr.join",),
        reads=_orders,
    ),
    "tasks": Row(
        "tasks of one item, nothing packed",
        _of("tasks", "redismr", "pool", "ray", "dask", "celery", "rq", "dramatiq", "huey"),
        (
            _rate(10_000, "redismr.tasks", TASKS),
            _faster(5, "redismr.tasks", "Ray", "ray.tasks"),
            _faster(10, "redismr.tasks", "the best of Celery, RQ and Dramatiq", *QUEUES),
        ),
        things=TASKS,
    ),
    "tiny": Row(
        "tiny items onto ten keys",
        ("redismr.tiny", *POOLED, "dask.tiny", "ray.tiny"),
        (_at_most(3.0, "redismr.tiny", "Pool.imap at its best chunksize", *POOLED),),
        things=ITEMS,
    ),
    "distinct": Row(
        "tiny items onto as many keys",
        ("redismr.distinct", *POOLED_KEYS, "dask.distinct", "ray.distinct"),
        (_at_most(1.5, "redismr.distinct", "the Pool at its best chunksize", *POOLED_KEYS),),
        things=ITEMS,
    ),
    "latency": Row(
        "a small job from submit to result, on warm workers",
        _of("latency", "redismr", "futures", "ray", "dask", "celery"),
        (_seconds(0.008, "redismr.latency", "median of 200"),),
    ),
    "cold": Row(
        "hello, world from a shell, nothing running before",
        _of("cold", "redismr", "futures", "pool", *FRAMEWORKS),
        (_seconds(0.7, "redismr.cold", "median of 5"),),
    ),
    "submit": Row(
        "2 GB submitted from a generator", ("redismr.submit",), (_memory(150, "redismr.submit"),)
    ),
    "results": Row(
        "5,000,000 results iterated", ("redismr.results",), (_memory(150, "redismr.results"),)
    ),
}
