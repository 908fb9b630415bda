"""How many items make one task: few at first, so that all workers get some, then ever more.

The guided rule: the next batch takes at most ``1 + items so far // 32`` items, so eight heavy items
give eight tasks, and a million tiny ones about 360. Weights are taken for a few items at a time:
per item, they would cost three times as much as pickling a million numbers does.
"""

from __future__ import annotations

import pickle
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate, islice
from operator import add
from typing import Any, TypeVar

T = TypeVar("T")

MAX_BATCH_ITEMS = 20_000
_GROWTH_DIVISOR = 32
_MAX_LOOKAHEAD_ITEMS = 256
_EXACT_SIZE_TYPES = frozenset({str, bytes})
_TINY_TYPES = frozenset({int, float, bool, type(None)})
_TINY_BYTES = 8
_FIRST_SAMPLES = 32
_SAMPLE_EVERY = 64


def guided_batches(
    items: Iterable[T],
    estimate_sizes: Callable[[Sequence[T]], Sequence[float]],
    limit: int,
    chunk: int | None = None,
    take: Callable[[Iterable[T]], list[T]] = list,
) -> Iterator[list[T]]:
    """Every item, in order, in lists of one task each; looks ahead a fraction of a batch at most.

    With ``chunk`` a batch has exactly that many items (the last may have fewer). Without, the
    guided rule bounds their number and ``limit`` their weight; an item heavier than ``limit``
    travels alone. ``estimate_sizes`` answers the bytes of each of some items. ``take`` makes a
    list of
    the next few items, and may keep them in another form.
    """
    iterator = iter(items)
    if chunk is not None:
        yield from iter(lambda: take(islice(iterator, chunk)), [])
        return
    left_over: list[T] = []
    batched_count, lookahead_items = 0, 1
    while True:
        batch: list[T] = []
        size, max_items = 0.0, min(MAX_BATCH_ITEMS, 1 + batched_count // _GROWTH_DIVISOR)
        while len(batch) < max_items and size < limit and not (batch and left_over):
            next_items = left_over or take(
                islice(iterator, min(lookahead_items, max_items - len(batch)))
            )
            if not next_items:
                break
            weights = estimate_sizes(next_items)
            fitting_count = _count_fitting(weights, limit - size) or (0 if batch else 1)
            size += sum(weights[:fitting_count])
            batch += next_items[:fitting_count]
            left_over = next_items[fitting_count:]
        if not batch:
            return
        yield batch
        batched_count += len(batch)
        # A quarter of what a batch holds at the present weight: heavy items come one by one.
        lookahead_items = max(
            1, min(_MAX_LOOKAHEAD_ITEMS, int(limit * len(batch) / (size + 1)) // 4)
        )


def _count_fitting(weights: Sequence[float], max_bytes: float) -> int:
    """How many of the leading items weigh at most ``max_bytes`` together."""
    if sum(weights) <= max_bytes:
        return len(weights)
    return bisect_right(list(accumulate(weights)), max_bytes)


class SizeEstimator:
    """Bytes that items will take, without pickling them all: exact for str and bytes.

    For other types it is the running average of pickled samples, the first items among them.
    """

    def __init__(self) -> None:
        self._measured_count = 0
        self._average = 64.0

    def item_sizes(
        self, next_items: Sequence[Any], item_types: AbstractSet[type] = frozenset()
    ) -> Sequence[float]:
        """About how many bytes each item adds to a task; ``item_types`` are their types, if known."""  # noqa: E501
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
        """About how many bytes each (key, value) adds to a task."""
        keys = self.item_sizes([key for key, _ in next_items])
        return list(map(add, keys, self.item_sizes([value for _, value in next_items])))

    def _sampled_size(self, item: Any) -> float:
        self._measured_count += 1
        if self._measured_count > _FIRST_SAMPLES and self._measured_count % _SAMPLE_EVERY:
            return self._average
        try:
            weight = len(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
        except Exception:  # noqa: BLE001 - cloudpickle may do; who ships it will say
            return self._average
        self._average += (weight - self._average) / 4
        return weight
