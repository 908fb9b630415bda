"""How many items make one task: few at first, so that all workers get some, then ever more.

The guided rule: the next pack takes at most ``1 + items so far // 32`` items, so eight heavy items
give eight tasks, and a million tiny ones about 360. Weights are taken for a short batch at a time:
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

MAX_ITEMS = 20_000
_GROWTH = 32
_LOOKAHEAD = 256
_SIZED = frozenset({str, bytes})
_TINY = frozenset({int, float, bool, type(None)})
_TINY_BYTES = 8
_SAMPLE_FIRST = 32
_SAMPLE_EVERY = 64


def packs(
    items: Iterable[T],
    weigh: Callable[[Sequence[T]], Sequence[float]],
    limit: int,
    chunk: int | None = None,
    take: Callable[[Iterable[T]], list[T]] = list,
) -> Iterator[list[T]]:
    """Every item, in order, in lists of one task each; looks ahead a fraction of a pack at most.

    With ``chunk`` a pack has exactly that many items (the last may have fewer). Without, the
    guided rule bounds their number and ``limit`` their weight; an item heavier than ``limit``
    travels alone. ``weigh`` answers the bytes of each item of a batch. ``take`` makes a list of
    the next few items, and may keep them in another form.
    """
    iterator = iter(items)
    if chunk is not None:
        yield from iter(lambda: take(islice(iterator, chunk)), [])
        return
    held: list[T] = []
    done, step = 0, 1
    while True:
        pack: list[T] = []
        size, room = 0.0, min(MAX_ITEMS, 1 + done // _GROWTH)
        while len(pack) < room and size < limit and not (pack and held):
            batch = held or take(islice(iterator, min(step, room - len(pack))))
            if not batch:
                break
            weights = weigh(batch)
            fit = _fitting(weights, limit - size) or (0 if pack else 1)
            size += sum(weights[:fit])
            pack += batch[:fit]
            held = batch[fit:]
        if not pack:
            return
        yield pack
        done += len(pack)
        # A quarter of what a pack holds at the present weight: heavy items come one by one.
        step = max(1, min(_LOOKAHEAD, int(limit * len(pack) / (size + 1)) // 4))


def _fitting(weights: Sequence[float], room: float) -> int:
    """How many of the leading items weigh at most ``room`` together."""
    if sum(weights) <= room:
        return len(weights)
    return bisect_right(list(accumulate(weights)), room)


class Weigher:
    """Bytes that items will take, without pickling them all: exact for str and bytes.

    For other types it is the running average of pickled samples, the first items among them.
    """

    def __init__(self) -> None:
        self._seen = 0
        self._average = 64.0

    def items(
        self, batch: Sequence[Any], kinds: AbstractSet[type] = frozenset()
    ) -> Sequence[float]:
        """About how many bytes each item adds to a task; ``kinds`` are their types, if known."""
        kinds = kinds or set(map(type, batch))
        if kinds <= _SIZED:
            return list(map(len, batch))
        if kinds <= _TINY:
            return [_TINY_BYTES] * len(batch)
        return [len(item) if type(item) in _SIZED else self._sampled(item) for item in batch]

    def pairs(self, batch: Sequence[tuple[Any, Any]]) -> Sequence[float]:
        """About how many bytes each (key, value) adds to a task."""
        keys = self.items([key for key, _ in batch])
        return list(map(add, keys, self.items([value for _, value in batch])))

    def _sampled(self, item: Any) -> float:
        self._seen += 1
        if self._seen > _SAMPLE_FIRST and self._seen % _SAMPLE_EVERY:
            return self._average
        try:
            weight = len(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
        except Exception:  # noqa: BLE001 - cloudpickle may do; who ships it will say
            return self._average
        self._average += (weight - self._average) / 4
        return weight
