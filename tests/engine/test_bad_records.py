from __future__ import annotations

import asyncio
import bdb
import pickle
from collections import Counter
from concurrent.futures import CancelledError

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redismr
from redismr.context import TaskContext, active_task, count
from redismr.core.job_payloads import JobSealer
from redismr.core.model import Crash, Failure, MapManifest, PartSize, ResultManifest, Skipped
from redismr.core.seal import Keyring
from redismr.engine.bad_records import (
    RECORDED_SKIPS_PER_TASK,
    SkipLimitExceeded,
    SkipRecorder,
    current_ordinal,
    max_skips,
    with_skipping_mapfn,
    with_skipping_reducefn,
)
from redismr.engine.kernel import UserCodeError, map_task, reduce_task
from redismr.engine.partition_check import KeyPlacements
from redismr.engine.program import prepare_program
from redismr.errors import BadKey, BadPair


class NoStableHashKey:
    """A key whose hash differs between processes."""


def make_faults():
    """Yield functions that fail in different ways."""
    yield from (
        lambda: 1 / 0,
        lambda: next(iter(())),  # StopIteration
        lambda: (_ for _ in ()).throw(SystemExit(3)),
        lambda: [].pop(),
    )


FAULTS = list(make_faults())
BAD_OUTPUTS = [
    "ab",
    7,
    ("k",),
    ("k", 1, 2),
    ([], 1),
    (NoStableHashKey(), 1),
    (float("nan"), 1),
    None,
]


FAILURE = Failure(
    kind="skipped", stage="map", task="m0", function="mapfn", error_module="builtins",
    error_name="ValueError", message="bad", where="here",
)  # fmt: skip


def skip_recorder(on_error="skip", stage="map", **more):
    places = lambda ordinals: [f"place {ordinal}" for ordinal in ordinals]
    return SkipRecorder(stage, "m0" if stage == "map" else "r0", on_error, places, **more)


def map_with_skips(program, records, skips, crashes=None, partitions=3):
    """Run one map task; return its pairs, its counters and the number of records read."""
    cursor = [0, 0]
    skipping_program = with_skipping_mapfn(program, partitions, cursor, skips, crashes or {})
    with active_task(TaskContext()) as context:
        blocks = list(map_task(skipping_program, records, partitions, cursor))
    blocks = [(part, block) for part, block in blocks if type(block[1]) is not KeyPlacements]
    pairs = [pair for _, (keys, values) in blocks for pair in zip(keys, values, strict=True)]
    return sorted(pairs), context.counters, current_ordinal(cursor) + 1


def emit(spec):
    """A mapfn that does what its record says: (kind, pairs to emit first, index of the fault)."""
    kind, pairs, fault = spec
    count("begun")
    for pair in pairs:
        yield pair
        count("pairs")
    if kind == "raise":
        FAULTS[fault]()
    elif kind == "emit":
        yield BAD_OUTPUTS[fault]
    count("done")


pairs = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=3)
good = st.tuples(st.just("good"), pairs, st.just(0))
bad = st.tuples(st.just("raise"), pairs, st.integers(0, len(FAULTS) - 1)) | st.tuples(
    st.just("emit"), pairs, st.integers(0, len(BAD_OUTPUTS) - 1)
)


@pytest.mark.parametrize("reducer", ["sum", "count", "list", None, lambda _k, values: values])
@pytest.mark.parametrize("combinefn", [None, lambda _k, values: sum(values)])
@given(specs=st.lists(good | bad, max_size=8))
def test_a_bad_record_contributes_nothing(reducer, combinefn, specs):
    if combinefn is not None:  # only its keys are partitioned: those of mapfn need no stable hash
        specs = [spec for spec in specs if spec[0] != "emit" or spec[2] < 5]
    program = prepare_program(emit, reducer, combinefn=combinefn)
    skips = skip_recorder()
    result = map_with_skips(program, list(enumerate(specs)), skips)
    left = [(n, spec) for n, spec in enumerate(specs) if spec[0] == "good"]
    clean = map_with_skips(program, left, skip_recorder())
    assert result[:2] == clean[:2]
    assert result[2] == len(specs)
    places = [failure.where for failure in skips.skipped()]
    assert places == [f"place {n}" for n, spec in enumerate(specs) if spec[0] != "good"]
    assert skips.skipped().total == len(places)
    assert all(failure.kind == "skipped" for failure in skips.skipped())


def test_a_reused_pair_counts_as_it_was_emitted():
    def mapfn(_):
        pair = [None, 1]
        for word in "ab":
            pair[0] = word
            yield pair

    assert map_with_skips(prepare_program(mapfn, "list"), [(0, 0)], skip_recorder())[0] == [
        ("a", 1),
        ("b", 1),
    ]


def test_counts_of_a_generator_that_is_closed_are_discarded():
    def mapfn(_):
        try:
            yield "no pair"
        finally:
            count("closed")

    skips = skip_recorder()
    assert map_with_skips(prepare_program(mapfn, "list"), [(0, 0)], skips)[1] == Counter()
    assert skips.skipped()[0].error_name == "BadPair"


@pytest.mark.parametrize("form", ["none", "dict", "counter", "list", "iterator"])
def test_all_forms_of_output_are_accepted(form):
    forms = {"none": None, "dict": {"a": 1}, "counter": Counter("aa"), "list": [("a", 1)]}
    returned = iter([("a", 1)]) if form == "iterator" else forms[form]
    skips = skip_recorder()
    program = prepare_program(lambda _: returned, "list")
    taken, _, _ = map_with_skips(program, [(0, 0)], skips)
    assert [key for key, _ in taken] == ([] if form == "none" else ["a"])
    assert not skips.skipped()


def test_without_a_mapfn_records_are_skipped_as_well():
    skips = skip_recorder()
    taken = map_with_skips(
        prepare_program(None, "list"), [("a", 1), ([], 2), (NoStableHashKey(), 3)], skips
    )[0]
    assert taken == [("a", 1)]
    assert [failure.error_name for failure in skips.skipped()] == ["BadKey", "BadKey"]


def test_a_key_on_which_partitionfn_fails_skips_its_record():
    skips = skip_recorder()
    program = prepare_program(lambda x: [(x, 1)], "sum", partitionfn=lambda key, n: 6 // key % n)
    assert map_with_skips(program, enumerate([1, 0, 2]), skips)[0] == [(1, 1), (2, 1)]
    assert skips.skipped()[0].function == "partitionfn"


def test_errors_that_no_single_record_causes_fail_the_task():
    def combinefn(_key, _values):
        raise OSError

    skips = skip_recorder()
    program = prepare_program(lambda x: [(x, 1)], "sum", combinefn=combinefn)
    with pytest.raises(UserCodeError) as info:
        map_with_skips(program, [(0, 0)], skips)
    assert info.value.function == "combinefn"
    with pytest.raises(UserCodeError):
        map_with_skips(prepare_program(lambda x: [(x, "a")], "sum"), [(0, 0)], skips)
    assert not skips.skipped()


@pytest.mark.parametrize("error", [KeyboardInterrupt, bdb.BdbQuit, redismr.DebuggerError])
def test_a_request_to_stop_is_no_bad_record(error):
    def raising(*_):
        raise error

    skips = skip_recorder()
    for program in (
        prepare_program(raising, "sum"),
        prepare_program(lambda x: [(x, 1)], "sum", partitionfn=raising),
    ):
        with pytest.raises(UserCodeError) as info:
            map_with_skips(program, [(0, 0)], skips)
        assert type(info.value.__cause__) is error
    with pytest.raises(error):
        with_skipping_reducefn(prepare_program(None, raising), skips).reduce.call(0, [1])
    assert not skips.skipped()


@pytest.mark.parametrize("error", [GeneratorExit, asyncio.CancelledError, CancelledError])
def test_any_other_error_skips_the_record(error):
    def raising(value):
        if value:
            raise error
        return [(value, 1)]

    skips = skip_recorder()
    assert map_with_skips(prepare_program(raising, "sum"), [(0, 0), (1, 1)], skips)[0] == [(0, 1)]
    assert [failure.error_name for failure in skips.skipped()] == [error.__name__]


def test_a_record_that_ends_processes_is_skipped_without_a_call():
    skips = skip_recorder()
    crash = Crash(1, "WorkerDied", "its process was killed by SIGSEGV")
    seen = []
    program = prepare_program(lambda x: [(seen.append(x), x)], "list")
    taken = map_with_skips(program, enumerate("abc"), skips, {1: crash})[0]
    assert (taken, seen) == ([(None, "a"), (None, "c")], ["a", "c"])
    (failure,) = skips.skipped()
    assert (failure.error_name, failure.message) == ("WorkerDied", crash.what)
    assert (failure.where, failure.key, failure.value) == ("place 1", "1", "'b'")


def test_the_cursor_points_at_a_record_only_while_mapfn_works_on_it():
    cursor, seen = [0, 0], []

    def mapfn(_):
        seen.append(("in", cursor[0]))
        yield "a", 1

    def records():
        for n in range(3):
            seen.append(("read", cursor[0]))
            yield n, n

    program = with_skipping_mapfn(prepare_program(mapfn, "list"), 1, cursor, skip_recorder(), {})
    list(map_task(program, records(), 1, cursor))
    assert seen == [("read", -1), ("in", 0), ("read", -2), ("in", 1), ("read", -3), ("in", 2)]
    assert current_ordinal(cursor) == 2
    assert current_ordinal([-1, 0]) == -1
    assert current_ordinal([5, 0]) == 5


# -- reducefn ---------------------------------------------------------------------------------


def reduce_with_skips(reducefn, keys, skips, **options):
    program = with_skipping_reducefn(prepare_program(None, reducefn, **options), skips)
    with active_task(TaskContext()) as context:
        blocks = list(reduce_task(program, [(keys, [1] * len(keys))], [0, 0], 0, 1))
    columns = [zip(*block, strict=True) for block, _ in blocks]
    return [pair for column in columns for pair in column], context.counters


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("generator", [False, True])
def test_a_key_on_which_reducefn_raises_contributes_nothing(generator, sort):
    def returning(key, values):
        count("seen")
        if key == "b":
            raise LookupError(key)
        return len(values)

    def yielding(key, values):
        count("seen")
        yield key, len(values)
        if key == "b":
            raise LookupError(key)

    skips = skip_recorder(stage="reduce")
    chosen = yielding if generator else returning
    found, counters = reduce_with_skips(chosen, ["c", "b", "a", "a"], skips, sort=sort)
    assert found == ([("a", 2), ("c", 1)] if sort else [("c", 1), ("a", 2)])
    assert counters == {"seen": 2}
    (failure,) = skips.skipped()
    assert (failure.where, failure.error_name, failure.stage) == (
        "key 'b'",
        "LookupError",
        "reduce",
    )


def test_an_error_of_a_reducefn_of_items_fails_the_task():
    skips = skip_recorder(stage="reduce")
    with pytest.raises(UserCodeError):
        reduce_with_skips(lambda items: ((k, 1 / 0) for k, _ in items), ["a"], skips)
    assert not skips.skipped()


# -- budgets ----------------------------------------------------------------------------------


def failing(x):
    raise ValueError(f"bad {x}")


@pytest.mark.parametrize(("on_error", "stops_at"), [(0, 1), (1, 2), (3, 4), ("skip", 0), (0.1, 0)])
def test_a_count_ends_the_attempt_that_exceeds_it(on_error, stops_at):
    skips = skip_recorder(on_error)
    program = prepare_program(failing, "sum")
    if not stops_at:
        assert map_with_skips(program, enumerate(range(9)), skips)[0] == []
        assert skips.skipped().total == 9
        return
    with pytest.raises(UserCodeError) as info:
        map_with_skips(program, enumerate(range(9)), skips)
    assert isinstance(info.value.__cause__, SkipLimitExceeded)
    failure = info.value.__cause__.failure
    assert skips.skipped().total == stops_at
    assert (failure.error_name, failure.where) == ("TooManySkipped", "place 0")
    assert "ValueError: bad 0" in failure.message
    assert f"on_error={on_error}" in failure.message


@pytest.mark.parametrize(
    ("on_error", "total", "records_in", "over"),
    [
        (0.29, 29, 100, False), (0.29, 30, 100, True), (0.07, 7, 100, False), (1.0, 9, 9, False),
        (0.5, 1, 1, True), (0.5, 1, None, False), ("skip", 10**9, 1, False), (5, 5, 0, False),
        (5, 6, None, True), (0, 0, 0, False), (0.1, 0, 0, False),
    ],
)  # fmt: skip
def test_budgets_are_exact(on_error, total, records_in, over):
    assert (total > max_skips(on_error, records_in)) == over


def test_a_reduce_attempt_does_not_begin_if_too_much_was_skipped_before():
    before = Skipped([FAILURE], 7)
    with pytest.raises(SkipLimitExceeded):
        skip_recorder(0.05, "reduce", skipped_before=before, records_in=100)
    skips = skip_recorder(0.07, "reduce", skipped_before=before, records_in=100)
    with pytest.raises(UserCodeError) as info:
        reduce_with_skips(lambda key, values: 1 / 0, ["a"], skips)
    assert isinstance(info.value.__cause__, SkipLimitExceeded)


def test_details_are_capped_and_the_count_is_exact():
    skips = skip_recorder()
    map_with_skips(
        prepare_program(failing, "sum"), enumerate(range(RECORDED_SKIPS_PER_TASK + 50)), skips
    )
    assert len(skips.skipped()) == RECORDED_SKIPS_PER_TASK
    assert skips.skipped().total == RECORDED_SKIPS_PER_TASK + 50
    both = Skipped(list(skips.skipped()) * 9, 900).plus(Skipped(list(skips.skipped()) * 9, 5000))
    assert (len(both), both.total) == (1000, 5900)


def test_records_whose_place_cannot_be_found_are_numbered():
    skips = SkipRecorder("map", "m3", "skip", failing)
    map_with_skips(prepare_program(failing, "sum"), enumerate(range(2)), skips)
    assert [f.where for f in skips.skipped()] == ["record 1 of its task", "record 2 of its task"]


# -- under seal -------------------------------------------------------------------------------


def test_skips_travel_in_manifests():
    sealer = JobSealer(Keyring("e3b1a9f07d5c2864" * 2, "redismr"), "job")
    skipped = Skipped([FAILURE], 3)
    sealed = sealer.seal_map_manifest(MapManifest(task="m0", token="m0.x", skipped=skipped))
    opened = sealer.open_map_manifest("m0", b"m0.x " + sealed).skipped
    assert (opened, opened.total) == (skipped, 3)
    counted = sealer.open_map_manifest("m0", b"m0.x " + sealed, kept=0).skipped
    assert (counted, counted.total) == ((), 3)
    manifest = ResultManifest(
        task="r0", token="r0.x", basis="", maps=1, maps_digest="", part=PartSize(0, 0, 0),
        skipped=Skipped((), 2), map_skipped=skipped,
    )  # fmt: skip
    result = sealer.open_result_manifest(0, b"r0.x " + sealer.seal_result_manifest(manifest))
    assert (result.skipped.total, result.map_skipped, result.map_skipped.total) == (2, skipped, 3)
    copy = pickle.loads(pickle.dumps(skipped))
    assert (copy, copy.total) == (skipped, 3)


def test_errors_have_the_same_names_as_without_skipping():
    skips = skip_recorder()
    map_with_skips(prepare_program(lambda x: [x], "sum"), enumerate(["ab", ([], 1)]), skips)
    assert [f.error_name for f in skips.skipped()] == [BadPair.__name__, BadKey.__name__]
