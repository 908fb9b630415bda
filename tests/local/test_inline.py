from __future__ import annotations

import bdb
import os
import pdb  # noqa: T100
import random
import signal
import traceback
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from itertools import chain

import pytest

import redismr
from redismr.context import count, here, param
from redismr.engine.program import prepare_program
from redismr.errors import BadValue, MapError, ReduceError
from redismr.local import run_inline
from redismr.sources import as_source


def run(
    source, mapfn=None, reducefn=None, *, partitions=4, params=None, sort=False, seed=0, **functions
):
    result = run_inline(
        as_source(source),
        prepare_program(mapfn, reducefn, **functions),
        partitions=partitions,
        params=params or {},
        sort=sort,
        seed=seed,
    )
    return list(chain.from_iterable(result.partitions)), result.counters


def words(text):
    for word in text.split():
        yield word, 1


def test_word_count():
    pairs, counters = run(["to be or", "not to be"], words, "sum")
    assert dict(pairs) == {"to": 2, "be": 2, "or": 1, "not": 1}
    assert counters == {}


def test_a_mapping_is_a_source():
    pairs, _ = run({"a": "x", "b": "y"}, lambda key, value: [(value, key)], "list")
    assert dict(pairs) == {"x": ["a"], "y": ["b"]}


def test_counters_params_and_here():
    places = set()

    def mapfn(text):
        count("records")
        places.add((here().stage, here().task[0], bool(here().source)))
        return [(word, 1) for word in text.split() if word not in param("stop")]

    def reducefn(_key, values):
        count("keys", 1)
        places.add((here().stage, here().task[0], bool(here().source)))
        return len(values)

    pairs, counters = run(["a b", "b c"], mapfn, reducefn, params={"stop": {"a"}})
    assert dict(pairs) == {"b": 2, "c": 1}
    assert counters == {"records": 2, "keys": 2}
    assert places == {("map", "m", True), ("reduce", "r", True)}
    assert here().stage == ""


def test_sorted_within_partitions():
    program = prepare_program(words, "sum", partitionfn=lambda key, _n: int(key >= "m"))
    source = as_source(["z a q m b y c"])
    result = run_inline(source, program, partitions=2, params={}, sort=True, seed=0)
    assert [[key for key, _ in pairs] for pairs in result.partitions] == [list("abc"), list("mqyz")]


def test_there_are_always_two_partitions():
    seen = set()
    run(["a"], words, "sum", partitions=1, partitionfn=lambda _key, n: seen.add(n) or 0)
    assert seen == {2}


def test_an_error_in_mapfn_is_the_cause_of_a_map_error():
    def mapfn(value):
        return [(value, 1 / (value - 2))]

    with pytest.raises(MapError) as info:
        run([0, 1, 2, 3], mapfn, "sum")
    error = info.value
    assert isinstance(error, ZeroDivisionError)
    assert isinstance(error.__cause__, ZeroDivisionError)
    frames = traceback.extract_tb(error.__cause__.__traceback__)
    assert frames[-1].name == "mapfn", "pdb.post_mortem must stop in the user's function"
    assert "item 2" in str(error)
    assert "value = 2" in str(error)
    assert "in mapfn" in str(error)


def test_an_error_in_reducefn_is_the_cause_of_a_reduce_error():
    with pytest.raises(ReduceError) as info:
        run(["a"], words, lambda _key, values: values[7])
    assert isinstance(info.value, IndexError)
    assert isinstance(info.value.__cause__, IndexError)
    assert "key = 'a'" in str(info.value)


@pytest.mark.parametrize(
    ("mapfn", "reducefn", "kind"),
    [
        (lambda _value: [("k", (x for x in "abc"))], "list", MapError),
        (lambda value: [("k", value)], lambda _key, _values: [(x for x in "abc")], ReduceError),
    ],
)
def test_values_that_cannot_travel_are_refused_inline_too(mapfn, reducefn, kind):
    with pytest.raises(kind, match=r"'k', of type (generator|list)") as info:
        run([1], mapfn, reducefn)
    assert isinstance(info.value, BadValue)


def test_initfn_runs_once_and_first_with_the_params():
    seen = []

    def initfn():
        seen.append(param("x"))

    def mapfn(_value):
        assert seen == [7]
        return [(1, 1)]

    run([1, 2], mapfn, "sum", initfn=initfn, params={"x": 7})
    assert seen == [7]


def test_an_error_in_initfn_is_a_map_error():
    def initfn():
        raise KeyError("mine")

    with pytest.raises(MapError) as info:
        run([1], words, "sum", initfn=initfn)
    assert isinstance(info.value, KeyError)
    assert "initfn" in str(info.value)


def test_random_is_seeded_for_the_tasks_and_left_alone_for_the_caller():
    def mapfn(_value):
        return [("r", random.random())]

    random.seed(1)
    before = random.getstate()
    first, _ = run([1, 2], mapfn, "list")
    assert random.getstate() == before
    random.seed(2)
    assert run([1, 2], mapfn, "list")[0] == first
    assert run([1, 2], mapfn, "list", seed=1)[0] != first


def test_results_are_copies_of_the_callers_objects():
    values = [[1], [2]]
    pairs, _ = run(values, lambda value: [("k", value)], "list")
    pairs[0][1][0].append(9)
    assert values == [[1], [2]]


def test_no_input_is_no_result():
    assert run([], words, "sum") == ([], {})


@pytest.mark.parametrize("make", [list, iter, lambda rows: (row for row in rows)])
def test_functions_get_copies_of_the_records_as_on_a_worker(make):
    rows = [{"n": n, "tags": ["a"]} for n in range(40)]

    def mapfn(_key, row):
        row["n"] += 1
        row["tags"].append("b")
        yield "n", row["n"]

    for _ in range(2):
        assert redismr.run(make(rows), mapfn, "sum", inline=True)["n"] == sum(range(1, 41))
    assert rows == [{"n": n, "tags": ["a"]} for n in range(40)]


def test_a_refilled_row_counts_as_it_was_at_each_yield():
    def source():
        row = [0]
        for row[0] in range(100):
            yield row

    def mapfn(_key, row):
        out = [0, 0]
        for out[0] in range(3):
            out[1] = row[0]
            yield out[0], out

    got = redismr.run(source(), mapfn, inline=True)
    assert dict(got) == {k: [[k, n] for n in range(100)] for k in range(3)}
    first = redismr.run(
        source(), lambda row: [("n", row[0])], "list", inline=True, each_worker=True
    )
    assert dict(first) == {"n": [0]}


class CannotBeUnpickled:
    """Can be pickled and not unpickled."""

    def __reduce__(self):
        return int, ("no number",)


def test_a_record_that_cannot_be_unpickled_is_refused_by_name():
    with pytest.raises(
        BadValue, match=r"item 0 of the source .* ValueError: .*'no number'"
    ) as info:
        run([CannotBeUnpickled()], lambda _: [])
    assert isinstance(info.value, MapError)
    assert "while reading the input" in str(info.value)


def failing(_key, values):
    if values in (2, [2]):
        raise LookupError(values)
    return [(values, values)]


def failing_ones(_key, value):
    if value == 2:
        raise LookupError(value)
    yield value, 1


def each(_key, value):
    yield value, value


@pytest.mark.parametrize(
    ("mapfn", "functions"),
    [
        (failing, {}),
        (failing_ones, {}),
        (each, {"reducefn": failing}),
        (each, {"combinefn": failing}),
        (each, {"partitionfn": lambda key, _: failing(0, key) and 0}),
        (each, {"initfn": lambda: failing(0, 2)}),
    ],
)
def test_a_post_mortem_begins_in_the_users_frame(mapfn, functions, monkeypatch):
    functions = {"mapfn": mapfn, "reducefn": "sum", **functions}
    with pytest.raises(LookupError) as info:
        redismr.run([1, 2, 3], inline=True, **functions)
    assert isinstance(info.value, redismr.TaskError)
    for error in (info.value, info.value.__cause__):
        *_, last = traceback.extract_tb(error.__traceback__)
        assert (last.filename, last.name[:7]) == (__file__, "failing")
    shown = "".join(traceback.format_exception(info.value))
    assert shown.count(os.path.dirname(redismr.__file__)) == 1, "of ours it shows run() alone"
    monkeypatch.setenv("REDISMR_DEBUG", "1")
    with pytest.raises(LookupError) as info:
        redismr.run([1, 2, 3], inline=True, **functions)
    *_, last = traceback.extract_tb(info.value.__traceback__)
    assert last.name[:7] == "failing"


def emitting(_key, value):
    number = value if isinstance(value, int) else 2
    yield 1, "one"
    yield ([number], 2)
    yield 3, "three"


@pytest.mark.parametrize("reducefn", ["sum", "count", "list", emitting])
def test_an_unusable_pair_is_reported_with_its_yield(reducefn):
    mapfn = each if reducefn is emitting else emitting
    with pytest.raises(redismr.BadKey) as info:
        redismr.run([7], mapfn, reducefn, inline=True)
    assert [frame.text for frame in info.value.failure.frames] == ["yield ([number], 2)"]
    *_, (frame, _) = traceback.walk_tb(info.value.__traceback__)
    assert frame.f_code is emitting.__code__ and "number" in frame.f_locals
    if reducefn is not emitting:
        skipped = redismr.run([7], mapfn, reducefn, inline=True, on_error="skip").skipped
        assert [frame.text for frame in skipped[0].frames] == ["yield ([number], 2)"]


@pytest.mark.parametrize("options", [{}, {"on_error": "skip"}])
@pytest.mark.parametrize("role", ["mapfn", "reducefn", "initfn", "partitionfn", "combinefn"])
def test_quitting_the_debugger_is_no_error_of_a_function(role, options):
    def look(*_):
        pdb.Pdb(stdin=StringIO("q\n"), stdout=StringIO(), readrc=False).set_trace()
        return 0

    functions = {"mapfn": each, "reducefn": "sum", role: look}
    with pytest.raises(bdb.BdbQuit) as info:
        redismr.run([1, 2], inline=True, **functions, **options)
    assert type(info.value) is bdb.BdbQuit


def test_ctrl_c_ends_the_job_and_a_raised_interrupt_is_an_error():
    before = signal.getsignal(signal.SIGINT)

    def pressed(_key, _value):
        signal.raise_signal(signal.SIGINT)
        yield 1, 1

    def raising(_key, _value):
        raise KeyboardInterrupt

    for options in ({}, {"on_error": "skip"}):
        with pytest.raises(KeyboardInterrupt):
            redismr.run([1], pressed, "sum", inline=True, **options)
        with pytest.raises(MapError, match=r"in mapfn, on item 0 \(key 0\)"):
            redismr.run([1], raising, "sum", inline=True, **options)
        assert signal.getsignal(signal.SIGINT) is before


def test_only_the_main_thread_gets_ctrl_c():
    def raising(_key, _value):
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(redismr.run, [1], raising, "sum", inline=True)
    assert isinstance(ran.exception(), MapError)


def test_a_handler_set_by_a_user_function_stays():
    def setting(_key, _value):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        yield 1, 1

    before = signal.getsignal(signal.SIGINT)
    try:
        redismr.run([1], setting, "sum", inline=True)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("reducefn", ["sum", lambda key, values: iter([(key, len(values))])])
def test_keys_that_cannot_be_sorted_are_named(reducefn):
    for options in ({}, {"partitionfn": lambda key, _: int(type(key) is str)}):
        with pytest.raises(redismr.RedismrError, match="sort=True needs keys that can be ordered"):
            redismr.run([1, "a"], lambda k: [(k, 1)], reducefn, sort=True, inline=True, **options)
