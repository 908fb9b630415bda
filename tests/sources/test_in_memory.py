"""Sources in memory: which objects are mappings, which are numbered, which are refused."""

from __future__ import annotations

import array
import pickle
import tracemalloc
from collections import Counter, UserDict, deque
from pathlib import Path
from types import MappingProxyType

import pytest

from redismr.errors import ConfigError, JobCancelled, SourceError, SourceRaised
from redismr.sources import Source, as_source, pairs
from redismr.sources.protocol import amount_of, expected_amount_of, unit_of


def records(source, chunk=None):
    splits = as_source(source, chunk=chunk).splits()
    return [pair for split in splits for pair in pickle.loads(pickle.dumps(split, 5)).read()]


class Datasource:
    """A data source of the ancestors: keys and values, no length."""

    def __init__(self, values):
        self.values = values
        self.fetched = []

    def __iter__(self):
        return iter(self.values)

    def __getitem__(self, key):
        self.fetched.append(key)
        return self.values[key]

    def __len__(self):
        raise AssertionError("len() was asked for")


@pytest.mark.parametrize(
    "mapping",
    [
        {"a": 1, "b": 2},
        UserDict({"a": 1, "b": 2}),
        MappingProxyType({"a": 1, "b": 2}),
        Counter({"a": 1, "b": 2}),
        Datasource({"a": 1, "b": 2}),
    ],
)
def test_a_mapping_gives_its_items(mapping):
    assert records(mapping) == [("a", 1), ("b", 2)]
    assert as_source(mapping).rereadable


@pytest.mark.parametrize(
    "items",
    [
        ["x", "y"],
        ("x", "y"),
        deque(["x", "y"]),
        dict.fromkeys(["x", "y"]).keys(),
        (c for c in "xy"),
        map(str, "xy"),
    ],
)
def test_any_other_iterable_is_numbered(items):
    assert records(items) == [(0, "x"), (1, "y")]


def test_ranges_arrays_sets_and_old_sequences_are_numbered():
    assert records(range(5, 8)) == [(0, 5), (1, 6), (2, 7)]
    assert records(array.array("i", [7, 8])) == [(0, 7), (1, 8)]
    assert sorted(value for _, value in records({1, 2, 3})) == [1, 2, 3]

    class Old:
        def __getitem__(self, index):
            return "ab"[index]

    assert records(Old()) == [(0, "a"), (1, "b")]


def test_an_array_with_getitem_is_numbered_and_a_table_is_not():
    class Array(Datasource):
        def __array__(self):
            raise AssertionError

        def __iter__(self):
            return iter(self.values.values())

    class Table(Datasource):
        ndim = 2

        def __array__(self):
            raise AssertionError

        def keys(self):
            return self.values.keys()

    assert records(Array({0: "x"})) == [(0, "x")]
    assert records(Table({"column": [1]})) == [("column", [1])]


@pytest.mark.parametrize(
    "items",
    [[1, 2, 3] * 50, (1, 2), range(99), {"a": 1, "b": 2}, {1, 2}, frozenset(), pairs([(1, 2)])],
)  # fmt: skip
def test_the_length_of_builtin_containers_is_known(items):
    source = as_source(items)
    assert expected_amount_of(source) == sum(map(amount_of, source.splits()))
    assert unit_of(source) == "items"


@pytest.mark.parametrize("items", [iter([1, 2]), deque([1, 2]), pairs(iter([(1, 2)]))])
def test_the_length_of_other_iterables_is_not_known(items):
    source = as_source(items)
    assert expected_amount_of(source) is None
    assert sum(map(amount_of, source.splits())) in (1, 2)


def test_a_custom_source_is_counted_in_tasks():
    class Own:
        rereadable, size = True, None

        def splits(self):
            return iter([object(), object()])

    source = as_source(Own())
    assert (unit_of(source), expected_amount_of(source)) == ("tasks", None)
    assert sum(map(amount_of, source.splits())) == 2


def test_keys_that_repeat_are_records_that_repeat():
    class Twice(Datasource):
        def __iter__(self):
            return iter(["a", "a", "b"])

    assert records(Twice({"a": 1, "b": 2})) == [("a", 1), ("a", 1), ("b", 2)]


def test_a_datasource_is_fetched_while_its_splits_are_asked_for():
    source = Datasource(dict.fromkeys(range(10), "x" * 300_000))
    splits = as_source(source).splits()
    assert source.fetched == []
    next(splits)
    assert source.fetched == [0]
    next(splits)
    assert source.fetched == [0, 1]


def test_a_datasource_that_raises_is_an_error_that_names_the_key():
    class Broken(Datasource):
        def __getitem__(self, key):
            if key == "b":
                raise PermissionError("no entry.")
            return 1

    with pytest.raises(
        SourceError, match=r"PermissionError for key 'b' \(item 1\): no entry\. A source"
    ) as info:
        records(Broken({"a": 1, "b": 2}))
    assert isinstance(info.value.__cause__, PermissionError)
    assert isinstance(info.value, SourceRaised) and isinstance(info.value, PermissionError)


def test_the_error_for_an_iterator_with_getitem_says_what_helps():
    """``iter(source)`` would not help: numpy.nditer is its own iterator."""

    class Stepper:
        def __init__(self):
            self.left = [3, 2, 1]

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                raise StopIteration
            return self.left.pop()

        def __getitem__(self, axis):
            return (5, 6)[axis]

    with pytest.raises(SourceRaised, match=r"pass \(item for item in source\)"):
        records(Stepper())
    source = Stepper()
    assert records(item for item in source) == [(0, 1), (1, 2), (2, 3)]


def test_a_generator_that_raises_is_an_error_that_names_the_place():
    def broken():
        yield from range(3)
        raise ZeroDivisionError("division by zero")

    with pytest.raises(SourceError, match=r"generator.* ZeroDivisionError at item 3") as info:
        records(broken())
    assert isinstance(info.value.__cause__, ZeroDivisionError)
    assert isinstance(info.value, SourceRaised) and isinstance(info.value, ZeroDivisionError)
    again = pickle.loads(pickle.dumps(info.value))
    assert (type(again), str(again)) == (SourceRaised, str(info.value))


@pytest.mark.parametrize("good", [0, 1, 2, 37, 3210])
@pytest.mark.parametrize("of", [lambda items: items, lambda items: pairs((i, i) for i in items)])
def test_the_item_at_which_a_source_raises_is_exact(good, of):
    def broken():
        yield from range(good)
        raise OSError("gone")

    for chunk in (None, 10):
        with pytest.raises(SourceRaised, match=rf"raised OSError at item {good}: gone"):
            list(as_source(of(broken()), chunk=chunk).splits())


def test_a_redismr_error_raised_by_a_source_is_wrapped():
    def results_of_another_job():
        yield 1
        raise JobCancelled("job x was cancelled")

    with pytest.raises(SourceRaised, match="JobCancelled") as info:
        records(results_of_another_job())
    assert not isinstance(info.value, JobCancelled)


def test_rereadable_sources_give_the_same_again_and_an_exhausted_generator_is_refused():
    source = as_source(["a", "b"])
    assert list(source.splits()) == list(source.splits())
    generator = (c for c in "ab")
    once = as_source(generator)
    assert not once.rereadable
    assert not as_source(pairs(iter([("a", 1)]))).rereadable
    assert len(list(once.splits())) == 2
    for again in (generator, pairs(generator)):
        with pytest.raises(ConfigError, match="has been read to its end already"):
            as_source(again)


@pytest.mark.parametrize("empty", [[], {}, (), iter(()), Datasource({}), pairs([])])
def test_a_source_that_yields_nothing_has_no_splits(empty):
    assert list(as_source(empty).splits()) == []


def test_pairs_are_taken_as_they_are():
    assert records(pairs([("a", 1), ["a", 2], ("b", None)])) == [("a", 1), ("a", 2), ("b", None)]
    assert records(pairs({"ab": 1})) == [("ab", 1)]


@pytest.mark.parametrize("item", ["ab", ("a",), ("a", 1, 2), 5, {1, 2}, None])
def test_an_item_that_is_not_a_pair_is_refused_by_name(item):
    with pytest.raises(SourceError, match=r"item 1 of pairs\(\) is .*not a \(key, value\) pair"):
        records(pairs([("a", 1), item]))


def test_chunk_is_items_a_task():
    for source in (range(10), dict.fromkeys(range(10)), pairs((n, n) for n in range(10))):
        sizes = [len(list(split.read())) for split in as_source(source, chunk=4).splits()]
        assert sizes == [4, 4, 2]


@pytest.mark.parametrize("chunk", [0, -1, True])
def test_a_chunk_of_nothing_is_refused(chunk):
    with pytest.raises(ConfigError, match="at least 1"):
        as_source([1], chunk=chunk)


@pytest.mark.parametrize("obj", [5, None, object(), b"raw", len])
def test_an_object_that_is_no_source_is_refused(obj):
    with pytest.raises(ConfigError, match="not a source"):
        as_source(obj)


def test_as_source_returns_a_source_unchanged():
    class Own:
        rereadable = True
        size = None

        def splits(self):
            return iter(())

    own = Own()
    assert isinstance(own, Source)
    assert as_source(own) is own
    with pytest.raises(ConfigError, match="Own makes its own splits"):
        as_source(own, chunk=3)
    made = pairs([("a", 1)])
    assert as_source(made) is made


def test_records_are_named():
    first, *_, last = as_source([5, 6, 7]).splits()
    assert (first.source, first.where(0)) == ("item 0", "item 0 (key 0)")
    assert last.where(0) == "item 2 (key 2)"
    (split,) = as_source(dict.fromkeys("whale", "v"), chunk=9).splits()
    assert split.where(1) == "item 1 (key 'h')"
    assert split.source == "items 0-4"
    assert split.where(-1) == split.where(99) == split.source


def test_keys_that_are_numbers_are_not_stored():
    (split,) = as_source(range(1000), chunk=1000).splits()
    assert len(pickle.dumps(split, 5)) < len(pickle.dumps(list(range(1000)), 5)) + 120


def test_memory_is_flat_while_a_generator_yields_gigabytes():
    block = 100_000

    def big():
        for n in range(20_000):  # 2 GB in all
            yield str(n % 10) * block

    total = 0
    tracemalloc.start()
    try:
        for split in as_source(big()).splits():
            total += sum(map(len, split.values))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 20_000 * block
    assert peak < 8_000_000


def test_a_path_is_a_glob(tmp_path):
    (tmp_path / "a.txt").write_text("hello")
    assert records(tmp_path / "*.txt") == [(str(tmp_path / "a.txt"), "hello")]
    assert records(str(Path(tmp_path) / "a.txt")) == [(str(tmp_path / "a.txt"), "hello")]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("a", 1), ("b", 2)], r"for several pairs pass a list: pairs\("),
        (["ab"], "not 'ab'"),
        ([5], "not 5"),
    ],
)
def test_pairs_are_given_as_one_iterable(given, message):
    with pytest.raises(ConfigError, match=message):
        pairs(*given)
