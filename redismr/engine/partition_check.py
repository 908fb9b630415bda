"""Sees that a user's partitionfn sends equal keys to one partition.

Nobody but the partitionfn knows where a key belongs, and one that is no function of the key (random
numbers, state, a ``hash`` that differs from process to process) would have a key come out of two
partitions, each with a part of its values. So each map task also tells where it sent its keys: of
each key to a partition that all processes agree on, in blocks whose values are ``KeyPlacements``.
There a
key that two tasks sent to different partitions is found before the reducer runs, whatever the
reducer would make of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from redismr.core.codec import Block, decode_block, encode_block
from redismr.core.printable import short_repr
from redismr.engine.emitted import UserCodeError
from redismr.engine.key_hash import has_stable_hash, partition_or_zero, partitions_of
from redismr.engine.merge import select_share
from redismr.engine.partitioner import PartitionedColumns, cut_into_blocks
from redismr.engine.program import Program
from redismr.errors import BadKey


class KeyPlacements(list[int]):
    """The partitions that the keys beside it were sent to: a column that holds no values."""


def has_trusted_partitionfn(program: Program) -> bool:
    """Whether equal keys surely go to one partition: a function of ours chooses."""
    partitionfn = program.partitionfn
    return partitionfn is None or partitionfn is partition_or_zero


def placement_blocks(columns: PartitionedColumns, partitions: int) -> Iterator[tuple[int, Block]]:
    """(partition, block) that tell where the keys of these columns went.

    Raises:
        UserCodeError: a key is not equal to its copy, so that no other task can have an equal one.
    """
    placed_keys: dict[int, tuple[list[Any], list[int]]] = {}
    for partition, (repeated, _) in columns:
        keys = list(dict.fromkeys(repeated))
        for key, checking_partition in zip(
            keys, _checking_partitions(keys, partitions), strict=True
        ):
            keys_there, key_partitions = placed_keys.setdefault(checking_partition, ([], []))
            keys_there.append(key)
            key_partitions.append(partition)
    for checking_partition, (keys_there, key_partitions) in sorted(placed_keys.items()):
        for block_keys, numbers in cut_into_blocks(keys_there, key_partitions):
            yield checking_partition, (block_keys, KeyPlacements(numbers))


def check_placements(blocks: Iterable[Block], share: int, shares: int) -> Iterator[Block]:
    """The blocks that hold values, in order; of the others those keys that are in the share.

    Raises:
        UserCodeError: partitionfn sent equal keys to two partitions; here or in another task.
    """
    partition_by_key: dict[Any, int] = {}
    for block in blocks:
        if type(block[1]) is not KeyPlacements:
            yield block
            continue
        for keys, numbers in select_share([block], share, shares):
            for key, partition in zip(keys, numbers, strict=True):
                first_partition = partition_by_key.setdefault(key, partition)
                if first_partition != partition:
                    bad = _two_partitions_error(key, first_partition, partition)
                    raise UserCodeError("partitionfn", -1, key) from bad


def _checking_partitions(keys: list[Any], partitions: int) -> list[int]:
    """Which partition is told of each key: all that have no stable hash meet in one."""
    try:
        return partitions_of(keys, partitions)
    except BadKey:
        _check_equal_to_copies([key for key in keys if not has_stable_hash(key)])
        return [partition_or_zero(key, partitions) for key in keys]


def _check_equal_to_copies(keys: list[Any]) -> None:
    """See that keys are equal to what arrives of them: others would be one key for each task."""
    copies, _ = decode_block(encode_block(keys, [None] * len(keys)))
    for key, copy in zip(keys, copies, strict=True):
        if copy is not key and not copy == key:  # noqa: SIM201 - as a dict compares
            bad = BadKey(
                f"a copy of the key {short_repr(key)}, of type {type(key).__qualname__}, is not"
                " equal to it, and keys travel as copies: equal ones would not meet. Give its class"
                " an __eq__ and a __hash__ that go by value, or emit a tuple or a str instead"
            )
            raise UserCodeError("mapfn", -1, key) from bad


def _two_partitions_error(key: Any, first: int, second: int) -> BadKey:
    return BadKey(
        f"partitionfn sent the key {short_repr(key)} to partition {first} and to partition {second}:"  # noqa: E501
        " it must return one number for equal keys, always and in every process. Let it decide by"
        " the key alone, as in zlib.crc32(word.encode()) % partitions: without random numbers, a"
        " state of its own, id() or hash(). Or leave partitionfn out"
    )
