"""Where Python takes over from the extension: in the middle of a record, a mapping, a buffer."""

from __future__ import annotations

import _thread
import functools
import gc
import itertools
import operator
import signal
import threading
from dataclasses import replace

import pytest
from engine.in_memory import set_tiny_limits
from native.frames import python_frame
from native.programs import Row, new_cursor, observe_map, observe_reduce, switched

from redismr import native
from redismr.core.codec import encode_block
from redismr.engine import buffer_limit
from redismr.engine.kernel import UserCodeError, map_task
from redismr.engine.key_hash import partition_of
from redismr.engine.program import prepare_program

BIG = 2**63 - 1


ODD_KEYS = [(key, n) for n in (1, 0.5) for key in (7.0, True, 2**63, "\n", "\0", "\ud800", b"a")]
ODD_VALUES = [(k, v) for k in ("a", 7) for v in (2**63, True, None, 0.5, "x", [1])]
ODD_PAIRS = [*ODD_KEYS, *ODD_VALUES, ["a", 1], "no pair", None, ([], 1)]
FORMS = [list, iter, lambda some: (pair for pair in some)]


def assert_same(program, records, partitions=3):
    """Check that both implementations give the same; return it."""
    with switched(False):
        expected = observe_map(program, records, partitions)
    with switched(True):
        assert observe_map(program, records, partitions) == expected
    return expected[0]


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize("reducer", ["sum", "count", "list"])
@pytest.mark.parametrize("odd", ODD_PAIRS)
@pytest.mark.parametrize("keys", ["abacbd", (7, -1, 7, 300, -1, 2**40)], ids=["texts", "ints"])
@pytest.mark.parametrize("unit", [1, 0.5])
def test_an_odd_pair_anywhere_changes_nothing(reducer, odd, keys, unit, tiny, monkeypatch):
    set_tiny_limits(monkeypatch, tiny)
    plain = [(key, n * unit) for n, key in enumerate(keys, 1)]
    for place in range(7):
        odd_one = [*plain[:place], odd, *plain[place:]]
        for form in FORMS:
            records = [(0, (form, plain[:2])), (1, (form, odd_one)), (2, (form, odd_one[:3]))]
            assert_same(prepare_program(lambda value: value[0](value[1]), reducer), records)


@pytest.mark.parametrize("first", [BIG, -BIG - 1])
@pytest.mark.parametrize("reducer", ["sum", "count"])
def test_a_sum_of_more_than_64_bits_goes_on_in_python(first, reducer, monkeypatch):
    sign = 1 if first > 0 else -1
    out = [("a", sign), ("b", sign), ("c", 1), ("d", 1)]
    for form in (tuple, dict):
        for size in range(1, 6):
            monkeypatch.setattr(buffer_limit, "MAP_BUFFER_KEYS", size)
            records = [(0, form([("a", first)])), (1, form(out)), (2, form(out))]
            assert_same(prepare_program(lambda value: value, reducer), records)


def test_the_rest_of_a_mapping_is_added_whole(monkeypatch):
    """Its keys are more than a buffer takes, and the sum of the second has more than 64 bits."""
    monkeypatch.setattr(buffer_limit, "MAP_BUFFER_KEYS", 4)
    outs = [{"a": 1, "b": BIG}, {"c": 1, "b": BIG, **dict.fromkeys("defghi", 1)}]
    observed = assert_same(prepare_program(lambda n: outs[n], "sum"), [(0, 0), (0, 1)], 1)
    assert len(observed[0]) == 1


@pytest.mark.parametrize(
    "record", [7, "abc", "ab", (1,), (1, 2, 3), [1, 2], [1], iter([1, 2]), None]
)
@pytest.mark.parametrize("reducer", ["sum", "list"])
def test_a_record_that_is_no_pair_raises_what_python_raises(record, reducer):
    def outcome(is_native):
        records = [(0, 1), iter("ab") if hasattr(record, "__next__") else record, (1, 2)]
        with switched(is_native):
            return observe_map(prepare_program(lambda k, v: [(str(k), v)], reducer), records, 1)

    assert outcome(True) == outcome(False)


@pytest.mark.parametrize("partitions", [1, 100])
def test_few_large_keys_are_cut_into_the_same_blocks(partitions):
    pairs = [(str(n) * 30_000, n) for n in range(10, 90)]
    pairs += [("x" * 1_300_000, 1), ("y" * 900_000 + "1", 1), ("z" * 400_000, 1)]
    observed = assert_same(prepare_program(None, "sum"), pairs, partitions)
    assert len(observed[0]) > 3


@pytest.mark.parametrize("partitions", [20, 21])
def test_few_keys_for_many_partitions_are_cut_where_lists_are(partitions):
    """A size of 1.25 MB decides. Fewer keys than partitions are no joined text, but a list of keys,
    which counts three bytes more for each of them."""
    sizes = [65_000] * 19 + [1_310_720 - 19 * 65_000 - 20 * 12]
    keys = []
    for size in sizes:  # all in one partition
        tried = (f"{n}".ljust(size, "k") for n in itertools.count(len(keys) * 1000))
        keys.append(next(key for key in tried if partition_of(key, partitions) == 0))
    observed = assert_same(prepare_program(None, "count"), [(k, 1) for k in keys], partitions)
    assert len(observed[0]) == (2 if partitions > len(keys) else 1)


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_sum_of_more_than_64_bits_in_any_record_of_a_reduce_task(first):
    """Python goes on with the rest of the block, and with the blocks after it."""
    plain = [("a", 1), ("b", 2), ("c", 3)]
    large = [(k, BIG if n >= first else -5) for n, (k, _) in enumerate(plain)]
    frames = [python_frame(*zip(*pairs, strict=True)) for pairs in (plain, large, plain, large)]
    for sort in (False, True):
        program = prepare_program(None, "sum", sort=sort)
        with switched(False):
            expected = observe_reduce(program, frames, 0, 1)
        with switched(True):
            assert observe_reduce(program, frames, 0, 1) == expected


def test_a_row_that_was_kept_before_is_kept_once():
    def mapfn(_key, row):
        yield "a", row
        yield 7, row
        yield "b", row

    row = Row([[n] for n in range(300)])
    seen, _, _ = assert_same(prepare_program(mapfn, "list"), [(0, row)], 1)
    assert len(seen[0][0][1]) < 5000  # two rows have 6500 bytes


@pytest.mark.parametrize("reducer", ["sum", "count", "list"])
def test_closing_a_task_in_the_middle_closes_mapfn(reducer, monkeypatch):
    set_tiny_limits(monkeypatch)
    closed = []

    def mapfn(_value):
        try:
            for n in range(100):
                yield str(n), 1
        finally:
            closed.append(1)

    for is_native in (False, True):
        with switched(is_native):
            task = map_task(prepare_program(mapfn, reducer), [(0, 0)], 1, [0, 0])
            next(task)
            task.close()
    assert closed == [1, 1]


def test_a_cursor_that_was_released_fails_as_in_python():
    """In a process that user code forked, the cursor is released: its parent's must not move.

    Nothing of the user is to blame: the child ends as it would without redismr.
    """
    for is_native in (False, True):
        cursor = new_cursor()
        program = prepare_program(lambda release: release(), "sum")
        with switched(is_native), pytest.raises(ValueError, match="released memoryview"):
            list(map_task(program, [(0, cursor.release), (1, int)], 1, cursor))


# -- signals, threads, and code that comes back in ----------------------------------------------


MANY = 50_000_000
"""Pairs, or records, that take seconds in C: much more than another thread waits for its turn."""


def after_setting(event, items):
    """Return the items, without a step of Python between them, after an event is set."""

    def set_event():
        event.set()
        yield from ()

    return itertools.chain(set_event(), items)


@pytest.mark.parametrize("reducer", ["sum", "count", "list"])
@pytest.mark.parametrize("many", ["pairs", "records"])
def test_ctrl_c_ends_a_loop_in_c(reducer, many):
    """Where pairs, or records, come from C alone, no step of Python looks for signals."""
    begun = threading.Event()
    item = ("a", 1) if many == "pairs" else ("a", [])
    items = after_setting(begun, itertools.repeat(item, MANY))
    mapfn, source = (iter, [(0, items)]) if many == "pairs" else (list, items)
    program = replace(prepare_program(None, reducer), mapfn=mapfn, takes_value_only=True)

    def interrupt():
        begun.wait(60)
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises((UserCodeError, KeyboardInterrupt)) as info:
            list(map_task(program, source, 1, [0, 0]))
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert KeyboardInterrupt in {type(info.value), type(info.value.__cause__)}
    assert next(items) == item


def test_other_threads_run_while_pairs_come_from_c():
    """The other thread ends them; each of them is read from the box by C alone."""
    box, begun = [("a", 1)], threading.Event()
    read_box = functools.partial(operator.getitem, box, 0)
    pairs = after_setting(begun, itertools.islice(iter(read_box, None), MANY))

    def end():
        begun.wait(60)
        box[0] = None

    thread = threading.Thread(target=end)
    thread.start()
    ((_, block),) = map_task(prepare_program(lambda _v: pairs, "count"), [(0, 0)], 1, [0, 0])
    thread.join()
    assert block[0] == ["a"]
    assert block[1][0] < MANY


def make_fold(target, out, cursor=None):
    """Return a fold over one record whose mapfn returns ``out(fold)``."""
    made = []
    made.append(
        native.totals.RecordFold(
            target,
            [("k", 0)],
            lambda _value: out(made[0]),
            cursor or [0],
            iter,
            takes_value_only=True,
            immutable_types={int},
            snapshot_value=lambda v: v,
        )
    )
    return made[0]


@pytest.mark.parametrize("kind", ["totals", "groups"])
def test_a_fold_cannot_run_inside_itself(kind):
    target = native.totals.Totals(1, 2) if kind == "totals" else native.totals.Groups(1, 2)
    said = []

    def out(fold):
        for inside in (lambda: None, lambda: None):
            inside()
            with pytest.raises(RuntimeError) as info:
                fold.run(1)
            said.append(str(info.value))
            yield "a", 1

    assert make_fold(target, out).run(100) == native.totals.ENDED
    assert len(said) == 2
    assert len(target) == 1


def test_user_code_may_empty_the_groups_while_a_value_is_kept():
    """Nobody has the groups but who asks the garbage collector for them."""
    groups = native.totals.Groups(1, 2)

    def snapshot(value):
        groups.take()
        return value

    fold = native.totals.RecordFold(
        groups, [(0, 0)], lambda _v: ((str(n), [n]) for n in range(100)), [0], iter,
        takes_value_only=True, immutable_types=set(), snapshot_value=snapshot,
    )  # fmt: skip
    assert fold.run(1000) == native.totals.ENDED
    assert groups.take() == (["99"], [[[99]]])


def test_destructors_may_use_the_totals_and_the_groups():
    groups, totals_, seen = native.totals.Groups(1, 2), native.totals.Totals(1, 2), []

    class Noisy:
        def __del__(self):
            groups.take()
            seen.append((len(groups), groups.values, len(totals_)))
            totals_.deal(3)

    def mapfn(_value):
        for n in range(50):
            yield str(n), Noisy()

    for target in (groups, totals_):
        native.totals.RecordFold(
            target, [(0, 0)], mapfn, [0], iter, takes_value_only=True, counts_pairs=True,
            immutable_types={Noisy}, snapshot_value=None,
        ).run(1000)  # fmt: skip
        if target is groups:
            keys, lists = groups.take()
            assert (len(keys), len(lists)) == (50, 50)
            del keys, lists
    assert len(seen) == 100


def test_the_collector_may_run_while_groups_become_lists():
    """Its finalizers find no groups; they free nothing that is being read."""

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            assert groups.take() == ([], [])
            found.append(1)

    found, groups, before = [], native.totals.Groups(1, 2), gc.get_threshold()
    fold = make_fold(groups, lambda _fold: ((str(n % 500), n) for n in range(2000)))
    assert fold.run(10_000) == native.totals.ENDED
    try:
        gc.collect()
        for _ in range(5):
            Cycle()
        gc.set_threshold(50, 2, 2)
        keys, lists = groups.take()
    finally:
        gc.set_threshold(*before)
    gc.collect()
    assert len(found) == 5
    assert keys == [str(n) for n in range(500)]
    assert lists == [list(range(n, 2000, 500)) for n in range(500)]
    assert groups.take() == ([], [])


def test_frames_of_columns_outlive_their_totals():
    totals_ = native.totals.Totals(1, 2)
    fold = make_fold(totals_, lambda _fold: ((str(n), n) for n in range(5000)))
    fold.run(10_000)
    whole = totals_.take_block()
    part = whole.slice(1000, 4000).slice(5, 2000)
    expected = [str(n) for n in range(1005, 3000)], list(range(1005, 3000))
    del totals_, fold, whole
    assert list(part) == list(expected)
    assert encode_block(part) == part.encode()
