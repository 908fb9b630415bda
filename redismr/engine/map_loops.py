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

from collections.abc import Iterable, Iterator, Mapping, MutableSequence
from functools import partial
from types import GeneratorType
from typing import Any

from redismr.core.value_snapshots import IMMUTABLE_TYPES
from redismr.engine.buffer_limit import map_buffer_limits
from redismr.engine.combine import flush_groups, flush_totals
from redismr.engine.emitted import (
    UserCodeError,
    check_pair,
    choose_value_snapshot,
    explain_output_error,
    iterate_pairs,
    must_reraise,
    snapshot_key,
)
from redismr.engine.literal_ones import MapfnCalls, count_keys, keys_only_mapfn
from redismr.engine.merge import add_ints
from redismr.engine.partitioner import PartitionedColumns
from redismr.engine.program import Program
from redismr.engine.reducers import Reducer

_ITERABLE_OUTPUT_TYPES = frozenset((GeneratorType, list, tuple))


def map_records(
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[PartitionedColumns]:
    """Yield the columns of each partition, whenever the buffers are full and at the end.

    ``cursor`` and the errors are those of ``kernel.map_task``.
    """
    reducer = program.reduce
    # Case 1: every pair is literally (key, 1).
    if keyfn := keys_only_mapfn(program.mapfn):
        outputs = MapfnCalls(keyfn, records, takes_value_only=program.takes_value_only)
        return _map_literal_ones(program, outputs, partitions, cursor)
    # Case 2: the reducer adds up values, or counts them.
    if isinstance(reducer, Reducer) and reducer.fold and program.combine is None:
        map_loop = _map_adding if reducer.fold == "values" else _map_counting
        return map_loop(program, reducer, records, partitions, cursor)
    # Case 3: any other reducer or combiner needs the values of each key.
    return _map_grouping(program, records, partitions, cursor)


def _map_literal_ones(
    program: Program, outputs: MapfnCalls, partitions: int, cursor: MutableSequence[int]
) -> Iterator[PartitionedColumns]:
    """Count keys whose values are all 1; write the ones out where a function is to see them."""
    reducer, (max_keys, buffer_limit) = program.reduce, map_buffer_limits(program.memory)
    count = partial(count_keys, outputs, cursor, keys_may_change=program.partitionfn is not None)
    if isinstance(reducer, Reducer) and reducer.fold and program.combine is None:
        for totals in count(max_keys=max_keys, max_yielded=None):
            yield flush_totals(program, reducer, totals, {}, partitions)
    else:
        for totals in count(max_keys=max_keys, max_yielded=buffer_limit.max_count):
            groups = {key: [1] * number for key, number in totals.items()}
            totals.clear()
            yield flush_groups(program, groups, partitions)


def _map_adding(  # noqa: C901, PLR0912 - one flat loop, see the module's docstring
    program: Program,
    reducer: Reducer,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[PartitionedColumns]:
    """Add ints up as they come; keep a list for a key with any other value, its total first."""
    mapfn, takes_value_only = program.mapfn or _identity, program.takes_value_only
    totals: dict[Any, int | None] = {}  # None for a key that has a list in value_lists
    value_lists: dict[Any, list[Any]] = {}
    get, get_list, snapshot_value = totals.get, value_lists.get, choose_value_snapshot(program)
    max_keys, buffer_limit = map_buffer_limits(program.memory)
    type_, tuple_, int_, generator, immutable = type, tuple, int, GeneratorType, IMMUTABLE_TYPES
    ordinal, buffered, next_check, in_mapfn = -1, 0, 1, False
    out = pair = key = value = None
    try:
        for key, value in records:
            cursor[0] = ordinal = ordinal + 1
            in_mapfn = True
            out = mapfn(value) if takes_value_only else mapfn(key, value)
            # The output is a mapping, None, or another iterable than the usual ones.
            if type_(out) is not generator and type_(out) not in _ITERABLE_OUTPUT_TYPES:
                out = iterate_pairs(out) if value_lists else _add_mapping(totals, out)
                if len(totals) >= max_keys:
                    yield flush_totals(program, reducer, totals, value_lists, partitions)
            for pair in out:
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
        cause = explain_output_error(error, pair, out=out)
        raise UserCodeError("mapfn", ordinal, key, value) from cause
    yield flush_totals(program, reducer, totals, value_lists, partitions)


def _map_counting(
    program: Program,
    reducer: Reducer,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[PartitionedColumns]:
    mapfn, takes_value_only = program.mapfn or _identity, program.takes_value_only
    totals: dict[Any, int] = {}
    get, (max_keys, _) = totals.get, map_buffer_limits(program.memory)
    type_, tuple_, generator, immutable = type, tuple, GeneratorType, IMMUTABLE_TYPES
    ordinal, in_mapfn, out, pair, key, value = -1, False, None, None, None, None
    try:
        for key, value in records:
            cursor[0] = ordinal = ordinal + 1
            in_mapfn = True
            out = mapfn(value) if takes_value_only else mapfn(key, value)
            # The output is a mapping, None, or another iterable than the usual ones.
            if type_(out) is not generator and type_(out) not in _ITERABLE_OUTPUT_TYPES:
                out = iterate_pairs(out)
            for pair in out:
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
        cause = explain_output_error(error, pair, out=out)
        raise UserCodeError("mapfn", ordinal, key, value) from cause
    yield flush_totals(program, reducer, totals, {}, partitions)


def _map_grouping(  # noqa: C901 - as above
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[PartitionedColumns]:
    """Keep the values of each key in a list until there are enough to combine."""
    mapfn, takes_value_only = program.mapfn or _identity, program.takes_value_only
    groups: dict[Any, list[Any]] = {}
    get, snapshot_value = groups.get, choose_value_snapshot(program)
    max_keys, buffer_limit = map_buffer_limits(program.memory)
    type_, tuple_, generator, immutable = type, tuple, GeneratorType, IMMUTABLE_TYPES
    ordinal, buffered, next_check, in_mapfn = -1, 0, 1, False
    out = pair = key = value = None
    try:
        for key, value in records:
            cursor[0] = ordinal = ordinal + 1
            in_mapfn = True
            out = mapfn(value) if takes_value_only else mapfn(key, value)
            # The output is a mapping, None, or another iterable than the usual ones.
            if type_(out) is not generator and type_(out) not in _ITERABLE_OUTPUT_TYPES:
                out = iterate_pairs(out)
            for pair in out:
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
                        yield flush_groups(program, groups, partitions)
                        buffered, next_check = 0, 1
            in_mapfn = False
    except BaseException as error:
        if not in_mapfn or must_reraise(error):
            raise
        cause = explain_output_error(error, pair, out=out)
        raise UserCodeError("mapfn", ordinal, key, value) from cause
    yield flush_groups(program, groups, partitions)


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
