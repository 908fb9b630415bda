"""What a map task and a reduce task do: group, combine, partition, merge, reduce.

Generators in, generators out; where records come from and blocks go to is the callers' affair.
Results depend on the records, the functions and the options only: flushes are triggered by counts
and sizes of the data, never by time or free memory.

The loops over pairs are written for speed, and are the reason why this module looks as it does:
one ``try`` a task, no call a pair, and of the checks only those that an exception cannot do later.
Ratios in the comments are of the loop alone to ``for k, v in mapfn(...): d[k] = d.get(k, 0) + v``
over 1.5 million words in one process, CPython 3.11 / 3.13. With partitioning and encoding, 300 MB
of words in tasks of 16 MB measured 1.16 to 1.23 / 1.18 to 1.19.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from functools import partial
from types import GeneratorType
from typing import Any

from redismr.context import forbid_counting
from redismr.core.codec import Block
from redismr.core.plain_copies import IMMUTABLE_TYPES
from redismr.engine.call_reducer import BufferLimit, DuplicateKeyDetector, run_group_function
from redismr.engine.emitted import (
    UserCodeError,
    check_pair,
    choose_value_snapshot,
    explain_output_error,
    is_generator_close,
    iterate_pairs,
    snapshot_key,
)
from redismr.engine.literal_ones import MapfnCalls, count_keys, keys_only_mapfn
from redismr.engine.merge import add_ints, reduce_blocks, reducer_error, select_share
from redismr.engine.partition_check import (
    check_placements,
    has_trusted_partitionfn,
    placement_blocks,
)
from redismr.engine.partitioner import (
    PartitionedColumns,
    choose_partitions,
    cut_into_blocks,
    partition_groups,
    partition_pairs,
)
from redismr.engine.program import Program
from redismr.engine.reducers import Reducer

__all__ = ["Block", "UserCodeError", "map_task", "reduce_task"]

MAP_BUFFER_KEYS = 1_000_000
"""Distinct keys a map task holds at most."""

MAP_BUFFER_VALUES = 2_000_000
"""Values a map task holds at most where they cannot be added up as they come."""

MAP_BUFFER_BYTES = 128 << 20
"""About how many bytes of values are held at most, going by samples."""

FULL_BUFFER_MEMORY_BYTES = 1 << 30
"""With so much memory, or none given, a map task holds all of that; with less, its share of it."""

_ITERABLE_OUTPUT_TYPES = frozenset((GeneratorType, list, tuple))


def map_task(
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[tuple[int, Block]]:
    """Yield (partition, block); a key's values keep their input order within its partition.

    With a user's partitionfn there are more blocks than those of values: see ``partition_check``.

    ``cursor[0]`` is the ordinal of the record that mapfn is working on (-1 before the first),
    ``cursor[1]`` counts the records in the blocks yielded.

    Raises:
        UserCodeError: mapfn, combinefn, partitionfn or a named reducer failed.
        Exception: whatever ``records`` raises.
    """
    cursor[0], cursor[1] = -1, 0
    reducer = program.reduce
    if keyfn := keys_only_mapfn(program.mapfn):
        outputs = MapfnCalls(keyfn, records, takes_value_only=program.takes_value_only)
        flushed_columns = _map_literal_ones(program, outputs, partitions, cursor)
    elif isinstance(reducer, Reducer) and reducer.fold and program.combine is None:
        map_loop = _map_folding if reducer.fold == "values" else _map_counting
        flushed_columns = map_loop(program, reducer, records, partitions, cursor)
    else:
        flushed_columns = _map_grouping(program, records, partitions, cursor)
    must_send_placements = not has_trusted_partitionfn(program)
    for columns in flushed_columns:
        for partition, (keys, values) in columns:
            for block in cut_into_blocks(keys, values):
                cursor[1] += len(block[0])
                yield partition, block
        if must_send_placements:
            yield from placement_blocks(columns, partitions)


def reduce_task(
    program: Program,
    blocks: Iterable[Block],
    cursor: MutableSequence[int],
    partition: int,
    partitions: int,
    sub_pass: tuple[int, int] = (0, 1),
    *,
    duplicate_detector: DuplicateKeyDetector | None = None,
) -> Iterator[tuple[Block, bool]]:
    """Yield result blocks, each with whether it may hold a key of another partition.

    With ``duplicate_detector``, one for all passes, also whether it may hold a key that was
    yielded before.

    ``blocks`` are those of this partition from all map tasks, in task order. ``cursor[0]`` is the
    ordinal of the key that reducefn is working on, ``cursor[1]`` counts the records yielded.
    ``sub_pass=(i, n)`` takes the i-th of n shares of the keys, for a partition larger than memory;
    all passes of a partition must run in one process.

    Raises:
        UserCodeError: reducefn or a named reducer failed, keys cannot be sorted, or partitionfn
            sent equal keys to two partitions.
        Exception: whatever ``blocks`` raises.
    """
    cursor[0], cursor[1] = -1, 0
    if not has_trusted_partitionfn(program):
        blocks = check_placements(blocks, *sub_pass)
    for keys, values, renamed in reduce_blocks(program, select_share(blocks, *sub_pass), cursor):
        has_irregular_keys = renamed and _has_keys_of_other_partitions(
            program, keys, partition, partitions
        )
        if duplicate_detector is not None:
            has_irregular_keys |= duplicate_detector.add_and_check(keys, renamed=renamed)
        for block in cut_into_blocks(keys, values):
            cursor[1] += len(block[0])
            yield block, has_irregular_keys


def _map_literal_ones(
    program: Program, outputs: MapfnCalls, partitions: int, cursor: MutableSequence[int]
) -> Iterator[PartitionedColumns]:
    """Count keys whose values are all 1; these are written out where a function is to see them."""
    reducer, (max_keys, max_values, _) = program.reduce, _buffer_limits(program.memory)
    count = partial(count_keys, outputs, cursor, keys_may_change=program.partitionfn is not None)
    if isinstance(reducer, Reducer) and reducer.fold and program.combine is None:
        for totals in count(max_keys=max_keys, max_yielded=None):
            yield _flush_totals(program, reducer, totals, {}, partitions)
    else:
        for totals in count(max_keys=max_keys, max_yielded=max_values):
            groups = {key: [1] * number for key, number in totals.items()}
            totals.clear()
            yield _flush_groups(program, groups, partitions)


def _map_folding(  # noqa: C901, PLR0912 - one flat loop, see the module's docstring
    program: Program,
    reducer: Reducer,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[PartitionedColumns]:
    """Add ints up as they come; of a key with anything else keep a list, its total so far first."""
    mapfn, takes_value_only = _mapfn_or_identity(program)
    totals: dict[Any, int | None] = {}  # None for a key that has a list in value_lists
    value_lists: dict[Any, list[Any]] = {}
    get, get_value_list, snapshot_value = (
        totals.get,
        value_lists.get,
        choose_value_snapshot(program),
    )
    max_keys, max_values, max_bytes = _buffer_limits(program.memory)
    buffer_limit = BufferLimit(max_values, max_bytes)
    # Locals of what the loop names: 0.05 less.
    type_, tuple_, int_, generator, fixed = type, tuple, int, GeneratorType, IMMUTABLE_TYPES
    ordinal, buffered, next_check, in_mapfn, out = -1, 0, 1, False, None
    pair = key = value = None
    try:
        for key, value in records:
            cursor[0] = ordinal = ordinal + 1
            in_mapfn = True
            out = mapfn(value) if takes_value_only else mapfn(key, value)
            if type_(out) is not generator and type_(out) not in _ITERABLE_OUTPUT_TYPES:
                out = iterate_pairs(out) if value_lists else _add_mapping(totals, out)
                if len(totals) >= max_keys:
                    yield _flush_totals(program, reducer, totals, value_lists, partitions)
            for pair in out:
                # Both types checked in full, for every pair: 1.14 / 1.15 in all. A batch of pairs
                # checked at C speed costs more (1.19 / 1.16), as do lists for sum() (1.33).
                if type_(pair) is not tuple_:
                    check_pair(pair)
                k, v = pair
                if type_(v) is int_ and (total := get(k)) is not None:
                    totals[k] = total + v
                    continue
                if type_(v) is int_ and k not in value_lists:
                    totals[k if type_(k) in fixed else snapshot_key(k)] = v
                else:
                    v = v if type_(v) in fixed else snapshot_value(v)
                    if (values := get_value_list(k)) is None:
                        k = k if type_(k) in fixed else snapshot_key(k)
                        values = value_lists[k] = [] if (total := get(k)) is None else [total]
                        totals[k] = None
                    values.append(v)
                    buffered += 1
                enough = buffered >= next_check and not (
                    next_check := buffer_limit.next_check(buffered, v)
                )
                if enough or len(totals) >= max_keys:
                    yield _flush_totals(program, reducer, totals, value_lists, partitions)
                    buffered, next_check = 0, 1
            in_mapfn = False
    except UserCodeError:
        raise
    except BaseException as error:
        if not in_mapfn or is_generator_close(error):
            raise
        raise UserCodeError("mapfn", ordinal, key, value) from explain_output_error(
            error, pair, out=out
        )
    yield _flush_totals(program, reducer, totals, value_lists, partitions)


def _map_counting(
    program: Program,
    reducer: Reducer,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[PartitionedColumns]:
    """Count pairs. A loop of its own: as a test in the one that adds it would cost that 0.09."""
    mapfn, takes_value_only = _mapfn_or_identity(program)
    totals: dict[Any, int] = {}
    get, (max_keys, _, _) = totals.get, _buffer_limits(program.memory)
    type_, tuple_, generator, fixed = type, tuple, GeneratorType, IMMUTABLE_TYPES
    ordinal, in_mapfn, out, pair, key, value = -1, False, None, None, None, None
    try:
        for key, value in records:
            ordinal += 1
            cursor[0] = ordinal
            in_mapfn = True
            out = mapfn(value) if takes_value_only else mapfn(key, value)
            if type_(out) is not generator and type_(out) not in _ITERABLE_OUTPUT_TYPES:
                out = iterate_pairs(out)
            for pair in out:
                if type_(pair) is not tuple_:
                    check_pair(pair)
                k, _ = pair
                total = get(k)
                if total is not None:
                    totals[k] = total + 1
                    continue
                totals[k if type_(k) in fixed else snapshot_key(k)] = 1
                if len(totals) >= max_keys:
                    yield _flush_totals(program, reducer, totals, {}, partitions)
            in_mapfn = False
    except UserCodeError:
        raise
    except BaseException as error:
        if not in_mapfn or is_generator_close(error):
            raise
        raise UserCodeError("mapfn", ordinal, key, value) from explain_output_error(
            error, pair, out=out
        )
    yield _flush_totals(program, reducer, totals, {}, partitions)


def _map_grouping(  # noqa: C901 - as above
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[PartitionedColumns]:
    """Keep each key's values in a list until enough are there to combine."""
    mapfn, takes_value_only = _mapfn_or_identity(program)
    groups: dict[Any, list[Any]] = {}
    get, snapshot_value = groups.get, choose_value_snapshot(program)
    max_keys, max_values, max_bytes = _buffer_limits(program.memory)
    buffer_limit = BufferLimit(max_values, max_bytes)
    type_, tuple_, generator, fixed = type, tuple, GeneratorType, IMMUTABLE_TYPES
    ordinal, buffered, next_check, in_mapfn, out = -1, 0, 1, False, None
    pair = key = value = None
    try:
        for key, value in records:
            ordinal += 1
            cursor[0] = ordinal
            in_mapfn = True
            out = mapfn(value) if takes_value_only else mapfn(key, value)
            if type_(out) is not generator and type_(out) not in _ITERABLE_OUTPUT_TYPES:
                out = iterate_pairs(out)
            for pair in out:
                if type_(pair) is not tuple_:
                    check_pair(pair)
                k, v = pair
                if type_(v) not in fixed:
                    v = snapshot_value(v)
                values = get(k)
                if values is not None:
                    values.append(v)
                else:
                    groups[k if type_(k) in fixed else snapshot_key(k)] = [v]
                buffered += 1
                if buffered >= next_check:
                    next_check = buffer_limit.next_check(buffered, v)
                    if not next_check or len(groups) >= max_keys:
                        yield _flush_groups(program, groups, partitions)
                        buffered, next_check = 0, 1
            in_mapfn = False
    except UserCodeError:
        raise
    except BaseException as error:
        if not in_mapfn or is_generator_close(error):
            raise
        raise UserCodeError("mapfn", ordinal, key, value) from explain_output_error(
            error, pair, out=out
        )
    yield _flush_groups(program, groups, partitions)


def _buffer_limits(memory: int | None) -> tuple[int, int, int]:
    """How many keys, values, and bytes of values a map task holds."""
    if not memory or memory >= FULL_BUFFER_MEMORY_BYTES:
        return MAP_BUFFER_KEYS, MAP_BUFFER_VALUES, MAP_BUFFER_BYTES
    share = memory / FULL_BUFFER_MEMORY_BYTES
    keys, values, size = (
        int(limit * share) for limit in (MAP_BUFFER_KEYS, MAP_BUFFER_VALUES, MAP_BUFFER_BYTES)
    )
    return max(1, keys), max(1, values), size


def _flush_totals(
    program: Program,
    reducer: Reducer,
    totals: dict[Any, Any],
    value_lists: dict[Any, list[Any]],
    partitions: int,
) -> PartitionedColumns:
    if value_lists:
        keys = list(totals)
        groups = [value_lists[key] if total is None else [total] for key, total in totals.items()]
        condensed = _condense_groups(reducer, keys, groups)
        key_partitions = _partition_keys(program, keys, partitions, "mapfn")
        columns = partition_groups(keys, condensed, key_partitions)
    else:
        choose_key_partitions = partial(
            _partition_keys, program, partitions=partitions, emitter="mapfn"
        )
        columns = partition_pairs(totals, totals.values(), choose_key_partitions, partitions)
    totals.clear()
    value_lists.clear()
    return columns


def _flush_groups(
    program: Program, groups: dict[Any, list[Any]], partitions: int
) -> PartitionedColumns:
    if program.combine is not None:
        # A combinefn sees each value once, never its own results: one that turns values into
        # something else (their number, a list) stays right however often a large task flushes.
        with forbid_counting():
            columns = list(run_group_function(program.combine, "combinefn", groups.items(), [0, 0]))
        keys = [key for column in columns for key in column[0]]
        values = [value for column in columns for value in column[1]]
        groups.clear()
        choose_key_partitions = partial(
            _partition_keys, program, partitions=partitions, emitter="combinefn"
        )
        return partition_pairs(keys, values, choose_key_partitions, partitions)
    keys = list(groups)
    lists = list(groups.values())
    groups.clear()
    if isinstance(program.reduce, Reducer):
        lists = _condense_groups(program.reduce, keys, lists)
    return partition_groups(keys, lists, _partition_keys(program, keys, partitions, "mapfn"))


def _condense_groups(reducer: Reducer, keys: list[Any], groups: list[list[Any]]) -> list[list[Any]]:
    condense, condensed = reducer.condense, list[list[Any]]()
    try:
        for group in groups:
            condensed.append(condense(group))
    except BaseException as error:
        index = len(condensed)
        raise reducer_error(reducer, -1, keys[index], groups[index]) from error
    return condensed


def _partition_keys(program: Program, keys: list[Any], partitions: int, emitter: str) -> list[int]:
    try:
        return choose_partitions(program, keys, partitions)
    except UserCodeError:
        raise
    except Exception as error:
        raise UserCodeError(emitter) from error


def _has_keys_of_other_partitions(
    program: Program, keys: list[Any], partition: int, partitions: int
) -> bool:
    if not has_trusted_partitionfn(program):  # it might call the key its own in two partitions
        return True
    try:
        return any(part != partition for part in choose_partitions(program, keys, partitions))
    except Exception as error:
        if not isinstance(error.__cause__ or error, Exception):
            raise  # somebody wants an end
        return True  # a key that has no partition is found by looking everywhere


def _mapfn_or_identity(program: Program) -> tuple[Callable[..., Any], bool]:
    return program.mapfn or _identity, program.takes_value_only


def _identity(key: Any, value: Any) -> tuple[tuple[Any, Any]]:
    return ((key, value),)


def _add_mapping(totals: dict[Any, Any], out: Any) -> Iterable[Any]:
    """Add a mapping of ints at once; returns the pairs that are still to be added."""
    if isinstance(out, Mapping) and set(map(type, out.values())) == {int}:
        if not IMMUTABLE_TYPES.issuperset(map(type, out)):
            out = {snapshot_key(key): number for key, number in out.items()}
        add_ints(totals, out, out.values())
        return ()
    return iterate_pairs(out)
