"""Adds up the blocks of a partition in C, as long as all keys are texts or all are ints."""

from __future__ import annotations  # where the extension is not there, its types are not

from collections.abc import Iterable, Iterator
from typing import Any

from redismr import native
from redismr.core.codec import Block
from redismr.engine import buffer_limit
from redismr.native import IntBlock

HASH_SECRETS = hash("totals") & 0xFFFF_FFFF_FFFF_FFFF, hash("groups") & 0xFFFF_FFFF_FFFF_FFFF
"""Two secrets of this process and its forks, on which Python's own hashes of texts depend too."""


def add_blocks_natively(
    blocks: Iterator[Block],
) -> tuple[native.totals.Totals, bool, Iterator[Block]]:
    """Add up blocks until one is of another kind.

    Returns:
        the totals; whether all blocks were added; the blocks that are left.

    Raises:
        Exception: whatever ``blocks`` raises.
    """
    totals = native.totals.Totals(*HASH_SECRETS)
    for block in blocks:
        added = totals.add(block) if isinstance(block, IntBlock) else 0
        if not isinstance(block, IntBlock) or added < block.records:
            keys, values = block
            rest: Block = (keys, values) if added == 0 else (list(keys)[added:], values[added:])
            return totals, False, prepend(rest, blocks)
    return totals, True, blocks


def slice_totals(totals: native.totals.Totals) -> Iterator[IntBlock]:
    """Yield the totals as results, in the order in which keys came, and empty them."""
    block = totals.take_block()
    if block is not None:
        step = buffer_limit.RESULT_RECORDS
        for start in range(0, block.records, step):
            yield block.slice(start, min(start + step, block.records))


def as_dict(totals: native.totals.Totals) -> dict[Any, Any]:
    """Return the totals as a dict in the same order, and empty them."""
    pairs: dict[Any, Any] = {}
    block = totals.take_block()
    if block is not None:
        block.update(pairs)
    return pairs


def prepend(first: Any, rest: Iterable[Any]) -> Iterator[Any]:
    """Yield ``first`` and then the rest; unlike ``chain``, keep no reference to ``first``."""
    items = [first]
    del first
    yield items.pop()
    yield from rest
