"""Runs a combinefn or reducefn of the user's, in either of its forms, over groups of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableSequence
from itertools import chain
from operator import is_
from typing import Any

from redismr.core.aggregate import Reducer
from redismr.core.codec import estimate
from redismr.core.frozen import FIXED, Freezer
from redismr.core.functions import Grouped
from redismr.core.pairs import (
    UserCodeError,
    check_pair,
    closing,
    key_kept,
    named,
    pairs_of,
)
from redismr.core.trace import ABSENT

RESULT_RECORDS = 50_000
"""Records of a reduce result held at most before they are handed on."""

RESULT_BYTES = 4 << 20

Columns = tuple[list[Any], list[Any], bool]
"""Keys, values, and whether a key is not the one of its group."""


class Scale:
    """Says when what is kept is enough, by number and by a sample of the sizes."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._samples = self._sampled_bytes = 0

    def weigh(self, kept: int, latest: Any) -> int:
        """How many must be kept when the next one is to be weighed; 0 says enough."""
        self._samples += 1
        self._sampled_bytes += estimate(([], [latest])) + 1
        room = self._most_bytes * self._samples // self._sampled_bytes - kept
        if room <= 0 or kept >= self._most:
            return 0
        # The first few are weighed soon after each other: they may be giants.
        return min(2 * kept, kept + 4096, kept + room, self._most)


class Repeats:
    """Whether a key may have been emitted before, by what is emitted one after another.

    A key that is its group's own can only repeat the record before it. So keys are remembered only
    if others are emitted from the first on: of a partition in passes they would be all it holds.
    """

    def __init__(self) -> None:
        self._seen: set[Any] | None = None
        self._last: Any = self  # nobody's key

    def saw(self, keys: list[Any], *, renamed: bool) -> bool:
        """Take these too; ``renamed`` as in ``Columns``. True also where it cannot be told."""
        if not keys:
            return False
        last, self._last = self._last, keys[-1]
        if renamed and last is self:
            self._seen = set()
        if self._seen is not None:
            before = len(self._seen)
            self._seen.update(keys)
            return len(self._seen) - before != len(keys)
        return renamed or any(map(is_, chain((last,), keys), keys))


def run(  # noqa: C901, PLR0912 - one flat loop
    function: Grouped,
    role: str,
    items: Iterable[tuple[Any, Any]],
    cursor: MutableSequence[int],
) -> Iterator[Columns]:
    """What the user's combinefn or reducefn makes of the groups, some thousand at a time."""
    call = function.call
    at: list[Any] = [-1, ABSENT, ABSENT]
    if function.items:  # all groups are one, whose result is an iterator
        call, items = _call_with_items(function.call), [(ABSENT, _watched(items, at, cursor))]
    keys, values, renamed = list[Any](), list[Any](), False
    scale, weigh_at = Scale(RESULT_RECORDS, RESULT_BYTES), 1
    emits: dict[type, bool] = {}
    keep, fixed = Freezer().freeze, FIXED
    ordinal, key, group, pair, result = -1, ABSENT, ABSENT, None, None
    try:
        for ordinal, (key, group) in enumerate(items):
            cursor[0] = ordinal
            result = call(key, group)
            kind = type(result)
            if kind not in emits:  # isinstance with an ABC costs more than most reducers
                emits[kind] = issubclass(kind, Iterator)
            for pair in result if emits[kind] else ((key, result),):
                if type(pair) is not tuple:
                    check_pair(pair, role)
                k, v = pair
                if type(v) not in fixed:
                    v = keep(v)
                if k is not key and k is not at[1]:
                    hash(k)
                    renamed = True
                    if type(k) not in fixed:
                        k = key_kept(k)
                keys.append(k)
                values.append(v)
                if len(keys) >= weigh_at:
                    weigh_at = scale.weigh(len(keys), v)
                    if not weigh_at:
                        yield keys, values, renamed
                        keys, values, renamed, weigh_at = [], [], False, 1
    except BaseException as error:
        if closing(error):
            raise
        if function.items:
            ordinal, key, group = at
        if role == "combinefn":
            ordinal = -1  # its groups are no records of the split
        name = f'{role} "{call.name}"' if isinstance(call, Reducer) else role
        raise UserCodeError(name, ordinal, key, group) from named(error, pair, role, result)
    yield keys, values, renamed


def _call_with_items(call: Callable[[Any], Any]) -> Callable[[Any, Any], Iterator[Any]]:
    return lambda _key, items: iter(pairs_of(call(items), "a function of items"))


def _watched(
    items: Iterable[tuple[Any, list[Any]]], at: list[Any], cursor: MutableSequence[int]
) -> Iterator[tuple[Any, list[Any]]]:
    """The groups, while ``at`` and ``cursor`` say which one is being worked on."""
    for ordinal, item in enumerate(items):
        cursor[0] = ordinal
        at[:] = ordinal, *item
        yield item
