"""A million tiny items by ``multiprocessing.Pool.imap``, as one writes it by hand."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from multiprocessing.pool import Pool

ITEMS = 1_000_000
KEYS = 10


def pair(item: int) -> tuple[int, int]:
    """One of ten keys, once."""
    return item % KEYS, 1


def count(pool: Pool, chunksize: int) -> dict[int, int]:
    """How many items fall onto each key; the caller finds the best ``chunksize`` by trying."""
    totals: dict[int, int] = defaultdict(int)
    for key, one in pool.imap(pair, range(ITEMS), chunksize=chunksize):
        totals[key] += one
    return totals


def open_pool() -> Pool:
    """Two processes, as redismr gets two executors."""
    return multiprocessing.Pool(2)
