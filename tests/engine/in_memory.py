"""Runs all tasks of a job in this process, and the plain loop to compare the results with."""

from __future__ import annotations

from hypothesis import strategies as st

from redismr.core.codec import decode_block, encode_block
from redismr.engine import buffer_limit
from redismr.engine.kernel import SubPass, map_task, reduce_task


def run_in_memory(program, splits, partitions=3, passes=1, irregular=None):
    """Run all tasks of a job, one after the other, through the codec.

    Returns the pairs in partition order; adds to ``irregular`` what each result block says of its
    keys.
    """
    shuffle = [[] for _ in range(partitions)]
    for split in splits:
        for partition, block in map_task(program, split, partitions, [0, 0]):
            shuffle[partition].append(encode_block(block))
    pairs = []
    for partition, frames in enumerate(shuffle):
        for i in range(passes):
            blocks = map(decode_block, frames)
            for block, is_irregular in reduce_task(
                program, blocks, [0, 0], partition, partitions, SubPass(i, passes)
            ):
                pairs += zip(*decode_block(encode_block(block)), strict=True)
                if irregular is not None:
                    irregular.append(is_irregular)
    return pairs


def reduce_in_one_loop(splits, reduce):
    """Return the results by definition: the oracle of the tests."""
    groups = {}
    for split in splits:
        for key, value in split:
            groups.setdefault(key, []).append(value)
    return {key: reduce(values) for key, values in groups.items()}


def sorted_reprs(pairs):
    """Return the pairs as texts, in which 1 and 1.0 differ, in a fixed order."""
    return sorted((repr(key), comparable_repr(value)) for key, value in dict(pairs).items())


def comparable_repr(value):
    """Return the repr of a value; that of a set has its members in a fixed order."""
    return sorted(map(repr, value)) if isinstance(value, set) else repr(value)


def set_tiny_limits(monkeypatch, tiny=True):
    """Make the kernel flush every few records, if ``tiny``."""
    if tiny:
        monkeypatch.setattr(buffer_limit, "MAP_BUFFER_KEYS", 2)
        monkeypatch.setattr(buffer_limit, "MAP_BUFFER_VALUES", 3)
        monkeypatch.setattr(buffer_limit, "RESULT_RECORDS", 2)


keys = st.sampled_from([1, 1.0, True, 0, False, 2, "a", "b", None, (1, "a"), (True, "a"), b"a"])
ints = st.integers() | st.booleans()
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


def splits_of(values):
    return st.lists(st.lists(st.tuples(keys, values), max_size=12), max_size=5)


class EqualByName:
    """A key that compares by name; it has no stable hash, and so needs a partitionfn."""

    def __init__(self, name):
        self.name = name

    def __eq__(self, other):
        return self.name == other.name

    def __hash__(self):
        return hash(self.name)
