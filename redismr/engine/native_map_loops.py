"""The loops over the pairs that a mapfn emits, in C, as long as all keys are texts or all ints.

The C extension yields the same columns, byte for byte, as the loops of ``map_loops``, which go on
in the middle of a record where it meets another kind of pair. A job may mix workers with and
without the extension.

Its keys are equal to those that mapfn emitted, and other objects: where a text is a key, and stands
in a tuple that is a key of the same block too, pickle writes it twice.
"""

from __future__ import annotations  # where the extension is not there, its types are not

from collections.abc import Generator, Iterable, Mapping
from typing import Any

from redismr import native
from redismr.core.value_snapshots import IMMUTABLE_TYPES
from redismr.engine.buffer_limit import max_map_keys
from redismr.engine.combine import flush_groups
from redismr.engine.emitted import iterate_pairs, map_error, must_reraise
from redismr.engine.map_start import Cursor, MapStart, start_of_task
from redismr.engine.native_merge import HASH_SECRETS, as_dict, prepend
from redismr.engine.partitioner import PartitionedColumns
from redismr.engine.program import GroupFunction, Program


def can_add_natively(program: Program) -> bool:
    """True if the C extension is there, and the stable hash chooses partitions."""
    return native.IS_LOADED and program.partitionfn is None


def map_totals_natively(
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: Cursor,
    *,
    counts_pairs: bool,
) -> Generator[PartitionedColumns, None, MapStart | None]:
    """Yield columns of totals; return the start of the rest, None at the end.

    Raises:
        UserCodeError: mapfn failed.
        Exception: whatever ``records`` raises.
    """
    totals, max_keys = native.totals.Totals(*HASH_SECRETS), max_map_keys(program.memory)
    fold = native.totals.RecordFold(
        totals,
        records,
        program.mapfn or _emit_record,
        cursor,
        iterate_pairs if counts_pairs else _as_dict_or_pairs,
        takes_value_only=program.takes_value_only,
        counts_pairs=counts_pairs,
    )
    try:
        while (state := fold.run(max_keys)) == native.totals.FULL:
            yield totals.deal(partitions)
    except BaseException as error:
        if not fold.in_mapfn or must_reraise(error):
            raise
        where = fold.ordinal, fold.key, fold.value
        raise map_error(error, fold.pair, fold.out, *where)  # noqa: B904 - it has a cause
    if state == native.totals.ENDED:
        yield totals.deal(partitions)
        return None
    # What a task of ints has no use for is made here only: 3 us of a one-item task.
    start = start_of_task(program, ())
    if not counts_pairs and not totals and _is_float_pair(fold.pair):
        return (yield from _map_floats_natively(program, fold, start, partitions))
    start.buffer = as_dict(totals)
    return _start_after(fold, start)


def _map_floats_natively(
    program: Program, fold: native.totals.RecordFold, start: MapStart, partitions: int
) -> Generator[PartitionedColumns, None, MapStart | None]:
    """Go on from the first pair, whose value is a float: the exact sum needs all values."""
    groups, next_check = native.totals.Groups(*HASH_SECRETS), 1
    fold.group_floats(groups, start.max_keys)
    try:
        while (state := fold.run(next_check)) == native.totals.FULL:
            if groups.values >= next_check:
                next_check = start.buffer_limit.next_check(groups.values, fold.latest)
            if not next_check or len(groups) >= start.max_keys:
                yield flush_groups(program, *groups.take(), partitions)
                next_check = 1
    except BaseException as error:
        if not fold.in_mapfn or must_reraise(error):
            raise
        where = fold.ordinal, fold.key, fold.value
        raise map_error(error, fold.pair, fold.out, *where)  # noqa: B904 - it has a cause
    if state == native.totals.ENDED:
        yield flush_groups(program, *groups.take(), partitions)
        return None
    start.buffered, start.next_check = groups.values, next_check
    start.value_lists = dict(zip(*groups.take(), strict=True))
    start.buffer = dict.fromkeys(start.value_lists)
    return _start_after(fold, start)


def map_groups_natively(
    program: Program, start: MapStart, partitions: int, cursor: Cursor
) -> Generator[PartitionedColumns, None, MapStart | None]:
    """Yield columns of groups; return the start of the rest, None at the end.

    Raises:
        UserCodeError: mapfn, combinefn, partitionfn or a named reducer failed.
        Exception: whatever ``records`` raises.
    """
    groups, next_check = native.totals.Groups(*HASH_SECRETS), 1
    fold = native.totals.RecordFold(
        groups,
        start.records,
        program.mapfn or _emit_record,
        cursor,
        iterate_pairs,
        takes_value_only=program.takes_value_only,
        immutable_types=IMMUTABLE_TYPES,
        snapshot_value=start.snapshot_value,
    )
    try:
        while (state := fold.run(next_check)) == native.totals.FULL:
            next_check = start.buffer_limit.next_check(next_check, fold.latest)
            if not next_check or len(groups) >= start.max_keys:
                yield _flush(program, groups, partitions)
                next_check = 1
    except BaseException as error:
        if not fold.in_mapfn or must_reraise(error):
            raise
        where = fold.ordinal, fold.key, fold.value
        raise map_error(error, fold.pair, fold.out, *where)  # noqa: B904 - it has a cause
    if state == native.totals.ENDED:
        yield _flush(program, groups, partitions)
        return None
    start.buffered, start.next_check = groups.values, next_check
    start.buffer = dict(zip(*groups.take(), strict=True))
    return _start_after(fold, start)


def _flush(program: Program, groups: native.totals.Groups, partitions: int) -> PartitionedColumns:
    is_sent_as_is = isinstance(program.reduce, GroupFunction) or program.reduce.name == "list"
    if is_sent_as_is and program.combine is None and program.partitionfn is None:
        return groups.deal(partitions)
    return flush_groups(program, *groups.take(), partitions)


def _start_after(fold: native.totals.RecordFold, start: MapStart) -> MapStart:
    """Return where Python goes on after a record, a pair, or an output that the extension left."""
    start.ordinal = fold.ordinal
    if not fold.in_mapfn:  # a record that is no plain tuple or list of two
        start.records = prepend(fold.pair, fold.records)
        return start
    start.records = prepend((fold.key, fold.value), fold.records)
    start.out = start.pairs_left = fold.out
    if fold.pairs is not None:
        # A dict is the rest of a mapping. The odd pair may be None, if mapfn yielded that.
        is_rest = type(fold.pairs) is dict
        start.pairs_left = fold.pairs if is_rest else prepend(fold.pair, fold.pairs)
    return start


def _is_float_pair(pair: Any) -> bool:
    return type(pair) is tuple and len(pair) == 2 and type(pair[1]) is float


def _emit_record(*record: Any) -> tuple[tuple[Any, ...]]:
    return (record,)


def _as_dict_or_pairs(out: Any) -> Iterable[Any]:
    """Return a mapping of ints as a dict, which is added whole; the pairs of any other output."""
    if isinstance(out, Mapping) and set(map(type, out.values())) == {int}:
        return out if type(out) is dict else dict(zip(out, out.values(), strict=True))
    return iterate_pairs(out)
