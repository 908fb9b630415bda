"""Runs a combinefn or reducefn of the user over groups of values, and finds keys emitted twice."""

from collections.abc import Callable, Iterable, Iterator, MutableSequence
from functools import partial
from itertools import chain
from operator import is_
from typing import Any, NamedTuple

from redismr.core.failure_capture import NOT_GIVEN
from redismr.core.value_snapshots import IMMUTABLE_TYPES, Snapshotter
from redismr.engine.buffer_limit import result_buffer_limit
from redismr.engine.emitted import (
    UserCodeError,
    check_pair,
    explain_output_error,
    iterate_pairs,
    must_reraise,
    snapshot_key,
)
from redismr.engine.program import GroupFunction
from redismr.engine.reducers import Reducer


class ResultColumns(NamedTuple):
    """Some thousand results of a reducer or combiner, as two parallel columns."""

    keys: list[Any]
    values: list[Any]
    has_other_keys: bool = False  #: True if it emitted a key that is not the key of its group.


def run_group_function(  # noqa: C901, PLR0912 - one flat loop
    function: GroupFunction,
    role: str,
    items: Iterable[tuple[Any, Any]],
    cursor: MutableSequence[int],
) -> Iterator[ResultColumns]:
    """Yield what the function emits for the groups, in their order.

    ``items`` are (key, list of values) of each group; ``role`` names the function in errors;
    ``cursor[0]`` becomes the ordinal of the group that the function is working on.
    """
    call = function.call
    current: list[Any] = [-1, NOT_GIVEN, NOT_GIVEN]  # ordinal, key, values of the group being read
    if function.takes_items:  # one call for all groups, as if they were a single one
        call = partial(_iterate_items_output, function.call)
        items = [(NOT_GIVEN, _track_current_group(items, current, cursor))]
    keys, values, has_other_keys = list[Any](), list[Any](), False
    buffer_limit, next_check = result_buffer_limit(), 1
    yields_pairs: dict[type, bool] = {}
    snapshot_value, immutable = Snapshotter().take, IMMUTABLE_TYPES
    ordinal, key, group, pair, result = -1, NOT_GIVEN, NOT_GIVEN, None, None
    try:
        for ordinal, (key, group) in enumerate(items):
            cursor[0] = ordinal
            result = call(key, group)
            cls = type(result)
            if cls not in yields_pairs:  # isinstance with an ABC costs more than most reducers
                yields_pairs[cls] = issubclass(cls, Iterator)
            # An iterator yields pairs; anything else is the value of the group's key.
            for pair in result if yields_pairs[cls] else ((key, result),):
                if type(pair) is not tuple:
                    check_pair(pair, role)
                k, v = pair
                if type(v) not in immutable:
                    v = snapshot_value(v)
                # A key that is not the key of the group.
                if k is not key and k is not current[1]:
                    hash(k)
                    has_other_keys = True
                    if type(k) not in immutable:
                        k = snapshot_key(k)
                keys.append(k)
                values.append(v)
                if len(keys) >= next_check:
                    next_check = buffer_limit.next_check(len(keys), v)
                    if not next_check:
                        yield ResultColumns(keys, values, has_other_keys)
                        keys, values, has_other_keys, next_check = [], [], False, 1
    except BaseException as error:
        if must_reraise(error):
            raise
        if function.takes_items:
            ordinal, key, group = current
        if role == "combinefn":
            ordinal = -1  # its groups are no records of the split
        name = f'{role} "{call.name}"' if isinstance(call, Reducer) else role
        cause = explain_output_error(error, pair, role, result)
        raise UserCodeError(name, ordinal, key, group) from cause
    yield ResultColumns(keys, values, has_other_keys)


def _iterate_items_output(call: Callable[[Any], Any], _key: Any, items: Any) -> Iterator[Any]:
    return iter(iterate_pairs(call(items), "a function of items"))


def _track_current_group(
    items: Iterable[tuple[Any, list[Any]]], current: list[Any], cursor: MutableSequence[int]
) -> Iterator[tuple[Any, list[Any]]]:
    """Yield the groups; keep in ``current`` and ``cursor`` which group is being worked on."""
    for ordinal, item in enumerate(items):
        cursor[0] = ordinal
        current[:] = ordinal, *item
        yield item


class DuplicateKeyDetector:
    """Tells whether a key may have been yielded before, over all sub-passes of one partition.

    While every key is the key of its group, equal keys can only follow each other. So the detector
    remembers keys only if a reducefn yields other keys from the first column on: otherwise it would
    hold all keys of a partition that is reduced in sub-passes because it is too large for memory.
    """

    def __init__(self) -> None:
        self._seen: set[Any] | None = None
        self._last: Any = self  # equal to no key

    def add_and_check(self, keys: list[Any], *, has_other_keys: bool) -> bool:
        """Add the keys of ``ResultColumns``; True if a key repeats, or might repeat, another."""
        if not keys:
            return False
        last, self._last = self._last, keys[-1]
        if has_other_keys and last is self:
            self._seen = set()
        if self._seen is not None:
            seen_before = len(self._seen)
            self._seen.update(keys)
            return len(self._seen) - seen_before != len(keys)
        return has_other_keys or any(map(is_, chain((last,), keys), keys))
