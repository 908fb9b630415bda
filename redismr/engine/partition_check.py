"""Checks that a user's partitionfn sends equal keys to one partition.

A partitionfn that does not depend on the key alone (but on random numbers, state, or a ``hash``
that differs between processes) would let a key come out of two partitions, each with a part of its
values. So each map task also reports where it sent its keys, in blocks whose values are
``KeyPlacements``. The report on a key goes to a checking partition: the same for that key in all
processes. The reduce task there finds a key that two tasks sent to different partitions, before the
reducer runs and whatever the reducer would make of the key.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from redismr.core.codec import Block, decode_block, encode_block
from redismr.core.printable import short_repr
from redismr.engine.emitted import UserCodeError
from redismr.engine.key_hash import has_stable_hash, partition_or_zero, partitions_of
from redismr.engine.merge import SubPass, select_share
from redismr.engine.partitioner import PartitionedColumns, cut_into_blocks
from redismr.engine.program import Program
from redismr.errors import BadKey
from redismr.native import IntBlock


class KeyPlacements(list[int]):
    """A column of partitions in place of values: where the keys of the same block were sent."""


def has_trusted_partitionfn(program: Program) -> bool:
    """True if a function of redismr chooses partitions, so that equal keys surely go to one."""
    partitionfn = program.partitionfn
    return partitionfn is None or partitionfn is partition_or_zero


def placement_blocks(columns: PartitionedColumns, partitions: int) -> Iterator[tuple[int, Block]]:
    """Yield (checking partition, block of ``KeyPlacements``) for the keys of these columns.

    A key that is not equal to its copy raises UserCodeError: no other task can have an equal key.
    """
    placed_keys: dict[int, tuple[list[Any], list[int]]] = {}
    for partition, (repeated, _) in columns:
        keys = list(dict.fromkeys(repeated))
        checking_partitions = _checking_partitions(keys, partitions)
        for key, checking_partition in zip(keys, checking_partitions, strict=True):
            keys_there, key_partitions = placed_keys.setdefault(checking_partition, ([], []))
            keys_there.append(key)
            key_partitions.append(partition)
    for checking_partition, (keys_there, key_partitions) in sorted(placed_keys.items()):
        for block_keys, numbers in cut_into_blocks((keys_there, key_partitions)):
            yield checking_partition, (block_keys, KeyPlacements(numbers))


def check_placements(blocks: Iterable[Block], sub_pass: SubPass) -> Iterator[Block]:
    """Yield the blocks that hold values, in order; check the ``KeyPlacements`` of the sub-pass.

    UserCodeError is raised if partitionfn sent equal keys to two partitions, in one task or in two.
    """
    partition_by_key: dict[Any, int] = {}
    for block in blocks:
        if isinstance(block, IntBlock) or type(block[1]) is not KeyPlacements:
            yield block
            continue
        for keys, numbers in select_share([block], sub_pass):
            for key, partition in zip(keys, numbers, strict=True):
                first_partition = partition_by_key.setdefault(key, partition)
                if first_partition != partition:
                    bad = _two_partitions_error(key, first_partition, partition)
                    raise UserCodeError("partitionfn", -1, key) from bad


def _checking_partitions(keys: list[Any], partitions: int) -> list[int]:
    """Return the checking partition of each key; keys without a stable hash share one."""
    try:
        return partitions_of(keys, partitions)
    except BadKey:
        _check_equal_to_copies([key for key in keys if not has_stable_hash(key)])
        return [partition_or_zero(key, partitions) for key in keys]


def _check_equal_to_copies(keys: list[Any]) -> None:
    # A key that is not equal to its copy would be another key in each task.
    copies, _ = decode_block(encode_block((keys, [None] * len(keys))))
    for key, copy in zip(keys, copies, strict=True):
        if copy is not key and not copy == key:  # noqa: SIM201 - as a dict compares
            bad = BadKey(
                f"the key {short_repr(key)}, of type {type(key).__qualname__}, is not equal to its"
                " copy, and keys travel as copies: equal keys would not be grouped. Give the class"
                " an __eq__ and a __hash__ that go by value, or emit a tuple or a str instead"
            )
            raise UserCodeError("mapfn", -1, key) from bad


def _two_partitions_error(key: Any, first: int, second: int) -> BadKey:
    return BadKey(
        f"partitionfn sent the key {short_repr(key)} to partition {first} and to partition {second}:"  # noqa: E501
        " it must return one number for equal keys, always and in every process. Use the key alone,"
        " as in zlib.crc32(word.encode()) % partitions: no random numbers, no state, no id(), no"
        " hash(). Or leave partitionfn out"
    )
