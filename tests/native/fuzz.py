"""Feeds millions of spoiled frames to the C extension, and compares it with Python.

``python tests/native/fuzz.py --inputs 1000000 --seed 5``, or ``--seconds 60``. Prints the seed, and
ends with a traceback, or a report of a sanitizer, at the first difference.
"""

from __future__ import annotations

import argparse
import gc
import os
import random as random_module
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from native import frames

from redismr.core.codec import encode_block
from redismr.engine.kernel import map_task, reduce_task
from redismr.engine.key_hash import partition_of
from redismr.engine.program import prepare_program
from redismr.native import totals

FLIPS_A_FRAME = 200
SPOILED_A_FRAME = 25


def fuzz(random, inputs, seconds):
    """Decode and add until there were so many inputs; return how many, and how many were blocks."""
    done = blocks = rounds = 0
    deadline = time.monotonic() + seconds
    checked = frames.CheckedTotals(random)
    while done < inputs and time.monotonic() < deadline:
        frame = frames.random_frame(random)
        for mutant in mutants(random, frame):
            done += 1
            if (block := frames.check_decoded(mutant)) is not None:
                blocks += 1
                checked.add(block)
        rounds += 1
        if rounds % 10 == 0:
            check_deal(random, checked)
        if rounds % 100 == 0:
            check_tasks(random)
    return done, blocks


def mutants(random, frame):
    """Yield the frame itself, many with one or two other bytes, and some that are spoiled more."""
    yield frame
    size, choose = len(frame), random.random
    for _ in range(FLIPS_A_FRAME):
        data = bytearray(frame)
        data[int(choose() * size)] = int(choose() * 256)
        if choose() < 0.3:
            data[int(choose() * size)] ^= 1 << int(choose() * 8)
        yield bytes(data)
    for _ in range(SPOILED_A_FRAME):
        yield frames.spoiled(random, frame)


def check_deal(random, checked):
    """Take everything out of the totals, whole or by partition, and look at the blocks."""
    if random.random() < 0.5:
        block = checked.take()
        dealt = [] if block is None else [block]
    else:
        partitions = random.choice((1, 2, 3, 64, 1000))
        pairs = checked.totals.deal(partitions)
        expected = {}
        for key, value in checked.expected.items():
            expected.setdefault(partition_of(key, partitions), []).append((key, value))
        assert [p for p, _ in pairs] == sorted(expected)
        for partition, block in pairs:
            assert list(zip(*block, strict=True)) == expected[partition]
        checked.expected = {}
        dealt = [block for _, block in pairs]
    for block in dealt:
        keys, values = block
        frame = block.encode()
        assert frame == encode_block(
            (frames.joined(keys) if type(keys[0]) is str else keys, values)
        )
        start = random.randrange(block.records)
        stop = random.randrange(start, block.records) + 1
        part = block.slice(start, stop)
        assert list(part) == [keys[start:stop], values[start:stop]]
        if type(keys[0]) is str:
            assert part.sample_chars(1) == sum(map(len, keys[start:stop]))
        if frames.check_decoded(part.encode()) is None:
            raise AssertionError(part.encode())


def check_tasks(random):
    """Run a map and a reduce task over a few pairs, some of them odd."""
    keys = [random.choice([*frames.TEXTS, "a\0b", "\ud800", 7, (1, "a")]) for _ in range(20)]
    pairs = [(key, random.choice(frames.LIMITS)) for key in keys]
    for reducer, reduce in (("sum", sum), ("count", len), ("list", list)):
        program, found = prepare_program(None, reducer), {}
        shuffle = [[], []]
        for partition, block in map_task(program, pairs, 2, [0, 0]):
            shuffle[partition].append(block)
        for partition, blocks in enumerate(shuffle):
            for columns, _ in reduce_task(program, blocks, [0, 0], partition, 2):
                found.update(zip(*columns, strict=True))
        groups = {}
        for key, value in pairs:
            groups.setdefault(key, []).append(value)
        assert found == {key: reduce(values) for key, values in groups.items()}


def check_references(records):
    """Fold many records; counts of references and blocks of memory come back to where they were."""
    key, value = "key of " + str(records), 10**30
    groups = lambda: totals.Groups(1, 2)
    watched = (key, value, None)

    def fold(target, emitted):
        run = totals.RecordFold(
            target, ((n, n) for n in range(records)), lambda n: [(key, emitted), (str(n), 1)],
            [0, 0], iter, takes_value_only=True, immutable_types={int}, snapshot_value=id,
        )  # fmt: skip
        while run.run(50_000) == totals.FULL:
            if isinstance(target, totals.Groups):
                target.take()
            else:
                target.deal(7)

    def once():
        fold(groups(), value)
        fold(totals.Totals(3, 4), 1)
        gc.collect()

    once()
    before = [*map(sys.getrefcount, watched)], sys.getallocatedblocks()
    once()
    after = [*map(sys.getrefcount, watched)], sys.getallocatedblocks()
    # None is counted by all of Python; a few blocks come and go.
    assert before[0][:2] == after[0][:2], (before, after)
    assert abs(before[0][2] - after[0][2]) < 500, (before, after)
    assert abs(before[1] - after[1]) < 500, (before, after)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="frames to decode and add")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="end after this time")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    parser.add_argument("--records", type=int, default=1_000_000, help="records to count refs over")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    begun = time.monotonic()
    random = random_module.Random(options.seed)
    done, blocks = fuzz(random, options.inputs, options.seconds)
    print(
        f"{done:,} inputs, {blocks:,} of them blocks, {time.monotonic() - begun:.0f} s", flush=True
    )
    check_references(options.records)
    print(f"{options.records:,} records left no reference, {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
