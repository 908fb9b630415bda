"""Objects that user functions emit and then change: each counts as it was when emitted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from string import ascii_letters

import pytest
from engine.in_memory import EqualByName, run_in_memory

from redismr.core.codec import encode_block
from redismr.engine import buffer_limit
from redismr.engine.bad_records import SkipRecorder, with_skipping_mapfn, with_skipping_reducefn
from redismr.engine.kernel import map_task
from redismr.engine.program import prepare_program


class Row(list):
    """A subclass of list."""


def mapfn_that_refills(make):
    """Return a mapfn that emits one object again and again, refilled each time."""

    def mapfn(_key, value):
        row = make()
        for row[0] in value:
            yield "k", row
            yield row[0] % 3, row
        row[0] = "too late"

    return mapfn


@pytest.mark.parametrize("make", [lambda: [0], lambda: {0: 0}, lambda: Row([0, [1]])])
@pytest.mark.parametrize(
    ("reducefn", "combinefn", "oracle"),
    [
        ("list", None, lambda rows: [row[0] for row in rows]),
        ("first", None, lambda rows: rows[0][0]),
        ("count", None, len),
        (lambda _key, rows: [row[0] for row in rows], None, lambda rows: [r[0] for r in rows]),
        (
            lambda _key, sums: sum(sums),
            lambda _key, rows: sum(row[0] for row in rows),
            lambda rows: sum(row[0] for row in rows),
        ),
        (lambda items: ((k, [r[0] for r in rows]) for k, rows in items), None,
         lambda rows: [row[0] for row in rows]),
    ],
    ids=["list", "first", "count", "own", "combined", "items"],
)  # fmt: skip
@pytest.mark.parametrize("skipping", [False, True])
def test_values_count_as_they_were_emitted(
    make, reducefn, combinefn, oracle, skipping, buffer_limits
):
    splits = [[(0, range(5)), (1, range(7, 3, -1))], [(2, range(4))]]
    mapfn, groups = mapfn_that_refills(make), {}
    for split in splits:
        for record in split:
            for key, row in mapfn(*record):
                groups.setdefault(key, []).append([row[0]])
    program = prepare_program(mapfn, reducefn, combinefn=combinefn)
    if skipping:
        skip_recorder = SkipRecorder("map", "m0", "skip", list)
        cursor = [0, 0]
        wrapped = with_skipping_mapfn(program, 3, cursor, skip_recorder, {})
        pairs = run_in_memory(wrapped, splits)
        assert not skip_recorder.skipped()
    else:
        pairs = run_in_memory(program, splits)
    by_name = {"list": lambda rows: [row[0] for row in rows], "first": lambda row: row[0]}
    take = by_name.get(reducefn, lambda value: value)
    shown = {key: take(value) for key, value in pairs}
    assert shown == {key: oracle(rows) for key, rows in groups.items()}


def test_a_returned_list_is_read_when_it_is_complete():
    row = [0]

    def mapfn(_key, value):
        out = []
        for row[0] in value:
            out.append(("k", row))
        return out

    records = [(0, [1, 2, 3]), (1, [4, 5])]
    assert run_in_memory(prepare_program(mapfn, "list"), [records]) == [
        ("k", [[3], [3], [3], [5], [5]])
    ]


@pytest.mark.parametrize("mapfn", ["yields", "returns", "values"])
def test_keys_count_as_they_were_emitted(mapfn):
    def yields(_key, value):
        key = EqualByName("")
        for key.name in value:
            yield key, 1

    def values(_key, value):
        key = EqualByName("")
        for key.name in value:
            yield key, 1.5

    def returns(_key, value):
        key = EqualByName(value[0])
        return Counter([key])

    def reducefn(items):
        key = EqualByName("")
        for one, numbers in items:
            key.name = one.name
            yield key, len(numbers)
        key.name = "too late"

    program = prepare_program(
        {"yields": yields, "returns": returns, "values": values}[mapfn],
        reducefn,
        partitionfn=lambda key, n: len(key.name) % n,
    )
    records = [(0, ["a", "bb", "a"]), (1, ["bb", "ccc"])]
    got = {key.name: number for key, number in run_in_memory(program, [records])}
    assert got == ({"a": 1, "bb": 1} if mapfn == "returns" else {"a": 2, "bb": 2, "ccc": 1})


@dataclass(unsafe_hash=True)
class MutableKey:
    """A key with a stable hash whose value can change."""

    name: str


def mapfn_that_counts(wrap):
    """Return a mapfn that yields one key again and again, changed each time."""

    def mapfn(_key, value):
        key = MutableKey("")
        for key.name in value:
            yield wrap(key), 1

    return mapfn


@pytest.mark.parametrize("wrap", [lambda key: key, lambda key: (key, 1)], ids=["bare", "in tuple"])
@pytest.mark.parametrize("reducefn", ["sum", "count", lambda _key, ones: sum(ones)])
def test_counted_keys_count_as_they_were_yielded(wrap, reducefn, buffer_limits):
    records = [(0, ["a", "b", "a"]), (1, ["b", "c", "a"])]
    pairs = run_in_memory(prepare_program(mapfn_that_counts(wrap), reducefn), [records])
    counts = Counter()
    for key, number in pairs:
        counts[key] += number
    assert counts == {wrap(MutableKey(name)): n for name, n in (("a", 3), ("b", 2), ("c", 1))}


def test_keys_that_change_after_keys_that_cannot_are_copied():
    def mapfn(_key, value):
        yield value[0], 1
        key = MutableKey("")
        for key.name in value:
            yield key, 1

    # Many keys: a dict that meets the same object in a slot takes it for the same key.
    records = [(0, [*ascii_letters, "a"])]
    pairs = run_in_memory(prepare_program(mapfn, "sum"), [records])
    assert len(pairs) == 1 + len(ascii_letters)


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("skipping", [False, True])
def test_results_count_as_they_were_emitted(sort, skipping):
    row = [0]

    def returns(_key, values):
        row[0] = len(values)
        return row

    def yields(key, values):
        for row[0] in values:
            yield key, row
            yield key * 10, row

    records = [[(key, n) for key in (1, 2, 3) for n in range(key)]]
    for reducefn, expected in (
        (returns, [(1, [1]), (2, [2]), (3, [3])]),
        (yields, [(k * f, [n]) for k in (1, 2, 3) for n in range(k) for f in (1, 10)]),
    ):
        program = prepare_program(None, reducefn, sort=sort)
        if skipping:
            program = with_skipping_reducefn(program, SkipRecorder("reduce", "r0", "skip", list))
        assert sorted(run_in_memory(program, records)) == sorted(expected)


def test_a_value_that_is_emitted_with_many_keys_travels_once():
    def mapfn(_key, row):
        for word in range(200):
            yield word, (row, word)

    program, row = prepare_program(mapfn, "list"), {"text": ["x" * 1000], "n": 1}
    ((_, block),) = map_task(program, [(0, row)], 1, [0, 0])
    assert len(encode_block(block)) < 20_000


def test_a_combinefn_may_change_what_it_gets(monkeypatch):
    monkeypatch.setattr(buffer_limit, "MAP_BUFFER_VALUES", 3)
    row = [1]

    def mapfn(_key, value):
        for _ in range(value):
            yield "k", row

    def combinefn(_key, rows):
        total, *others = rows
        for other in others:
            total[0] += other[0]
        return total

    records = [[(0, 10), (1, 10)]]
    program = prepare_program(
        mapfn, lambda _key, rows: sum(row[0] for row in rows), combinefn=combinefn
    )
    assert run_in_memory(program, records) == [("k", 20)]
    assert row == [1]
