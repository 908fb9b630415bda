"""Runs a combinefn or reducefn of the user's, in either of its forms, over groups of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableSequence
from itertools import chain
from operator import is_
from typing import Any

from redismr.core.codec import estimate_bytes
from redismr.core.failure_capture import NOT_GIVEN
from redismr.core.plain_copies import IMMUTABLE_TYPES
from redismr.core.value_snapshots import Snapshotter
from redismr.engine.emitted import (
    UserCodeError,
    check_pair,
    explain_output_error,
    is_generator_close,
    iterate_pairs,
    snapshot_key,
)
from redismr.engine.program import GroupFunction
from redismr.engine.reducers import Reducer

RESULT_RECORDS = 50_000
"""Records of a reduce result held at most before they are handed on."""

RESULT_BYTES = 4 << 20

ResultColumns = tuple[list[Any], list[Any], bool]
"""Keys, values, and whether a key is not the one of its group."""


class BufferLimit:
    """Says when what is buffered is enough, by number and by a sample of the sizes."""

    def __init__(self, max_count: int, max_bytes: int) -> None:
        self._max_count, self._max_bytes = max_count, max_bytes
        self._samples = self._sampled_bytes = 0

    def next_check(self, buffered: int, latest: Any) -> int:
        """How many must be buffered when the next one is to be weighed; 0 says enough."""
        self._samples += 1
        self._sampled_bytes += estimate_bytes(([], [latest])) + 1
        room = self._max_bytes * self._samples // self._sampled_bytes - buffered
        if room <= 0 or buffered >= self._max_count:
            return 0
        # The first few are weighed soon after each other: they may be giants.
        return min(2 * buffered, buffered + 4096, buffered + room, self._max_count)


class DuplicateKeyDetector:
    """Whether a key may have been emitted before, by what is emitted one after another.

    A key that is its group's own can only repeat the record before it. So keys are remembered only
    if others are emitted from the first on: of a partition in passes they would be all it holds.
    """

    def __init__(self) -> None:
        self._seen: set[Any] | None = None
        self._last: Any = self  # nobody's key

    def add_and_check(self, keys: list[Any], *, renamed: bool) -> bool:
        """Take these too; ``renamed`` as in ``ResultColumns``. True also where it cannot be told."""  # noqa: E501
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


def run_group_function(  # noqa: C901, PLR0912 - one flat loop
    function: GroupFunction,
    role: str,
    items: Iterable[tuple[Any, Any]],
    cursor: MutableSequence[int],
) -> Iterator[ResultColumns]:
    """What the user's combinefn or reducefn makes of the groups, some thousand at a time."""
    call = function.call
    current: list[Any] = [-1, NOT_GIVEN, NOT_GIVEN]
    if function.takes_items:  # all groups are one, whose result is an iterator
        call, items = (
            _pair_iterator_function(function.call),
            [(NOT_GIVEN, _track_current_group(items, current, cursor))],
        )
    keys, values, renamed = list[Any](), list[Any](), False
    buffer_limit, next_check = BufferLimit(RESULT_RECORDS, RESULT_BYTES), 1
    yields_pairs: dict[type, bool] = {}
    snapshot_value, fixed = Snapshotter().take, IMMUTABLE_TYPES
    ordinal, key, group, pair, result = -1, NOT_GIVEN, NOT_GIVEN, None, None
    try:
        for ordinal, (key, group) in enumerate(items):
            cursor[0] = ordinal
            result = call(key, group)
            cls = type(result)
            if cls not in yields_pairs:  # isinstance with an ABC costs more than most reducers
                yields_pairs[cls] = issubclass(cls, Iterator)
            for pair in result if yields_pairs[cls] else ((key, result),):
                if type(pair) is not tuple:
                    check_pair(pair, role)
                k, v = pair
                if type(v) not in fixed:
                    v = snapshot_value(v)
                if k is not key and k is not current[1]:
                    hash(k)
                    renamed = True
                    if type(k) not in fixed:
                        k = snapshot_key(k)
                keys.append(k)
                values.append(v)
                if len(keys) >= next_check:
                    next_check = buffer_limit.next_check(len(keys), v)
                    if not next_check:
                        yield keys, values, renamed
                        keys, values, renamed, next_check = [], [], False, 1
    except BaseException as error:
        if is_generator_close(error):
            raise
        if function.takes_items:
            ordinal, key, group = current
        if role == "combinefn":
            ordinal = -1  # its groups are no records of the split
        name = f'{role} "{call.name}"' if isinstance(call, Reducer) else role
        raise UserCodeError(name, ordinal, key, group) from explain_output_error(
            error, pair, role, result
        )
    yield keys, values, renamed


def _pair_iterator_function(call: Callable[[Any], Any]) -> Callable[[Any, Any], Iterator[Any]]:
    return lambda _key, items: iter(iterate_pairs(call(items), "a function of items"))


def _track_current_group(
    items: Iterable[tuple[Any, list[Any]]], current: list[Any], cursor: MutableSequence[int]
) -> Iterator[tuple[Any, list[Any]]]:
    """The groups, while ``current`` and ``cursor`` say which one is being worked on."""
    for ordinal, item in enumerate(items):
        cursor[0] = ordinal
        current[:] = ordinal, *item
        yield item
