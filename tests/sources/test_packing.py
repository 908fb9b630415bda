"""Packs: every item once and in order, few at first, bounded by weight, nothing hoarded."""

from __future__ import annotations

import pickle
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.sources.packing import MAX_ITEMS, Weigher, packs

LIMIT = 1000


def packed(items, limit=LIMIT, chunk=None):
    return list(packs(items, Weigher().items, limit, chunk))


def test_eight_heavy_items_make_eight_tasks():
    assert [len(pack) for pack in packed(["x" * 5000] * 8)] == [1] * 8


def test_eight_tiny_items_make_eight_tasks():
    assert [len(pack) for pack in packed(range(8))] == [1] * 8


def test_a_million_tiny_items_make_about_four_hundred_tasks():
    sizes = [len(pack) for pack in packed(range(1_000_000), limit=256_000)]
    assert sum(sizes) == 1_000_000
    assert 300 <= len(sizes) <= 450
    assert max(sizes) <= MAX_ITEMS


@given(st.lists(st.integers(0, 3 * LIMIT), max_size=300), st.sampled_from([1, 7, LIMIT]))
def test_packs_keep_order_and_weigh_at_most_the_limit_unless_one_item_does(weights, limit):
    result = list(packs(weights, lambda batch: batch, limit))
    assert [item for pack in result for item in pack] == weights
    assert all(len(pack) == 1 or sum(pack) <= limit for pack in result)
    done = 0
    for pack in result:
        assert len(pack) <= 1 + done // 32
        done += len(pack)


@given(st.lists(st.integers(), max_size=50), st.integers(1, 60))
def test_a_chunk_is_exact(items, chunk):
    result = packed(items, chunk=chunk)
    assert [item for pack in result for item in pack] == items
    assert all(len(pack) == chunk for pack in result[:-1])


def test_an_endless_generator_is_read_no_further_than_asked():
    taken = []

    def numbers():
        for n in range(10**9):
            taken.append(n)
            yield n

    first = list(islice(packs(numbers(), Weigher().items, LIMIT), 40))
    assert len(taken) == sum(map(len, first))


def test_heavy_items_are_not_looked_ahead_at():
    alive = 0

    def heavy():
        nonlocal alive
        for _ in range(500):
            alive += 1
            yield "x" * 600

    most = 0
    for pack in packs(heavy(), Weigher().items, LIMIT):
        most = max(most, alive)
        alive -= len(pack)
    assert most <= 2


def test_nothing_gives_no_pack():
    assert packed([]) == []
    assert packed([], chunk=3) == []


def test_strings_are_weighed_exactly_and_others_by_samples():
    weigher = Weigher()
    assert weigher.items(["abc", b"de"]) == [3, 2]
    rows = [{"name": "x" * 500}] * 100
    weights = weigher.items(rows)
    assert weights[0] == len(pickle.dumps(rows[0], 5))
    assert sum(weights) == pytest.approx(100 * weights[0], rel=0.01)
    assert weigher.pairs([("ab", "cde")]) == [5]


def test_what_cannot_be_pickled_is_guessed():
    assert Weigher().items([lambda: 1])[0] > 0
