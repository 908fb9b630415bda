"""The redismr side of each row: public API only, an embedded server, two executors."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any

import redismr
from benchmarks import pool_tiny, pool_wordcount
from benchmarks.corpus import corpus

TASKS = 20_000
SUBMITTED_BYTES = 2_000_000_000
ITEM_BYTES = 100_000
RESULTS = 5_000_000
RESULTS_PER_ITEM = 10_000


def client() -> redismr.Client:
    """A private server and two local executors."""
    return redismr.Client(executors=2)


def warm(opened: redismr.Client) -> None:
    """One small job, so that every executor has started and run something."""
    dict(opened.run(range(64), tiny, "sum", chunk=1))


def wordcount(opened: redismr.Client) -> Mapping[Any, Any]:
    """The corpus, every count in a dict, as the hand-written program has it.

    Iterating over a job takes partitions as they finish, while others are still reduced.
    """
    return dict(opened.submit(corpus().pattern, pool_wordcount.mapfn, "sum"))


def tasks(opened: redismr.Client) -> Mapping[Any, Any]:
    """Tasks of one item each: the price of a task."""
    return dict(opened.run(range(TASKS), tiny, "sum", chunk=1))


def tiny_items(opened: redismr.Client) -> Mapping[Any, Any]:
    """A million items of one integer each, packed as redismr likes."""
    return dict(opened.run(range(pool_tiny.ITEMS), tiny, "sum"))


def submit(opened: redismr.Client) -> Mapping[Any, Any]:
    """2 GB from a generator through a submitter that must not keep them."""
    return dict(opened.run(big_items(), size, "sum"))


def results(opened: redismr.Client) -> Mapping[Any, Any]:
    """Five million results, iterated and dropped one by one."""
    found = opened.run(range(RESULTS // RESULTS_PER_ITEM), many, "sum")
    return {"results": sum(value for _key, value in found.items())}


def tiny(_key: int, item: int) -> Iterator[tuple[int, int]]:
    """``pool_tiny.pair`` as a mapfn."""
    yield item % pool_tiny.KEYS, 1


def size(_key: int, item: str) -> Iterator[tuple[str, int]]:
    """How long an item is."""
    yield "characters", len(item)


def many(_key: int, item: int) -> Iterator[tuple[int, int]]:
    """Ten thousand keys that are this item's alone."""
    first = item * RESULTS_PER_ITEM
    return zip(range(first, first + RESULTS_PER_ITEM), itertools.repeat(1))


def big_items() -> Iterator[str]:
    """Strings of 100 kB, all different; half of each can be compressed away."""
    noise = random.Random(0).randbytes(ITEM_BYTES).hex()
    for number in range(SUBMITTED_BYTES // ITEM_BYTES):
        start = number * 7919 % ITEM_BYTES
        yield f"{number:>10}{noise[start : start + ITEM_BYTES - 10]}"
