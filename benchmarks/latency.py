"""The smallest map-reduce job: eight numbers onto ten keys, on workers that are warm.

Each tool packs the numbers as it would; those that leave it to their user get two packs, one for
each worker, and one task that adds up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.cache import scaled
from benchmarks.jobs import tiny
from benchmarks.workloads import sum_by_key

REPEAT = max(3, scaled(200))
ITEMS = range(8)
PACKS = (range(4), range(4, 8))


def map_pack(pack: Iterable[int]) -> dict[int, int]:
    """The map task of those who pack by hand."""
    return sum_by_key(map(tiny, pack))


def reduce_packs(packs: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Their reduce task. JSON, which Celery speaks, makes strings of keys."""
    return sum_by_key((int(key), one) for pack in packs for key, one in pack.items())
