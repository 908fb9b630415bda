"""Refuses one allocation after the other while the extension works; run in a process of its own.

Each operation is made anew for each allocation, until one pass needs no more of them. It may raise
a MemoryError, or give the right result; whatever it worked on must be sound afterwards.
"""

from __future__ import annotations

import _imp
import _testcapi
import gc
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from native.frames import python_frame

from redismr import native
from redismr.core.codec import encode_block
from redismr.engine.kernel import UserCodeError, map_task, reduce_task
from redismr.engine.program import prepare_program

totals = native.totals
KEYS = [f"key {n}" for n in range(30)]
PAIRS = [(key, n + 1) for n, key in enumerate(KEYS)] * 2
PLAIN, OTHER = python_frame(KEYS, range(30)), python_frame(["é", "a"] * 20, [2**40] * 40)
GROUPED = {key: [n + 1] * 2 for n, key in enumerate(KEYS)}
SUCCESSES = 60
"""So many calls in a row that raise nothing: the allocation that is refused comes after their end.
Fewer are not enough, as Python does without some that it was refused."""


def summed(pairs):
    sums = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0) + value
    return sums


def grouped(pairs):
    groups = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


PREFIXES = [summed(PAIRS[:n]) for n in range(len(PAIRS) + 1)]
GROUP_PREFIXES = [grouped(PAIRS[:n]) for n in range(len(PAIRS) + 1)]
COUNT_PREFIXES = [{k: len(v) for k, v in some.items()} for some in GROUP_PREFIXES]


def content(target):
    """Return everything in totals or groups, and take it out."""
    if isinstance(target, totals.Groups):
        keys, lists = target.take()
        return dict(zip(keys, lists, strict=True))
    block, pairs = target.take_block(), {}
    if block is not None:
        block.update(pairs)
    return pairs


def filled():
    some = totals.Totals(1, 2)
    some.add(totals.decode(PLAIN))
    return some


def new_fold(target, out, **more):
    return totals.RecordFold(
        target, iter([(0, 0)]), out, [0], iter, takes_value_only=True,
        immutable_types={int}, snapshot_value=int, **more,
    )  # fmt: skip


def filled_groups():
    groups = totals.Groups(1, 2)
    new_fold(groups, lambda _v: PAIRS).run(1000)
    return groups


# Each yields something to call; is sent what that returned, or MemoryError; and checks the rest.


def decoding(frame):
    expected = list(totals.decode(frame))
    got = yield lambda: totals.decode(frame)
    assert got in (MemoryError, None) or list(got) == expected


def encoding():
    block = totals.decode(OTHER)
    got = yield block.encode
    assert got in (MemoryError, OTHER)
    assert block.encode() == OTHER


def reading(index):
    block = totals.decode(OTHER)
    got = yield lambda: block[index]
    assert got in (MemoryError, [["é", "a"] * 20, [2**40] * 40][index])


def slicing():
    block = totals.decode(OTHER)
    got = yield lambda: block.slice(3, 9)
    assert got is MemoryError or list(got) == [(["é", "a"] * 20)[3:9], [2**40] * 6]
    assert list(block.slice(5, 7)) == [["a", "é"], [2**40] * 2]


def updating():
    block, pairs = totals.decode(PLAIN), {}
    got = yield lambda: block.update(pairs)
    assert got in (MemoryError, None)
    assert list(pairs.items()) == list(zip(KEYS, range(30), strict=True))[: len(pairs)]
    assert got is MemoryError or len(pairs) == 30


def adding():
    block, some = totals.decode(PLAIN), totals.Totals(1, 2)
    got = yield lambda: some.add(block)
    count = len(some)
    assert got == 30 == count or got is MemoryError
    assert content(some) == dict(zip(KEYS[:count], range(count), strict=True))
    assert some.add(block) == 30
    assert content(some) == dict(zip(KEYS, range(30), strict=True))


def dealing():
    some, expected = filled(), filled().deal(7)
    got = yield lambda: some.deal(7)
    if got is MemoryError:
        got = some.deal(7)
    assert [(p, list(block)) for p, block in got] == [(p, list(block)) for p, block in expected]
    assert len(some) == 0


def taking():
    some = filled()
    got = yield some.take_block
    if got is MemoryError:
        got = some.take_block()
    assert list(got) == [KEYS, [*range(30)]]
    assert some.take_block() is None


def taking_groups():
    groups = filled_groups()
    got = yield groups.take
    if got is MemoryError:
        got = groups.take()
    assert dict(zip(*got, strict=True)) == GROUPED
    assert groups.take() == ([], [])


def folding(make, prefixes, form, **more):
    target, pairs = make(1, 2), PAIRS
    fold = new_fold(target, lambda _v: form(pairs), **more)
    got = yield lambda: fold.run(1000)
    found = content(target)
    assert got in (MemoryError, totals.ENDED, totals.HANDED_BACK)
    assert found in (prefixes[-1:] if got == totals.ENDED else prefixes)
    assert list(found) == KEYS[: len(found)]


def folding_a_dict():
    target, out = totals.Totals(1, 2), {"a": 1, "b": 2, "c": 3}
    fold = totals.RecordFold(target, [(0, 0), (1, 1)], lambda _v: out, [0], lambda x: x,
                             takes_value_only=True)  # fmt: skip
    got = yield lambda: fold.run(1000)
    assert got in (MemoryError, totals.ENDED)
    assert got is MemoryError or content(target) == {"a": 2, "b": 4, "c": 6}
    content(target)


def folding_a_dict_that_overflows():
    target = totals.Totals(1, 2)
    outs = [{"a": 1, "b": 2**63 - 1}, {"a": 5, "b": 1, "c": 7}]
    fold = totals.RecordFold(target, [(0, 0), (1, 1)], lambda v: outs[v], [0], lambda x: x,
                             takes_value_only=True)  # fmt: skip
    got = yield lambda: fold.run(1000)
    assert got in (MemoryError, totals.HANDED_BACK)
    assert got is MemoryError or fold.pairs == {"b": 1, "c": 7}


def making(call):
    got = yield call
    del got


def mapping(reducer):
    program = prepare_program(lambda _v: (pair for pair in PAIRS), reducer)
    blocks = lambda: [(p, encode_block(b)) for p, b in map_task(program, [(0, 0)], 3, [0, 0])]
    expected = blocks()
    got = yield blocks
    assert got in (MemoryError, expected)
    assert blocks() == expected


def reducing():
    program, block = prepare_program(None, "sum"), totals.decode(PLAIN)
    results = lambda: [list(b) for b, _ in reduce_task(program, [block, block], [0, 0], 0, 1)]
    got = yield results
    assert got in (MemoryError, [[KEYS, [2 * n for n in range(30)]]])


def loading():
    """Loads the extension once more. Python itself leaks, or fails, in its part of this."""
    spec = importlib.util.spec_from_file_location("redismr.native._totals", totals.__file__)
    module = _imp.create_dynamic(spec)
    got = yield lambda: _imp.exec_dynamic(module)
    assert got in (MemoryError, 0)
    assert got is MemoryError or list(module.decode(PLAIN)) == [KEYS, [*range(30)]]


OPERATIONS = {
    "decode": lambda: decoding(PLAIN),
    "decode other texts": lambda: decoding(OTHER),
    "encode": encoding,
    "read keys": lambda: reading(0),
    "read values": lambda: reading(1),
    "slice": slicing,
    "update": updating,
    "add": adding,
    "deal": dealing,
    "take_block": taking,
    "take": taking_groups,
    "fold into totals": lambda: folding(totals.Totals, PREFIXES, list),
    "fold a generator": lambda: folding(totals.Totals, PREFIXES, lambda some: (p for p in some)),
    "count": lambda: folding(totals.Totals, COUNT_PREFIXES, iter, counts_pairs=True),
    "fold into groups": lambda: folding(totals.Groups, GROUP_PREFIXES, list),
    "fold a dict": folding_a_dict,
    "fold a dict that overflows": folding_a_dict_that_overflows,
    "make totals": lambda: making(lambda: totals.Totals(1, 2)),
    "make groups": lambda: making(lambda: totals.Groups(1, 2)),
    "make a fold": lambda: making(lambda: new_fold(totals.Totals(1, 2), list)),
    "map sum": lambda: mapping("sum"),
    "map list": lambda: mapping("list"),
    "reduce": reducing,
    "load": loading,
}


def refuse_each_allocation(operation):
    """Return how many allocations were refused before the operation needed no more of them."""
    start, last_failure = 0, -1
    while start < last_failure + SUCCESSES:
        steps = operation()
        call, failed, got = next(steps), None, None
        gc.disable()
        _testcapi.set_nomemory(start, start + 1)
        try:
            got = call()
        except BaseException as error:
            failed = error
        _testcapi.remove_mem_hooks()
        gc.enable()
        cause = failed.__cause__ if isinstance(failed, UserCodeError) else failed
        if not isinstance(cause, MemoryError | None):
            raise failed
        if failed is not None:
            last_failure = start
        if next_or_none(steps, MemoryError if failed is not None else got) is not None:
            raise AssertionError("an operation calls once")
        start += 1
    return last_failure


def next_or_none(steps, sent):
    try:
        return steps.send(sent)
    except StopIteration:
        return None


def main():
    for name, operation in OPERATIONS.items():
        print(name, end=": ", flush=True)
        print(refuse_each_allocation(operation), flush=True)
    print("sound")


if __name__ == "__main__":
    main()
