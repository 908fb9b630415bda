"""Map and reduce tasks: results, errors, order, sizes."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from concurrent.futures import CancelledError
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

import pytest
from engine.in_memory import (
    ints,
    numbers,
    reduce_in_one_loop,
    run_in_memory,
    set_tiny_limits,
    sorted_reprs,
    splits_of,
)
from hypothesis import example, given
from hypothesis import strategies as st

from redismr.context import TaskContext, active_task, count
from redismr.core.codec import encode_block
from redismr.engine import buffer_limit
from redismr.engine.kernel import SubPass, UserCodeError, map_task, reduce_task
from redismr.engine.key_hash import partition_of
from redismr.engine.program import prepare_program
from redismr.errors import BadKey, BadPair, BadValue


def total(values):
    if any(isinstance(value, float) for value in values):
        try:
            return math.fsum(values) + 0.0
        except OverflowError:
            return sum(values)
    return sum(values)


def mean(values):
    return total(values) / len(values)


REDUCERS = [
    ("sum", ints, sum),
    ("count", ints | st.text(), len),
    (len, ints | st.text(), len),
    ("list", ints | st.text(), list),
    ("min", numbers, min),
    ("max", numbers, max),
    ("min", st.floats(), min),
    ("max", st.tuples(st.floats(), st.text()), max),
    ("min", st.frozensets(st.integers(0, 3)), min),
    ("set", ints | st.text(), set),
    ("first", ints | st.text(), lambda values: values[0]),
    ("any", ints | st.text(), any),
    ("all", ints | st.text(), all),
    ("sum", st.fractions(), sum),
    ("mean", ints, mean),
    (None, ints | st.text(), list),
    (lambda _key, values: values, ints | st.text(), list),
    (lambda items: ((k, vs) for k, vs in items), ints | st.text(), list),
    (lambda key, values: iter([(key, values)]), ints | st.text(), list),
]


@pytest.mark.parametrize("case", REDUCERS, ids=lambda case: getattr(case[0], "__name__", case[0]))
@given(data=st.data(), tiny=st.booleans(), partitions=st.integers(1, 4), passes=st.integers(1, 2))
def test_results_equal_those_of_one_loop(case, data, tiny, partitions, passes):
    reducer, values, oracle = case
    splits = data.draw(splits_of(values))
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_tiny_limits(monkeypatch, tiny)
        pairs = run_in_memory(prepare_program(None, reducer), splits, partitions, passes)
    assert len(pairs) == len(dict(pairs))
    assert sorted_reprs(pairs) == sorted_reprs(reduce_in_one_loop(splits, oracle).items())


@pytest.mark.parametrize(("reducer", "oracle"), [("sum", total), ("mean", mean)])
@given(splits=splits_of(numbers), tiny=st.booleans())
@example(splits=[[("a", 1e16)], [("a", 1.0), ("a", -1e16)]], tiny=False)
@example(splits=[[("a", 0.1)] * 10, [("a", 3)], [("a", 0.2)]], tiny=True)
@example(splits=[[("a", -0.0)], [("a", -0.0)]], tiny=False)
@example(splits=[[("a", 2**53), ("a", 2**53)], [("a", 2**53), ("a", 0.5)]], tiny=False)
def test_float_sums_are_exact_wherever_the_input_is_cut(reducer, oracle, splits, tiny):
    expected = reduce_in_one_loop(splits, oracle)
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_tiny_limits(monkeypatch, tiny)
        assert sorted_reprs(run_in_memory(prepare_program(None, reducer), splits)) == sorted_reprs(
            expected.items()
        )


inf, nan = math.inf, math.nan


@pytest.mark.parametrize(
    "values", [[inf, 1.0, 2], [1e308, -inf], [nan, 1.0], [inf, nan], [nan] * 3]
)
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_sums_of_inf_and_nan(values, cut):
    splits = [[("a", v) for v in values[:cut]], [("a", v) for v in values[cut:]]]
    ((_, result),) = run_in_memory(prepare_program(None, "sum"), splits)
    assert repr(result) == repr(math.fsum(values))


@pytest.mark.parametrize(
    "values",
    [[inf, -inf] * 10, [1e308] * 20, [-1e308] * 2, [1e308, 1.7e308, -1e308], [1e308, nan] * 9],
)
@pytest.mark.parametrize("cut", [0, 1, 10])
def test_sums_that_fsum_refuses_equal_those_of_a_loop(values, cut):
    splits = [[("a", v) for v in values[:cut]], [("a", v) for v in values[cut:]]]
    ((_, result),) = run_in_memory(prepare_program(None, "sum"), splits)
    assert repr(result) == repr(sum(values))


def test_an_int_too_large_for_a_float_has_no_sum_with_floats():
    with pytest.raises(UserCodeError) as info:
        run_in_memory(prepare_program(None, "sum"), [[("a", 10**400)], [("a", 0.5)]])
    assert isinstance(info.value.__cause__, OverflowError)


def test_a_sum_of_int_parts_larger_than_any_exact_float():
    splits = [[("a", 10**30 + 1)], [("a", 0.5), ("a", -(10**30))]]
    assert run_in_memory(prepare_program(None, "sum"), splits) == [("a", 1.5)]


@pytest.mark.parametrize("value", ["x", b"x", [1], (1, 2), None, timedelta(1)])
@pytest.mark.parametrize("reducer", ["sum", "mean"])
def test_a_value_that_is_no_number_has_no_sum(value, reducer):
    with pytest.raises(UserCodeError) as info:
        run_in_memory(
            prepare_program(None, reducer),
            [[("good", 1)], *[[("bad", 1)] * 10] * 2, [("bad", value)]],
        )
    error = info.value
    assert isinstance(error.__cause__, TypeError)
    assert (error.function, error.key, error.value) == (f'"{reducer}"', "bad", [value])


@pytest.mark.parametrize("reducer", ["min", "max"])
def test_errors_of_min_and_max_show_the_values(reducer):
    with pytest.raises(UserCodeError) as info:
        run_in_memory(prepare_program(None, reducer), [[("bad", 1), ("bad", 1)], [("bad", "x")]])
    error = info.value
    assert (error.function, error.key, error.value) == (f'"{reducer}"', "bad", [1, "x"])


def test_errors_of_set_show_the_values():
    with pytest.raises(UserCodeError) as info:
        run_in_memory(prepare_program(None, "set"), [[("bad", 1), ("bad", [])]])
    assert (info.value.function, info.value.value) == ('"set"', [1, []])


class NoTruth:
    def __bool__(self):
        raise LookupError


def test_values_after_the_answer_need_no_truth_value():
    """Values before the answer do, in any task."""
    splits = [[("a", 0), ("a", 1)], [("a", NoTruth())]]
    assert run_in_memory(prepare_program(None, "any"), splits) == [("a", True)]
    with pytest.raises(UserCodeError) as info:
        run_in_memory(prepare_program(None, "any"), splits[::-1])
    assert isinstance(info.value.__cause__, LookupError)
    assert info.value.function == '"any"'
    assert [type(value) for value in info.value.value] == [NoTruth]


def test_an_error_shows_the_values_that_combinefn_returned():
    program = prepare_program(None, "sum", combinefn=lambda _key, _values: None)
    with pytest.raises(UserCodeError) as info:
        run_in_memory(program, [[("a", 1)]])
    assert (info.value.function, info.value.value) == ('"sum"', [None])


class Large:
    def __init__(self):
        self.data = bytes(100_000)


def test_an_error_names_a_named_combiner():
    program = prepare_program(None, lambda _key, values: values, combinefn="sum")
    with pytest.raises(UserCodeError) as info:
        run_in_memory(program, [[("a", 1), ("a", "x")]])
    error = info.value
    assert (error.function, error.key, error.value) == ('combinefn "sum"', "a", [1, "x"])


def test_big_values_that_do_not_add_up_are_flushed_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(buffer_limit, "MAP_BUFFER_BYTES", 1 << 20)
    held, most = 0, 0

    def records():
        nonlocal held, most
        for n in range(100):
            held += 1
            most = max(most, held)
            yield n % 3, Large()

    for _ in map_task(prepare_program(None, "sum"), records(), 1, [0, 0]):
        held = 0
    assert most < 40


def test_fractions_and_numbers_mix():
    splits = [[("a", 1), ("a", Fraction(1, 3))], [("a", Fraction(2, 3))]]
    assert run_in_memory(prepare_program(None, "sum"), splits) == [("a", 2)]
    assert run_in_memory(prepare_program(None, "mean"), splits) == [("a", Fraction(2, 3))]


# -- combinefn --------------------------------------------------------------------------------


COMBINERS = [
    lambda _key, values: sum(values),
    lambda items: ((key, sum(values)) for key, values in items),
    lambda key, values: iter([(key, sum(values))]),
    sum,
    "sum",
]


@pytest.mark.parametrize("combinefn", COMBINERS)
@given(splits=splits_of(ints), tiny=st.booleans())
def test_an_associative_combinefn_changes_nothing(combinefn, splits, tiny):
    program = prepare_program(None, lambda _key, values: sum(values), combinefn=combinefn)
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_tiny_limits(monkeypatch, tiny)
        pairs = run_in_memory(program, splits)
    assert sorted_reprs(pairs) == sorted_reprs(reduce_in_one_loop(splits, sum).items())


def test_a_list_from_combinefn_is_one_value():
    program = prepare_program(None, None, combinefn=lambda _key, values: sorted(values))
    assert run_in_memory(program, [[("a", 2), ("a", 1)], [("a", 3)]]) == [("a", [[1, 2], [3]])]


def test_combinefn_never_sees_its_own_results(monkeypatch):
    set_tiny_limits(monkeypatch)
    program = prepare_program(None, "sum", combinefn=lambda _key, values: len(values))
    assert run_in_memory(program, [[("a", "x")] * 100]) == [("a", 100)]


def test_values_of_a_named_reducer_may_be_combined_by_the_user():
    program = prepare_program(None, "count", combinefn=lambda _key, values: max(values))
    assert run_in_memory(program, [[("a", 1), ("a", 2)], [("a", 3)]]) == [("a", 2)]


def test_the_iterator_form_of_combinefn_may_rename_drop_and_add_keys():
    def combinefn(items):
        for key, values in items:
            if key != "drop":
                yield key.upper(), sum(values)
                yield "all", sum(values)

    splits = [[("a", 1), ("b", 2), ("drop", 7)], [("a", 3)]]
    irregular = []
    pairs = run_in_memory(
        prepare_program(None, "sum", combinefn=combinefn), splits, irregular=irregular
    )
    assert dict(pairs) == {"A": 4, "B": 2, "all": 6}
    assert not any(irregular)


@pytest.mark.parametrize("role", ["combinefn", "partitionfn"])
def test_combinefn_and_partitionfn_may_not_count(role):
    def counting(_a, _b):
        count("calls")
        return 0

    program = prepare_program(None, lambda _key, values: values, **{role: counting})
    context = TaskContext()
    with active_task(context), pytest.raises(UserCodeError) as info:
        list(map_task(program, [("a", 1)], 2, [0, 0]))
    assert isinstance(info.value.__cause__, RuntimeError)
    assert info.value.function == role
    assert context.countable


def test_mapfn_and_reducefn_may_count():
    def mapfn(key, value):
        count("mapped")
        return [(key, value)]

    def reducefn(_key, values):
        count("reduced")
        return values

    context = TaskContext()
    with active_task(context):
        run_in_memory(prepare_program(mapfn, reducefn), [[("a", 1), ("a", 2)], [("b", 1)]])
    assert context.counters == {"mapped": 3, "reduced": 2}


# -- the output of mapfn -------------------------------------------------------------------------


@pytest.mark.parametrize("reducer", ["sum", "list"])
@pytest.mark.parametrize(
    "out",
    [
        [("a", 1), ("b", 2)],
        (["a", 1], ("b", 2)),
        {"a": 1, "b": 2},
        Counter("abb"),
        {"a": 1, "b": 2}.items(),
        deque([("a", 1), ("b", 2)]),
    ],
    ids=lambda out: type(out).__name__,
)
def test_mapfn_may_return_pairs_in_many_forms(out, reducer):
    wrap = {"sum": lambda x: x, "list": lambda x: [x]}[reducer]
    pairs = run_in_memory(prepare_program(lambda _key, _value: out, reducer), [[(0, 0)]])
    assert dict(pairs) == {"a": wrap(1), "b": wrap(2)}


def test_none_means_no_pairs():
    assert run_in_memory(prepare_program(lambda _key, _value: None, "sum"), [[(0, 0)]]) == []


@pytest.mark.parametrize("reducer", ["sum", "count", "list"])
def test_mappings_add_up(reducer):
    splits = [[(0, "abca"), (1, "cd")], [(2, "a")]]
    got = dict(run_in_memory(prepare_program(lambda text: Counter(text), reducer), splits))
    expected = {
        "sum": {"a": 3, "b": 1, "c": 2, "d": 1},
        "count": {"a": 2, "b": 1, "c": 2, "d": 1},
        "list": {"a": [2, 1], "b": [1], "c": [1, 1], "d": [1]},
    }[reducer]
    assert got == expected


def test_a_mapping_of_floats_is_summed_exactly():
    pairs = run_in_memory(prepare_program(lambda value: {"a": value}, "sum"), [[(0, 0.1)] * 10])
    assert pairs == [("a", 1.0)]


INVALID_PAIRS = [
    "ab",
    b"ab",
    {"a", "b"},
    {"a": 1, "b": 2},
    deque(["a", 1]),
    range(2),
    ("a",),
    ("a", 1, 2),
    ["a", 1, 2],
    7,
    None,
]


@pytest.mark.parametrize("reducer", ["sum", "count", "list", lambda _key, values: values])
@pytest.mark.parametrize("bad", INVALID_PAIRS, ids=lambda bad: type(bad).__name__)
def test_an_output_that_is_no_pair_is_refused(bad, reducer):
    def mapfn(_key, value):
        yield 0, 1
        if value == 7:
            yield bad

    cursor = [0, 0]
    with pytest.raises(UserCodeError) as info:
        list(map_task(prepare_program(mapfn, reducer), [("k", 1), ("k", 7)], 2, cursor))
    error = info.value
    assert isinstance(error.__cause__, BadPair)
    assert (error.function, error.ordinal, error.key, error.value) == ("mapfn", 1, "k", 7)
    assert type(bad).__name__ in str(error.__cause__)


@pytest.mark.parametrize("reducer", ["sum", "list"])
@pytest.mark.parametrize("out", [7, "ab", ("a", 1), object()], ids=lambda out: type(out).__name__)
def test_an_output_that_is_no_iterable_of_pairs_is_refused(out, reducer):
    with pytest.raises(UserCodeError) as info:
        run_in_memory(prepare_program(lambda _key, _value: out, reducer), [[(0, 0)]])
    assert isinstance(info.value.__cause__, BadPair)


@pytest.mark.parametrize("reducer", ["sum", "list"])
def test_an_unhashable_key_is_named(reducer):
    program = prepare_program(lambda _key, value: [("fine", 1), (value, 1)], reducer)
    with pytest.raises(UserCodeError) as info:
        run_in_memory(program, [[(0, ["x"])]])
    assert isinstance(info.value.__cause__, BadKey)
    assert "mapfn emitted a key of type list" in str(info.value.__cause__)


@pytest.mark.parametrize("reducer", ["sum", "list"])
@pytest.mark.parametrize("error", [TypeError, ValueError, StopIteration, SystemExit, KeyError])
def test_errors_of_mapfn_keep_their_cause(reducer, error):
    def mapfn(_key, value):
        if value:
            raise error("mine")
        return [("a", 1)]

    cursor = [0, 0]
    with pytest.raises(UserCodeError) as info:
        list(map_task(prepare_program(mapfn, reducer), [(0, 0), (1, 1), (2, 0)], 2, cursor))
    assert isinstance(info.value.__cause__, error)
    assert (info.value.function, info.value.ordinal) == ("mapfn", 1)
    assert cursor[0] == 1


@pytest.mark.parametrize(("function", "items"), [(int, ["1", "x"]), (len, [1])])
def test_errors_of_iterators_written_in_c_keep_their_cause(function, items):
    out = map(function, items)
    with pytest.raises(UserCodeError) as info:
        run_in_memory(
            prepare_program(lambda _key, _value: zip("ab", out, strict=False), "sum"), [[(0, 0)]]
        )
    assert not isinstance(info.value.__cause__, (BadPair, BadKey))


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, CancelledError, SystemExit]
)
def test_errors_that_end_programs_name_function_and_record(error):
    def raising(key, value):
        if value in (2, [2]):
            raise error
        return value if isinstance(value, list) else [(value, value)]

    def ones(_key, value):
        if value == 2:
            raise error
        yield value, 1

    def yielding(key, values):
        raising(key, values)
        yield key, values

    def items(groups):
        for key, values in groups:
            yield from yielding(key, values)

    def place(key, partitions):
        raising(key, key)
        return 0

    def pair(_key, value):
        yield value, value

    for name, ordinal, program in [
        ("mapfn", 1, prepare_program(ones, "sum")),
        *(
            ("mapfn", 1, prepare_program(raising, reducefn))
            for reducefn in ("sum", "count", "list")
        ),
        ("combinefn", -1, prepare_program(pair, "sum", combinefn=raising)),
        ("partitionfn", -1, prepare_program(pair, "sum", partitionfn=place)),
        *(
            ("reducefn", 1, prepare_program(pair, reducefn))
            for reducefn in (raising, yielding, items)
        ),
    ]:
        with pytest.raises(UserCodeError) as info:
            run_in_memory(program, [[(7, 1), (8, 2)]], partitions=1)
        assert type(info.value.__cause__) is error
        key = 8 if name == "mapfn" else 2
        assert (info.value.function, info.value.ordinal, info.value.key) == (name, ordinal, key)


def test_a_reader_that_stops_blames_no_function(monkeypatch):
    monkeypatch.setattr(buffer_limit, "MAP_BUFFER_KEYS", 1)
    for reducefn in ("sum", "count", "list", lambda key, values: 1):
        for mapfn in (lambda _key, value: [(value, 1)], yield_one):
            tasks = map_task(prepare_program(mapfn, reducefn), enumerate("abc"), 1, [0, 0])
            next(tasks)
            tasks.close()
    monkeypatch.setattr(buffer_limit, "RESULT_RECORDS", 1)
    results = reduce_task(
        prepare_program(None, lambda key, values: 1), [(["a", "b"], [1, 1])], [0, 0], 0, 1
    )
    next(results)
    results.close()


def yield_one(_key, value):
    yield value, 1


@pytest.mark.parametrize("reducer", ["sum", "list"])
def test_errors_of_the_source_pass_unchanged(reducer):
    def records():
        yield 0, 1
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        run_in_memory(prepare_program(None, reducer), [records()])


# -- order and keys ------------------------------------------------------------------------------


@pytest.mark.usefixtures("buffer_limits")
def test_the_first_of_equal_keys_is_shown():
    for keys_ in ([1, 1.0, True], [True, 1], [1.0, True, 1]):
        splits = [[(key, 1)] for key in keys_]
        for reducer in ("sum", "list", lambda _key, values: len(values)):
            ((key, _),) = run_in_memory(prepare_program(None, reducer), splits)
            assert repr(key) == repr(keys_[0])


@pytest.mark.usefixtures("buffer_limits")
def test_values_arrive_in_input_order():
    splits = [[(n % 3, (task, n)) for n in range(20)] for task in range(4)]
    got = dict(run_in_memory(prepare_program(None, lambda _key, values: values), splits))
    assert got == reduce_in_one_loop(splits, list)


@pytest.mark.usefixtures("buffer_limits")
@pytest.mark.parametrize("reducer", ["sum", "list", lambda _key, values: sum(values)])
def test_each_partition_is_sorted(reducer):
    splits = [[(key, 1) for key in "qwertyuiopasdfghjkl"]] * 2
    program = prepare_program(None, reducer, sort=True)
    for partition in range(2):
        blocks = [block for p, block in map_task(program, splits[0], 2, [0, 0]) if p == partition]
        results = reduce_task(program, blocks, [0, 0], partition, 2)
        got = [key for (keys_, _), _ in results for key in keys_]
        assert got == sorted(got)
        assert len(got) > 2


def test_results_are_sorted_where_the_reducer_emits_other_keys():
    program = prepare_program(None, lambda key, _values: iter([(-key, key)]), sort=True)
    assert [k for k, _ in run_in_memory(program, [[(n, 0) for n in range(9)]], 1)] == list(
        range(-8, 1)
    )


@pytest.mark.parametrize("reducer", ["sum", lambda _key, values: values])
def test_keys_that_cannot_be_ordered_are_named(reducer):
    with pytest.raises(UserCodeError) as info:
        run_in_memory(prepare_program(None, reducer, sort=True), [[("a", 1), (1, 1)]], 1)
    assert isinstance(info.value.__cause__, BadKey)
    assert "sort=True" in str(info.value.__cause__)


@pytest.mark.usefixtures("buffer_limits")
@given(st.lists(st.text() | st.integers()), st.integers(1, 5))
def test_blocks_go_where_their_keys_belong(some, partitions):
    program = prepare_program(None, "sum")
    for partition, (keys_, _) in map_task(program, [(k, 1) for k in some], partitions, [0, 0]):
        assert {partition_of(key, partitions) for key in keys_} == {partition}


@pytest.mark.parametrize("reducer", ["sum", "list"])
def test_a_key_without_stable_hash_is_refused(reducer):
    with pytest.raises(UserCodeError) as info:
        run_in_memory(prepare_program(None, reducer), [[(len, 1)]])
    assert isinstance(info.value.__cause__, BadKey)
    assert info.value.function == "mapfn"


# -- reducefn ------------------------------------------------------------------------------------


def test_a_reducer_may_emit_many_pairs():
    def reducefn(key, values):
        for value in values:
            yield f"{key}{value}", value

    irregular = []
    pairs = run_in_memory(
        prepare_program(None, reducefn), [[("a", n) for n in range(40)]], 4, irregular=irregular
    )
    assert dict(pairs) == {f"a{n}": n for n in range(40)}
    assert any(irregular)


@pytest.mark.parametrize(
    ("bad", "error"), [("ab", BadPair), (([], 1), BadKey), ((1, 2, 3), BadPair)]
)
@pytest.mark.parametrize("items", [False, True])
def test_a_reducer_may_emit_no_bad_pair_and_no_unhashable_key(bad, error, items):
    one = lambda _key, _values: iter([bad])
    many = lambda _items: [bad]
    with pytest.raises(UserCodeError) as info:
        run_in_memory(prepare_program(None, many if items else one), [[("a", 1)]])
    assert isinstance(info.value.__cause__, error)
    assert info.value.function == "reducefn"


@pytest.mark.parametrize("items", [False, True])
def test_errors_of_reducefn_name_the_key(items):
    def one(key, values):
        return values[0] / (key != "bad")

    def many(groups):
        for key, values in groups:
            yield key, one(key, values)

    splits = [[("bad", 1), ("good", 2)]]
    with pytest.raises(UserCodeError) as info:
        run_in_memory(prepare_program(None, many if items else one), splits)
    error = info.value
    assert (error.function, error.key, error.value) == ("reducefn", "bad", [1])
    assert error.ordinal >= 0
    assert isinstance(error.__cause__, ZeroDivisionError)


def test_errors_of_combinefn_name_no_record():
    with pytest.raises(UserCodeError) as info:
        run_in_memory(
            prepare_program(None, "sum", combinefn=lambda _k, vs: vs[0] / 0), [[("a", 1)]]
        )
    assert (info.value.function, info.value.ordinal, info.value.key) == ("combinefn", -1, "a")


def test_a_value_that_cannot_be_pickled_is_named():
    program = prepare_program(lambda _k, _v: [("a", (x for x in "abc"))], "list")
    with pytest.raises(UserCodeError) as caught:
        run_in_memory(program, [[(0, 0)]])
    cause = caught.value.__cause__
    assert isinstance(cause, BadValue)
    assert "'a', of type generator, cannot be pickled" in str(cause)
    assert "list(...)" in str(cause)


# -- sizes ---------------------------------------------------------------------------------------


def map_blocks(program, records, partitions=1):
    return [block for _, block in map_task(program, records, partitions, [0, 0])]


def test_blocks_are_about_a_megabyte():
    records = [(n % 1000, "x" * 1000) for n in range(10_000)]
    sizes = [
        len(encode_block(block)) for block in map_blocks(prepare_program(None, "list"), records)
    ]
    assert len(sizes) >= 10
    assert max(sizes) < 2 << 20


def test_a_giant_value_is_a_block_of_its_own():
    records = [(0, "small"), (0, "x" * (9 << 20)), (0, "small")]
    blocks = map_blocks(prepare_program(None, "list"), records)
    assert [[len(value) for value in values] for _, values in blocks] == [[5], [9 << 20], [5]]


def test_big_values_are_flushed_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(buffer_limit, "MAP_BUFFER_BYTES", 1 << 20)
    held, most = 0, 0

    def records():
        nonlocal held, most
        for n in range(100):
            held += 1
            most = max(most, held)
            yield n, bytes(100_000)

    for _ in map_task(prepare_program(None, "list"), records(), 1, [0, 0]):
        held = 0
    assert most < 25


def test_flushes_depend_on_the_data_only():
    records = [(n % 700, [n] * (n % 50)) for n in range(20_000)]
    one, other = (map_blocks(prepare_program(None, "list"), records, 4) for _ in range(2))
    assert one == other


def test_the_cursor_counts():
    cursor = [5, 5]
    program = prepare_program(lambda text: text.split(), "list")
    assert list(map_task(program, [], 2, cursor)) == []
    assert cursor == [-1, 0]
    program = prepare_program(lambda text: [(word, 1) for word in text.split()], "sum")
    blocks = [block for _, block in map_task(program, [(0, "a b a"), (1, "c")], 1, cursor)]
    assert cursor == [1, 3]
    ((block, is_irregular),) = reduce_task(program, blocks, cursor, 0, 1)
    assert (list(map(list, block)), is_irregular) == ([["a", "b", "c"], [2, 1, 1]], False)
    assert cursor[1] == 3


def test_passes_share_the_keys_of_a_partition_evenly():
    some = [k for k in range(40_000) if partition_of(k, 16) == 3]
    program = prepare_program(None, "sum")
    shares = [
        sum(
            len(block[0])
            for block, _ in reduce_task(program, [(some, some)], [0, 0], 3, 16, SubPass(i, 4))
        )
        for i in range(4)
    ]
    assert sum(shares) == len(some)
    assert min(shares) > len(some) / 5


def test_with_little_memory_a_map_task_flushes_sooner():
    pairs = [(n, 1) for n in range(50_000)]

    def blocks(reducer, memory):
        program = replace(prepare_program(None, reducer), memory=memory)
        return list(map_task(program, pairs, 1, [0, 0]))

    for reducer in ("sum", "count", "list", lambda _k, values: len(values)):
        whole, small = blocks(reducer, None), blocks(reducer, 16 << 20)
        assert len(small) > len(whole)
        keys = [[key for _, block in some for key in block[0]] for some in (whole, small)]
        assert sorted(keys[0]) == sorted(keys[1]) == list(range(50_000))
