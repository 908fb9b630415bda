"""The guided rule: how many items make one task.

The first tasks are small, so that all workers get some; later tasks grow. A batch takes at most
``1 + items so far // 32`` items: eight heavy items make eight tasks, a million tiny ones about 360.
Sizes are estimated for a few items at a time: item by item, estimates of a million numbers would
take three times as long as pickling them.
"""

import pickle
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from operator import add
from typing import Any, TypeVar

Item = TypeVar("Item")

MAX_BATCH_ITEMS = 20_000
_GROWTH_DIVISOR = 32
_MAX_LOOKAHEAD_ITEMS = 256
_EXACT_SIZE_TYPES = frozenset({str, bytes})  # their len() is their size
_TINY_TYPES = frozenset({int, float, bool, type(None)})
_TINY_BYTES = 8
_FIRST_SAMPLES = 32  # so many items are all measured, of later items one in _SAMPLE_EVERY
_SAMPLE_EVERY = 64


def guided_batches(
    items: Iterable[Item],
    estimate_sizes: Callable[[Sequence[Item]], Sequence[float]],
    limit: int,
    chunk: int | None = None,
    take: Callable[[Iterable[Item]], list[Item]] = list,
) -> Iterator[list[Item]]:
    """Yield every item, in order, in lists that make one task each.

    With ``chunk`` a batch has exactly ``chunk`` items (the last may have fewer). Without ``chunk``
    the guided rule bounds the number of items and ``limit`` their bytes; an item larger than
    ``limit`` has a batch of its own. At most a quarter of a batch is taken from ``items`` ahead.
    ``take`` makes a list of the next few items; the list may hold copies of the items.
    """
    iterator = iter(items)
    if chunk is not None:
        yield from iter(lambda: take(islice(iterator, chunk)), [])
        return
    left_over: list[Item] = []
    batched_count, lookahead_items = 0, 1
    while True:
        # One batch: items that do not fit any more begin the next one.
        batch: list[Item] = []
        size, max_items = 0.0, min(MAX_BATCH_ITEMS, 1 + batched_count // _GROWTH_DIVISOR)
        while len(batch) < max_items and size < limit and not (batch and left_over):
            wanted_count = min(lookahead_items, max_items - len(batch))
            next_items = left_over or take(islice(iterator, wanted_count))
            if not next_items:
                break
            sizes = estimate_sizes(next_items)
            fitting_count = _count_fitting(sizes, limit - size) or (0 if batch else 1)
            size += sum(sizes[:fitting_count])
            batch += next_items[:fitting_count]
            left_over = next_items[fitting_count:]
        if not batch:
            return
        yield batch
        batched_count += len(batch)
        # A quarter of the items of this size that fill a batch: large items are taken one by one.
        quarter = int(limit * len(batch) / (size + 1)) // 4
        lookahead_items = max(1, min(_MAX_LOOKAHEAD_ITEMS, quarter))


def _count_fitting(sizes: Sequence[float], max_bytes: float) -> int:
    """Return how many of the leading items take at most ``max_bytes`` together."""
    if sum(sizes) <= max_bytes:
        return len(sizes)
    return bisect_right(list(accumulate(sizes)), max_bytes)


class SizeEstimator:
    """Estimates the bytes that items take in a task, without pickling all of them.

    The estimate is exact for str and bytes. For other types it is the running average of pickled
    samples; the first items are all among the samples.
    """

    def __init__(self) -> None:
        self._measured_count, self._average = 0, 64.0

    def item_sizes(
        self, next_items: Sequence[Any], item_types: set[type] | None = None
    ) -> Sequence[float]:
        """Return about how many bytes each item adds to a task; known ``item_types`` save time."""
        item_types = item_types or set(map(type, next_items))
        if item_types <= _EXACT_SIZE_TYPES:
            return list(map(len, next_items))
        if item_types <= _TINY_TYPES:
            return [_TINY_BYTES] * len(next_items)
        return [
            len(item) if type(item) in _EXACT_SIZE_TYPES else self._sampled_size(item)
            for item in next_items
        ]

    def pair_sizes(self, next_items: Sequence[tuple[Any, Any]]) -> Sequence[float]:
        """Return about how many bytes each (key, value) adds to a task."""
        keys = self.item_sizes([key for key, _ in next_items])
        return list(map(add, keys, self.item_sizes([value for _, value in next_items])))

    def _sampled_size(self, item: Any) -> float:
        self._measured_count += 1
        if self._measured_count > _FIRST_SAMPLES and self._measured_count % _SAMPLE_EVERY:
            return self._average
        try:
            size = len(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
        except Exception:  # noqa: BLE001 - cloudpickle may pickle it; if not, pickle_split says so
            return self._average
        self._average += (size - self._average) / 4
        return size
