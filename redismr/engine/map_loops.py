"""The loops over the pairs that a mapfn emits: one for each way in which a program uses values.

Speed decides the form of these loops: one ``try`` for each task, no call for each pair, and no
check that an exception makes later. A test that chose the case inside a shared loop would cost
0.09, so each case has its own loop.

Ratios here are the time of the loop alone divided by the time of ``for k, v in mapfn(...): d[k] =
d.get(k, 0) + v``, over 1.5 million words in one process, on CPython 3.11 / 3.13:

- The full check of both types for every pair: 1.14 / 1.15 in all. A batch of pairs checked at C
  speed costs more (1.19 / 1.16), and so do lists for ``sum()`` (1.33).
- Local names for the types that a loop compares with: 0.05 less.

With partitioning and encoding, 300 MB of words in tasks of 16 MB measured 1.16 to 1.23 / 1.18 to
1.19.

In each loop, ``key, value`` is a record, and ``k, v`` a pair that mapfn emitted for it.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import GeneratorType
from typing import Any

from redismr import native
from redismr.core.value_snapshots import IMMUTABLE_TYPES
from redismr.engine.combine import flush_groups, flush_totals
from redismr.engine.emitted import (
    check_pair,
    iterate_pairs,
    map_error,
    must_reraise,
    snapshot_key,
)
from redismr.engine.map_start import Cursor, MapStart, start_of_task
from redismr.engine.merge import add_ints
from redismr.engine.native_map_loops import (
    can_add_natively,
    map_groups_natively,
    map_totals_natively,
)
from redismr.engine.partitioner import PartitionedColumns
from redismr.engine.program import Program
from redismr.engine.reducers import Reducer

_ITERABLE_OUTPUT_TYPES = frozenset((GeneratorType, list, tuple))
"""The usual outputs of a mapfn; another may be a mapping, None, or another iterable."""


def map_records(
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: Cursor,
) -> Iterator[PartitionedColumns]:
    """Yield the columns of each partition, whenever the buffers are full and at the end.

    ``cursor`` and the errors are those of ``kernel.map_task``.
    """
    reducer = program.reduce
    # Case 1: the reducer adds up values, or counts them.
    if isinstance(reducer, Reducer) and reducer.fold and program.combine is None:
        return _map_totals(program, reducer, records, partitions, cursor)
    # Case 2: any other reducer or combiner needs the values of each key.
    return _map_groups(program, start_of_task(program, records), partitions, cursor)


def _map_totals(
    program: Program,
    reducer: Reducer,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: Cursor,
) -> Iterator[PartitionedColumns]:
    """Add up in C as long as that can be done, then in Python."""
    counts_pairs = reducer.fold == "ones"
    if can_add_natively(program):
        start = yield from map_totals_natively(
            program, records, partitions, cursor, counts_pairs=counts_pairs
        )
    else:
        start = start_of_task(program, records)
    if start is not None:
        map_loop = _map_counting if counts_pairs else _map_adding
        yield from map_loop(program, reducer, start, partitions, cursor)


def _map_groups(
    program: Program, start: MapStart, partitions: int, cursor: Cursor
) -> Iterator[PartitionedColumns]:
    """Group in C as long as that can be done, then in Python."""
    rest: MapStart | None = start
    if native.IS_LOADED:
        rest = yield from map_groups_natively(program, start, partitions, cursor)
    if rest is not None:
        yield from _map_grouping(program, rest, partitions, cursor)


def _map_adding(  # noqa: C901, PLR0912 - one flat loop, see the module's docstring
    program: Program, reducer: Reducer, start: MapStart, partitions: int, cursor: Cursor
) -> Iterator[PartitionedColumns]:
    """Add ints up as they come; keep a list for a key with any other value, its total first."""
    mapfn, takes_value_only = program.mapfn or _identity, program.takes_value_only
    totals, value_lists, buffer_limit = start.buffer, start.value_lists, start.buffer_limit
    get, get_list, snapshot_value = totals.get, value_lists.get, start.snapshot_value
    type_, tuple_, int_, generator, immutable = type, tuple, int, GeneratorType, IMMUTABLE_TYPES
    ordinal, buffered, next_check = start.ordinal, start.buffered, start.next_check
    max_keys, (pairs_left, out), in_mapfn = start.max_keys, start.take_begun(), False
    pair = key = value = None
    try:
        for key, value in start.records:
            if pairs_left is None:
                cursor[0] = ordinal = ordinal + 1
                in_mapfn = True
                out = pairs = mapfn(value) if takes_value_only else mapfn(key, value)
            else:  # the native loop has begun the record
                in_mapfn, pairs, pairs_left = True, pairs_left, None
            if type_(pairs) is not generator and type_(pairs) not in _ITERABLE_OUTPUT_TYPES:
                pairs = iterate_pairs(pairs) if value_lists else _add_mapping(totals, pairs)
                if len(totals) >= max_keys:
                    yield flush_totals(program, reducer, totals, value_lists, partitions)
            for pair in pairs:
                if type_(pair) is not tuple_:
                    check_pair(pair)
                k, v = pair
                # 1. An int for a key that has a total.
                if type_(v) is int_ and (total := get(k)) is not None:
                    totals[k] = total + v
                    continue
                # 2. An int for a new key.
                if type_(v) is int_ and k not in value_lists:
                    totals[k if type_(k) in immutable else snapshot_key(k)] = v
                # 3. Another value, or a key that has a list.
                else:
                    v = v if type_(v) in immutable else snapshot_value(v)
                    if (values := get_list(k)) is None:
                        k = k if type_(k) in immutable else snapshot_key(k)
                        values = value_lists[k] = [] if (total := get(k)) is None else [total]
                        totals[k] = None
                    values.append(v)
                    buffered += 1
                if buffered >= next_check:
                    next_check = buffer_limit.next_check(buffered, v)
                if not next_check or len(totals) >= max_keys:
                    yield flush_totals(program, reducer, totals, value_lists, partitions)
                    buffered, next_check = 0, 1
            in_mapfn = False
    except BaseException as error:
        if not in_mapfn or must_reraise(error):
            raise
        raise map_error(error, pair, out, ordinal, key, value)  # noqa: B904 - it has a cause
    yield flush_totals(program, reducer, totals, value_lists, partitions)


def _map_counting(
    program: Program, reducer: Reducer, start: MapStart, partitions: int, cursor: Cursor
) -> Iterator[PartitionedColumns]:
    mapfn, takes_value_only = program.mapfn or _identity, program.takes_value_only
    totals, max_keys, get = start.buffer, start.max_keys, start.buffer.get
    type_, tuple_, generator, immutable = type, tuple, GeneratorType, IMMUTABLE_TYPES
    ordinal, in_mapfn, (pairs_left, out) = start.ordinal, False, start.take_begun()
    pair = key = value = None
    try:
        for key, value in start.records:
            if pairs_left is None:
                cursor[0] = ordinal = ordinal + 1
                in_mapfn = True
                out = pairs = mapfn(value) if takes_value_only else mapfn(key, value)
            else:  # the native loop has begun the record
                in_mapfn, pairs, pairs_left = True, pairs_left, None
            if type_(pairs) is not generator and type_(pairs) not in _ITERABLE_OUTPUT_TYPES:
                pairs = iterate_pairs(pairs)
            for pair in pairs:
                if type_(pair) is not tuple_:
                    check_pair(pair)
                k, _ = pair
                # 1. A key that was counted before.
                if (total := get(k)) is not None:
                    totals[k] = total + 1
                    continue
                # 2. A new key.
                totals[k if type_(k) in immutable else snapshot_key(k)] = 1
                if len(totals) >= max_keys:
                    yield flush_totals(program, reducer, totals, {}, partitions)
            in_mapfn = False
    except BaseException as error:
        if not in_mapfn or must_reraise(error):
            raise
        raise map_error(error, pair, out, ordinal, key, value)  # noqa: B904 - it has a cause
    yield flush_totals(program, reducer, totals, {}, partitions)


def _map_grouping(  # noqa: C901, PLR0912 - as above
    program: Program, start: MapStart, partitions: int, cursor: Cursor
) -> Iterator[PartitionedColumns]:
    """Keep the values of each key in a list until there are enough to combine."""
    mapfn, takes_value_only = program.mapfn or _identity, program.takes_value_only
    groups, buffer_limit, snapshot_value = start.buffer, start.buffer_limit, start.snapshot_value
    type_, tuple_, generator, immutable = type, tuple, GeneratorType, IMMUTABLE_TYPES
    get, ordinal, buffered, next_check = groups.get, start.ordinal, start.buffered, start.next_check
    max_keys, (pairs_left, out), in_mapfn = start.max_keys, start.take_begun(), False
    pair = key = value = None
    try:
        for key, value in start.records:
            if pairs_left is None:
                cursor[0] = ordinal = ordinal + 1
                in_mapfn = True
                out = pairs = mapfn(value) if takes_value_only else mapfn(key, value)
            else:  # the native loop has begun the record
                in_mapfn, pairs, pairs_left = True, pairs_left, None
            if type_(pairs) is not generator and type_(pairs) not in _ITERABLE_OUTPUT_TYPES:
                pairs = iterate_pairs(pairs)
            for pair in pairs:
                if type_(pair) is not tuple_:
                    check_pair(pair)
                k, v = pair
                if type_(v) not in immutable:
                    v = snapshot_value(v)
                # 1. A key that has a group.
                if (values := get(k)) is not None:
                    values.append(v)
                # 2. A new key.
                else:
                    groups[k if type_(k) in immutable else snapshot_key(k)] = [v]
                buffered += 1
                if buffered >= next_check:
                    next_check = buffer_limit.next_check(buffered, v)
                    if not next_check or len(groups) >= max_keys:
                        keys, lists = list(groups), list(groups.values())
                        groups.clear()
                        yield flush_groups(program, keys, lists, partitions)
                        buffered, next_check = 0, 1
            in_mapfn = False
    except BaseException as error:
        if not in_mapfn or must_reraise(error):
            raise
        raise map_error(error, pair, out, ordinal, key, value)  # noqa: B904 - it has a cause
    yield flush_groups(program, list(groups), list(groups.values()), partitions)


def _identity(*record: Any) -> tuple[tuple[Any, ...]]:
    return (record,)


def _add_mapping(totals: dict[Any, Any], out: Any) -> Iterable[Any]:
    """Add a mapping of ints to the totals at once; return the pairs that are still to be added."""
    if isinstance(out, Mapping) and set(map(type, out.values())) == {int}:
        if not IMMUTABLE_TYPES.issuperset(map(type, out)):
            out = {snapshot_key(key): number for key, number in out.items()}
        add_ints(totals, out, out.values())
        return ()
    return iterate_pairs(out)
