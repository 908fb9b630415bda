"""The two entry points of the engine: what a map task and a reduce task do to records.

Both are generators: the caller decides where records come from and where blocks go to. The blocks
depend on the records, the functions and the options only: counts and sizes of the data decide when
a buffer is flushed, never time or free memory.
"""

from collections.abc import Iterable, Iterator, MutableSequence
from typing import Any

from redismr.core.codec import Block, record_count
from redismr.engine.call_reducer import DuplicateKeyDetector
from redismr.engine.emitted import UserCodeError
from redismr.engine.map_loops import map_records
from redismr.engine.merge import WHOLE_PARTITION, SubPass, reduce_blocks, select_share
from redismr.engine.partition_check import (
    check_placements,
    has_trusted_partitionfn,
    placement_blocks,
)
from redismr.engine.partitioner import choose_partitions, cut_into_blocks
from redismr.engine.program import Program
from redismr.native import IntBlock

__all__ = ["Block", "SubPass", "UserCodeError", "map_task", "reduce_task"]


def map_task(
    program: Program,
    records: Iterable[tuple[Any, Any]],
    partitions: int,
    cursor: MutableSequence[int],
) -> Iterator[tuple[int, Block]]:
    """Yield (partition, block); the values of a key keep their input order within its partition.

    With a user's partitionfn, blocks of ``KeyPlacements`` follow those of values: see
    ``partition_check``.

    Args:
        program: the functions to call.
        records: the (key, value) pairs of one split.
        partitions: number of partitions of the job.
        cursor: the generator writes to it. ``cursor[0]`` is the ordinal of the record that mapfn is
            working on (-1 before the first), ``cursor[1]`` the number of records yielded.

    Raises:
        UserCodeError: mapfn, combinefn, partitionfn or a named reducer failed.
        Exception: whatever ``records`` raises.
    """
    cursor[0], cursor[1] = -1, 0
    must_send_placements = not has_trusted_partitionfn(program)
    for columns in map_records(program, records, partitions, cursor):
        # The extension does not say whether Python would have joined the keys.
        is_joined = sum(record_count(column) for _, column in columns) >= partitions
        for partition, column in columns:
            for block in cut_into_blocks(column, is_joined=is_joined):
                cursor[1] += record_count(block)
                yield partition, block
        if must_send_placements:
            yield from placement_blocks(columns, partitions)


def reduce_task(
    program: Program,
    blocks: Iterable[Block],
    cursor: MutableSequence[int],
    partition: int,
    partitions: int,
    sub_pass: SubPass = WHOLE_PARTITION,
    *,
    duplicate_detector: DuplicateKeyDetector | None = None,
) -> Iterator[tuple[Block, bool]]:
    """Yield (result block, whether it may hold an irregular key).

    A key is irregular if it belongs to another partition. With a ``duplicate_detector``, one for
    all sub-passes, it is irregular as well if it was yielded before.

    Args:
        program: the functions to call.
        blocks: the blocks of this partition from all map tasks, in task order.
        cursor: as in ``map_task``, with the ordinal of the key that reducefn is working on.
        partition: index of this partition.
        partitions: number of partitions of the job.
        sub_pass: the share of the keys to reduce. All sub-passes of a partition must run in one
            process.
        duplicate_detector: also finds keys that are yielded twice.

    Raises:
        UserCodeError: reducefn or a named reducer failed, keys cannot be sorted, or partitionfn
            sent equal keys to two partitions.
        Exception: whatever ``blocks`` raises.
    """
    cursor[0], cursor[1] = -1, 0
    if not has_trusted_partitionfn(program):
        blocks = check_placements(blocks, sub_pass)
    for columns in reduce_blocks(program, select_share(blocks, sub_pass), cursor):
        # The C extension adds up: it yields the keys of its groups only, and each once.
        if isinstance(columns, IntBlock):
            for block in cut_into_blocks(columns):
                cursor[1] += record_count(block)
                yield block, False
            continue
        keys, values, has_other_keys = columns
        has_irregular_keys = has_other_keys and _may_leave_partition(
            program, keys, partition, partitions
        )
        if duplicate_detector is not None:
            has_irregular_keys |= duplicate_detector.add_and_check(
                keys, has_other_keys=has_other_keys
            )
        for block in cut_into_blocks((keys, values)):
            cursor[1] += record_count(block)
            yield block, has_irregular_keys


def _may_leave_partition(
    program: Program, keys: list[Any], partition: int, partitions: int
) -> bool:
    """True if a key may belong to another partition than the one that yields it."""
    if not has_trusted_partitionfn(program):  # partitionfn might give one key to two
        return True
    try:
        key_partitions = choose_partitions(program, partitions, "reducefn", keys)
        return any(part != partition for part in key_partitions)
    except UserCodeError as error:
        if not isinstance(error.__cause__, Exception):
            raise  # Ctrl-C, or another request to stop
        return True  # readers look for a key without a partition in all of them
