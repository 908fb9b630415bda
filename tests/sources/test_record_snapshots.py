"""Records are sent as they were when their source gave them, even if they change after that."""

from __future__ import annotations

import array
import copy
import itertools
import pickle
import sqlite3
from collections import Counter, deque
from dataclasses import dataclass
from threading import Lock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.errors import BadValue, SourceRaised
from redismr.sources import as_source, pairs
from redismr.sources.record_snapshots import pickle_split


@dataclass
class Box:
    first: int


class Rows(list):
    pass


def refill(obj, n):
    if isinstance(obj, Box):
        obj.first = n
    elif isinstance(obj, (tuple, dict)):
        obj[0][0] = n
    else:
        obj[0] = n


REFILLED = {
    "list": lambda: [0],
    "subclass": lambda: Rows([0]),
    "bytearray": lambda: bytearray(1),
    "dict": lambda: {0: {0: 0}},
    "array": lambda: array.array("i", [0]),
    "deque": lambda: deque([0]),
    "object": lambda: Box(0),
    "tuple": lambda: ([0], [0]),
    "nested": lambda: {0: [0, {"a": [Box(1)]}]},
}


def records(source, chunk=None):
    splits = [pickle_split(split) for split in as_source(source, chunk=chunk).splits()]
    return [record for frame in splits for record in pickle.loads(frame).read()]


@pytest.mark.parametrize("chunk", [None, 1, 7])
@pytest.mark.parametrize("kind", REFILLED)
def test_a_source_may_refill_one_object(kind, chunk):
    seen = []

    def source():
        obj = REFILLED[kind]()
        for n in range(60):
            refill(obj, n)
            seen.append(copy.deepcopy(obj))
            yield obj
        refill(obj, 99)

    sent = records(source(), chunk)
    assert sent == list(enumerate(seen))
    assert all(type(value) is type(seen[0]) for _, value in sent)
    seen.clear()
    assert records(pairs((n, obj) for n, obj in enumerate(source())), chunk) == list(
        enumerate(seen)
    )
    seen.clear()
    assert records(pairs([obj, 1] for obj in source()), chunk) == [(one, 1) for one in seen]
    seen.clear()
    assert records(itertools.chain(source()), chunk) == list(enumerate(seen))


def test_a_refilled_pair_is_sent_as_it_was_when_taken():
    def source():
        pair = [0, [0]]
        for pair[0] in range(50):
            pair[1][0] = pair[0]
            yield pair

    assert records(pairs(source())) == [(n, [n]) for n in range(50)]


def test_a_mapping_may_give_one_buffer_for_all_keys():
    class Buffer:
        buffer = bytearray(2)

        def __iter__(self):
            return iter(range(100))

        def __getitem__(self, key):
            self.buffer[0] = key
            return memoryview(self.buffer)[:1]

    assert [(key, value.tolist()) for key, value in records(Buffer())] == [
        (n, [n]) for n in range(100)
    ]


def test_shared_objects_in_a_record_stay_shared():
    def source():
        row = [1]
        yield row, [row]

    ((_, (row, rows)),) = records(source())
    assert rows[0] is row
    ((key, value),) = records(pairs((row, rows) for row, rows in source()))
    assert value[0] is key


rows = st.recursive(
    st.integers() | st.text(max_size=2),
    lambda parts: (
        st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=2), parts, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(rows, max_size=60), st.sampled_from([None, 1, 5]), st.data())
def test_any_edits_between_two_records_are_not_seen(items, chunk, data):
    edits = data.draw(st.lists(st.integers(0, 60), max_size=20))

    def source():
        for n, item in enumerate(items):
            yield item
            for at in edits:
                if at <= n and isinstance(items[at], list):
                    items[at].append(n)
                elif at <= n and isinstance(items[at], dict):
                    items[at][str(n)] = n

    before, plain = copy.deepcopy(items), []
    for n, item in enumerate(source()):
        plain.append((n, copy.deepcopy(item)))
    items[:] = before
    assert records(source(), chunk) == plain


def test_a_record_is_copied_before_the_next_is_taken_and_none_is_taken_ahead():
    taken = []

    def source():
        row = [0]
        for row[0] in range(10**9):
            taken.append(row[0])
            yield row

    splits = as_source(source()).splits()
    sent = [value for split in itertools.islice(splits, 40) for _, value in split.read()]
    assert sent == [[n] for n in taken]


@pytest.mark.parametrize(
    "source",
    [
        itertools.groupby("aab"),
        list(itertools.groupby("aab")),
        pairs(itertools.groupby("aab")),
        pairs(list(itertools.groupby("aab"))),
        {"a": next(itertools.groupby("a"))[1]},
        (iter([n]) for n in range(3)),
        ({"deep": [map(str, [n])]} for n in range(3)),
    ],
    ids=["groups", "list", "pairs", "pairs of a list", "dict", "iterators", "deep"],
)
def test_an_iterator_is_refused_by_name(source):
    with pytest.raises(BadValue, match=r"item 0 .*an iterator is in it .*list\(group\)"):
        records(source)
    assert records((key, list(group)) for key, group in itertools.groupby("aab")) == [
        (0, ("a", ["a", "a"])),
        (1, ("b", ["b"])),
    ]


@pytest.mark.parametrize("inner", [iter, reversed, enumerate, deque, itertools.chain])
@pytest.mark.parametrize(
    "make",
    [list, iter, tuple, lambda rows: dict(enumerate(rows)), lambda rows: pairs(enumerate(rows))],
    ids=["list", "iter", "tuple", "dict", "pairs"],
)
def test_an_iterator_shared_by_rows_is_refused_by_name(make, inner):
    """Each task would read a copy of the iterator from the start."""
    shared = inner([1, 2, 3])
    shared = iter(shared) if inner is deque else shared
    with pytest.raises(BadValue, match=r"item 0 .*of type dict, .*an iterator is in it"):
        records(make([{"rows": [shared]}, {"rows": [shared]}]))
    text = [{"text": "import builtins, itertools, _deque_"}, {"text": [complex(1, 2), slice(3)]}]
    assert [value for _, value in records(make(text))] == text


@pytest.mark.parametrize("make", [list, iter, lambda items: (item for item in items)])
def test_an_unsendable_record_is_named(make):
    items = [[n] for n in range(57)] + [{"lock": Lock()}]
    with pytest.raises(BadValue, match=r"item 57 .*of type dict, cannot be sent .*cannot pickle"):
        records(make(items))
    with pytest.raises(BadValue, match=r"item 57 \(key 'k57'\).*cannot pickle"):
        records(pairs((f"k{n}", item) for n, item in enumerate(items)))


def test_rows_of_a_cursor():
    connection = sqlite3.connect(":memory:")
    query = "select 1, 'a' union select 2, 'b'"
    assert records(connection.execute(query)) == [(0, (1, "a")), (1, (2, "b"))]
    connection.row_factory = sqlite3.Row
    with pytest.raises(BadValue, match=r"of type Row.*dict\(row\)"):
        records(connection.execute(query))
    connection.close()


def test_a_source_that_fails_between_records_is_an_error():
    def source():
        yield [1]
        raise KeyError("k")

    with pytest.raises(SourceRaised, match="KeyError"):
        records(source())


def test_builtin_containers_are_pickled_batch_by_batch():
    shared = {"big": "x" * 1000}
    (split,) = as_source([[shared, n] for n in range(100)], chunk=100).splits()
    assert len(pickle_split(split)) < 5000
    (split,) = as_source(([shared, n] for n in range(100)), chunk=100).splits()
    assert records([Counter("aab")]) == [(0, Counter("aab"))]
