"""The smallest map-reduce job: eight numbers onto ten keys, on warm workers.

A tool that packs items packs the numbers itself. A tool that leaves packing to its user gets two
packs, one for each worker, and one task that adds up.
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
    """Run the map task of tools without packing."""
    return sum_by_key(map(tiny, pack))


def reduce_packs(packs: Iterable[Mapping[int, int]]) -> dict[int, int]:
    """Run the reduce task of tools without packing. Celery's JSON makes strings of keys."""
    return sum_by_key((int(key), count) for pack in packs for key, count in pack.items())
