"""References and memory: all come back; cycles through a fold are collected."""

from __future__ import annotations

import gc
import importlib.util
import sys
import weakref

import pytest
from native import fuzz
from native.frames import python_frame

from redismr.native import totals

RECORDS = 100_000


def test_many_records_leave_no_reference_and_no_memory():
    fuzz.check_references(RECORDS)


@pytest.mark.parametrize("out", ["pairs", "odd pair", "no pair", "error", "dict", "number"])
@pytest.mark.parametrize("task", ["add", "count", "group"])
def test_every_end_of_a_record_leaves_no_reference(out, task):
    key, value, big = "key" + out, object(), 2**62 + 1

    def raising():
        yield key, 1
        raise LookupError

    outs = {
        "pairs": lambda: [(key, 1), (key, value)],
        "odd pair": lambda: iter([(key, 1), (7, value)]),
        "no pair": lambda: ((key, n, value) for n in range(2)),
        "error": raising,
        "dict": lambda: {key: big},
        "number": lambda: 7,
    }

    def once():
        target = totals.Groups(1, 2) if task == "group" else totals.Totals(1, 2)
        fold = totals.RecordFold(
            target, [(value, value)] * 3, lambda _k, _v: outs[out](), [0],
            lambda thing: thing if isinstance(thing, dict) else iter(thing),
            takes_value_only=False, counts_pairs=task == "count",
            immutable_types={object}, snapshot_value=str,
        )  # fmt: skip
        try:
            while fold.run(1) == totals.FULL:
                pass
        except (LookupError, TypeError):
            pass

    once()
    gc.collect()
    watched = [sys.getrefcount(thing) for thing in (key, value, big)]
    for _ in range(50):
        once()
    gc.collect()
    assert [sys.getrefcount(thing) for thing in (key, value, big)] == watched


def test_blocks_leave_no_reference():
    frame, refused = python_frame(["a", "b", "é"], [1, 2, 2**40]), python_frame(["a"], [2**63])

    def once():
        block = totals.decode(frame)
        assert totals.decode(refused) is None
        some = totals.Totals(1, 2)
        some.add(block)
        part = block.slice(1, 3).slice(0, 1)
        for thing in (block, part, *(one for _, one in some.deal(5))):
            thing.encode(), list(thing), thing.records, thing.sample_chars(1), thing.update({})
        some.add(block)
        some.take_block()

    once()
    counts = sys.getrefcount(frame), sys.getrefcount(refused)
    memory = sys.getallocatedblocks()
    for _ in range(1000):
        once()
    assert (sys.getrefcount(frame), sys.getrefcount(refused)) == counts
    assert abs(sys.getallocatedblocks() - memory) < 500


class Node:
    """A function that can be in a cycle."""

    def __init__(self, result=None):
        self.result = result

    def __call__(self, *_):
        return self.result


class Types(set):
    """A set that can be in a cycle."""


def one_place(place, node):
    """Return the arguments of a fold; the node is in one of them."""
    given = {
        "target": totals.Groups(1, 2),
        "records": [("k", [("a", 1)])] * 2,
        "mapfn": list,
        "cursor": [0],
        "as_pairs": iter,
        "immutable_types": Types({int, Node}),
        "snapshot_value": str,
    }
    if place in {"mapfn", "as_pairs", "snapshot_value"}:
        node.result = [("a", 1)]
        given[place] = node
    elif place == "cursor":
        given["cursor"].append(node)
    elif place == "immutable_types":
        given["immutable_types"].node = node
    elif place == "rest of the records":
        given["records"] = iter([*given["records"], ("k", node)])
    elif place == "key":
        given["records"] = [(node, [("a", 1)])]
    else:  # the value of a record, what mapfn returned, and what the groups hold
        given["records"] = [("k", [("a", node)])] * 2
    return given


@pytest.mark.parametrize(
    "place",
    ["mapfn", "as_pairs", "snapshot_value", "cursor", "immutable_types", "rest of the records",
     "key", "value"],
)  # fmt: skip
@pytest.mark.parametrize("holder", ["fold", "groups"])
def test_a_cycle_is_collected(place, holder):
    node = Node()
    given = one_place(place, node)
    fold = totals.RecordFold(takes_value_only=True, **given)
    fold.run(2)
    node.held = fold if holder == "fold" else given["target"]
    gone = weakref.ref(node)
    del node, fold, given
    gc.collect()
    assert gone() is None


def test_values_go_when_their_groups_go():
    gone = []

    class Value:
        def __del__(self):
            gone.append(1)

    groups = totals.Groups(1, 2)
    fold = totals.RecordFold(
        groups, [(0, 0)], lambda _v: ((str(n % 3), Value()) for n in range(10)), [0], iter,
        takes_value_only=True, immutable_types={Value}, snapshot_value=None,
    )  # fmt: skip
    fold.run(100)
    assert gone == []
    del fold
    assert gone == []
    _, lists = groups.take()
    assert [len(values) for values in lists] == [4, 3, 3]
    lists[0].clear()
    assert len(gone) == 4
    del groups, lists
    assert len(gone) == 10


def test_the_module_can_be_loaded_twice():
    """As after a reload, or in another interpreter: types of one are none of the other."""
    spec = importlib.util.spec_from_file_location("redismr.native._totals", totals.__file__)
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    assert other.Totals is not totals.Totals
    block = other.decode(python_frame(["a"], [1]))
    with pytest.raises(TypeError):
        totals.Totals(1, 2).add(block)
    gone = weakref.ref(other)
    del other, spec
    gc.collect()
    assert list(block) == [["a"], [1]]
    assert gone() is not None
    del block
    gc.collect()
    assert gone() is None
