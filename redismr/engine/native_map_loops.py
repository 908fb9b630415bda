"""The loops over the pairs that a mapfn emits, in C, as long as their keys are text.

The C extension yields the same columns, byte for byte, as the loops of ``map_loops``, which go on
in the middle of a record where it meets another kind of pair. A job may mix workers with and
without the extension.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, MutableSequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from redismr import native
from redismr.core.value_snapshots import IMMUTABLE_TYPES
from redismr.engine.buffer_limit import BufferLimit, map_buffer_limits
from redismr.engine.combine import flush_groups
from redismr.engine.emitted import (
    UserCodeError,
    choose_value_snapshot,
    explain_output_error,
    iterate_pairs,
    must_reraise,
)
from redismr.engine.native_merge import as_dict, hash_secrets
from redismr.engine.partitioner import PartitionedColumns
from redismr.engine.program import GroupFunction, Program

Cursor = MutableSequence[int]
"""``cursor[0]`` is the ordinal of the record that mapfn works on."""


@dataclass(slots=True)
class MapStart:
    """Where a loop in Python begins: at the first record, or where the native loop stopped."""

    records: Iterator[tuple[Any, Any]]
    """The records to read; the first of them is the one that was begun, if any."""
    buffer: dict[Any, Any] = field(default_factory=dict)
    """The totals, or lists of values, that the native loop has not yielded."""
    ordinal: int = -1
    """The record that was begun."""
    out: Any = None
    """What mapfn returned for it."""
    pairs_left: Any = None
    """The pairs of it that are still to be added, or all its output; None if none was begun."""
    buffered: int = 0
    """Number of values in the buffer."""
    next_check: int = 1
    """Number of values at which ``buffer_limit`` is to be asked."""
    buffer_limit: BufferLimit | None = None
    """The limit that has seen the values in the buffer; None for a new one."""
    snapshot_value: Callable[[Any], Any] | None = None
    """What has fixed the values in the buffer, and knows the last of them; None for a new one."""


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
    """Yield columns of totals; return the ``MapStart`` of the rest, None at the end.

    Raises:
        UserCodeError: mapfn failed.
        Exception: whatever ``records`` raises.
    """
    totals, (max_keys, _) = (
        native.totals.Totals(*hash_secrets()),
        map_buffer_limits(program.memory),
    )
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
        cause = explain_output_error(error, fold.pair, out=fold.out)
        raise UserCodeError("mapfn", fold.ordinal, fold.key, fold.value) from cause
    if state == native.totals.ENDED:
        yield totals.deal(partitions)
        return None
    return _start_after(fold, as_dict(totals))


def map_groups_natively(
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: Cursor,
) -> Generator[PartitionedColumns, None, MapStart | None]:
    """Yield columns of groups; return the ``MapStart`` of the rest, None at the end.

    Raises:
        UserCodeError: mapfn, combinefn, partitionfn or a named reducer failed.
        Exception: whatever ``records`` raises.
    """
    groups, snapshot_value = native.totals.Groups(*hash_secrets()), choose_value_snapshot(program)
    (max_keys, buffer_limit), next_check = map_buffer_limits(program.memory), 1
    fold = native.totals.RecordFold(
        groups,
        records,
        program.mapfn or _emit_record,
        cursor,
        iterate_pairs,
        takes_value_only=program.takes_value_only,
        immutable_types=IMMUTABLE_TYPES,
        snapshot_value=snapshot_value,
    )
    try:
        while (state := fold.run(next_check)) == native.totals.FULL:
            next_check = buffer_limit.next_check(next_check, fold.latest)
            if not next_check or len(groups) >= max_keys:
                yield _flush(program, groups, partitions)
                next_check = 1
    except BaseException as error:
        if not fold.in_mapfn or must_reraise(error):
            raise
        cause = explain_output_error(error, fold.pair, out=fold.out)
        raise UserCodeError("mapfn", fold.ordinal, fold.key, fold.value) from cause
    if state == native.totals.ENDED:
        yield _flush(program, groups, partitions)
        return None
    buffered = groups.values
    keys, lists = groups.take()
    return _start_after(
        fold,
        dict(zip(keys, lists, strict=True)),
        buffered=buffered,
        next_check=next_check,
        buffer_limit=buffer_limit,
        snapshot_value=snapshot_value,
    )


def _flush(program: Program, groups: native.totals.Groups, partitions: int) -> PartitionedColumns:
    is_sent_as_is = isinstance(program.reduce, GroupFunction) or program.reduce.name == "list"
    if is_sent_as_is and program.combine is None and program.partitionfn is None:
        return groups.deal(partitions)
    return flush_groups(program, *groups.take(), partitions)


def _start_after(
    fold: native.totals.RecordFold, buffer: dict[Any, Any], **buffer_state: Any
) -> MapStart:
    """Return where Python goes on after a record, a pair, or an output that the extension left."""
    if not fold.in_mapfn:  # a record that is no pair: Python raises the error of it
        return MapStart(chain((fold.pair,), fold.records), buffer, fold.ordinal, **buffer_state)
    pairs_left = fold.out
    if fold.pairs is not None:
        # A dict is the rest of a mapping. The odd pair may be None, if mapfn yielded that.
        is_rest = type(fold.pairs) is dict
        pairs_left = fold.pairs if is_rest else chain((fold.pair,), fold.pairs)
    records = chain([(fold.key, fold.value)], fold.records)
    return MapStart(records, buffer, fold.ordinal, fold.out, pairs_left, **buffer_state)


def _emit_record(*record: Any) -> tuple[tuple[Any, ...]]:
    return (record,)


def _as_dict_or_pairs(out: Any) -> Iterable[Any]:
    """Return a mapping of ints as a dict, which is added whole; the pairs of any other output."""
    if isinstance(out, Mapping) and set(map(type, out.values())) == {int}:
        return out if type(out) is dict else dict(zip(out, out.values(), strict=True))
    return iterate_pairs(out)
