"""Columns of pairs dealt out to partitions, and cut into blocks of a handy size."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import islice, repeat
from operator import index
from typing import TYPE_CHECKING, Any

from redismr.context import uncountable
from redismr.core.codec import Block, estimate
from redismr.core.column import SLICE, Keys, all_text
from redismr.core.keyhash import partitions_of
from redismr.core.pairs import UserCodeError
from redismr.core.trace import short_repr
from redismr.errors import BadKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redismr.core.functions import Program

Scattered = list[tuple[int, Block]]
"""(partition, its columns) for each partition that gets any, ascending."""

BLOCK_BYTES = 1 << 20
"""Blocks are cut to about this many raw bytes; one giant record is a block of its own."""


def partitions_by(program: Program, keys: list[Any], partitions: int) -> list[int]:
    """The partition of each key, by the program's partitionfn or the stable hash.

    Raises:
        BadKey: a key has no stable hash.
        UserCodeError: partitionfn raised, or returned no partition.
    """
    choose, at = program.partitionfn, None
    if choose is None:
        return partitions_of(keys, partitions)
    try:
        with uncountable():
            return [_checked(choose(at := key, partitions), key, partitions) for key in keys]
    except BaseException as error:
        raise UserCodeError("partitionfn", -1, at) from error


def scatter(
    keys: Collection[Any],
    values: Iterable[Any],
    parts_of: Callable[[list[Any]], list[int]],
    partitions: int,
) -> Scattered:
    """The columns of each partition, in the order given."""
    # Measured with one-item tasks: columns for 64 partitions are a tenth of what a task costs.
    if len(keys) < partitions:
        few = list(keys)
        return scatter_groups(few, ([value] for value in values), parts_of(few))
    columns: list[tuple[Keys, list[Any]]] = [(Keys(), []) for _ in range(partitions)]
    buckets: list[list[Any]] = [[] for _ in range(partitions)]
    # Measured: two bound appends a record (54 ns) beat sorting by partition, a list of indexes,
    # and columns of pairs that are unzipped later (190 to 280 ns).
    key_to = [bucket.append for bucket in buckets]
    value_to = [column[1].append for column in columns]
    rest, values = iter(keys), iter(values)
    while some := list(islice(rest, SLICE)):
        for key, value, part in zip(some, values, parts_of(some), strict=False):
            key_to[part](key)
            value_to[part](value)
        plain = all_text(some)
        for bucket, (column, _) in zip(buckets, columns, strict=True):
            column.add(bucket, plain=plain)
            bucket.clear()
    return [(part, column) for part, column in enumerate(columns) if column[1]]


def scatter_groups(keys: Iterable[Any], groups: Iterable[list[Any]], parts: list[int]) -> Scattered:
    """``scatter``, each key with a list of values: it is repeated for each of them."""
    columns: dict[int, tuple[list[Any], list[Any]]] = {}
    for key, values, part in zip(keys, groups, parts, strict=True):
        column = columns.get(part)
        if column is None:
            column = columns[part] = ([], [])
        if len(values) == 1:
            column[0].append(key)
            column[1].append(values[0])
        else:
            column[0].extend(repeat(key, len(values)))
            column[1].extend(values)
    return sorted(columns.items())


def cut(keys: Collection[Any], values: list[Any]) -> Iterator[Block]:
    """The columns in blocks of about ``BLOCK_BYTES``, in order."""
    if not (count := len(keys)):
        return
    size = estimate((keys, values)) if count > 1 else 0
    if size <= BLOCK_BYTES * 1.25:
        yield keys, values
        return
    if not isinstance(keys, list):
        keys = list(keys)
    # Even pieces first, which is all for even records; a piece with a giant is cut again.
    step = max(1, min(count // 2, count * BLOCK_BYTES // size))
    for start in range(0, count, step):
        yield from cut(keys[start : start + step], values[start : start + step])


def _checked(partition: Any, key: Any, partitions: int) -> int:
    try:
        number = index(partition)
    except TypeError:
        number = -1
    if not 0 <= number < partitions:
        raise BadKey(
            f"partitionfn returned {short_repr(partition)} for key {short_repr(key)}:"
            f" it must return an int from 0 to {partitions - 1}"
        )
    return number
