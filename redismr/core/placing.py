"""Sees that a user's partitionfn sends equal keys to one partition.

Nobody but the partitionfn knows where a key belongs, and one that is no function of the key (random
numbers, state, a ``hash`` that differs from process to process) would have a key come out of two
partitions, each with a part of its values. So each map task also tells where it sent its keys: of
each key to a partition that all processes agree on, in blocks whose values are ``Placed``. There a
key that two tasks sent to different partitions is found before the reducer runs, whatever the
reducer would make of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from redismr.core.codec import Block, decode_block, encode_block
from redismr.core.functions import Program
from redismr.core.keyhash import has_stable_hash, partition_of_any, partitions_of
from redismr.core.merge import share_of
from redismr.core.pairs import UserCodeError
from redismr.core.scatter import Scattered, cut
from redismr.core.trace import short_repr
from redismr.errors import BadKey


class Placed(list[int]):
    """The partitions that the keys beside it were sent to: a column that holds no values."""


def is_trusted(program: Program) -> bool:
    """Whether equal keys surely go to one partition: a function of ours chooses."""
    choose = program.partitionfn
    return choose is None or choose is partition_of_any


def placements(columns: Scattered, partitions: int) -> Iterator[tuple[int, Block]]:
    """(partition, block) that tell where the keys of these columns went.

    Raises:
        UserCodeError: a key is not equal to its copy, so that no other task can have an equal one.
    """
    told: dict[int, tuple[list[Any], list[int]]] = {}
    for partition, (repeated, _) in columns:
        keys = list(dict.fromkeys(repeated))
        for key, witness in zip(keys, _witnesses(keys, partitions), strict=True):
            some, parts = told.setdefault(witness, ([], []))
            some.append(key)
            parts.append(partition)
    for witness, (some, parts) in sorted(told.items()):
        for block_keys, numbers in cut(some, parts):
            yield witness, (block_keys, Placed(numbers))


def checked(blocks: Iterable[Block], share: int, shares: int) -> Iterator[Block]:
    """The blocks that hold values, in order; of the others those keys that are in the share.

    Raises:
        UserCodeError: partitionfn sent equal keys to two partitions; here or in another task.
    """
    places: dict[Any, int] = {}
    for block in blocks:
        if type(block[1]) is not Placed:
            yield block
            continue
        for keys, numbers in share_of([block], share, shares):
            for key, partition in zip(keys, numbers, strict=True):
                before = places.setdefault(key, partition)
                if before != partition:
                    bad = _two_places(key, before, partition)
                    raise UserCodeError("partitionfn", -1, key) from bad


def _witnesses(keys: list[Any], partitions: int) -> list[int]:
    """Which partition is told of each key: all that have no stable hash meet in one."""
    try:
        return partitions_of(keys, partitions)
    except BadKey:
        _check_copies([key for key in keys if not has_stable_hash(key)])
        return [partition_of_any(key, partitions) for key in keys]


def _check_copies(keys: list[Any]) -> None:
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


def _two_places(key: Any, one: int, other: int) -> BadKey:
    return BadKey(
        f"partitionfn sent the key {short_repr(key)} to partition {one} and to partition {other}:"
        " it must return one number for equal keys, always and in every process. Let it decide by"
        " the key alone, as in zlib.crc32(word.encode()) % partitions: without random numbers, a"
        " state of its own, id() or hash(). Or leave partitionfn out"
    )
