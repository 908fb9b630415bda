"""Batches: each item once, in order, few at first, bounded in bytes, none taken far ahead."""

from __future__ import annotations

import pickle
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.sources.batching import MAX_BATCH_ITEMS, SizeEstimator, guided_batches

LIMIT = 1000


def batches(items, limit=LIMIT, chunk=None):
    return list(guided_batches(items, SizeEstimator().item_sizes, limit, chunk))


def test_eight_heavy_items_make_eight_tasks():
    assert [len(batch) for batch in batches(["x" * 5000] * 8)] == [1] * 8


def test_eight_tiny_items_make_eight_tasks():
    assert [len(batch) for batch in batches(range(8))] == [1] * 8


def test_a_million_tiny_items_make_about_four_hundred_tasks():
    sizes = [len(batch) for batch in batches(range(1_000_000), limit=256_000)]
    assert sum(sizes) == 1_000_000
    assert 300 <= len(sizes) <= 450
    assert max(sizes) <= MAX_BATCH_ITEMS


@given(st.lists(st.integers(0, 3 * LIMIT), max_size=300), st.sampled_from([1, 7, LIMIT]))
def test_batches_keep_order_and_the_limit_unless_one_item_exceeds_it(weights, limit):
    result = list(guided_batches(weights, lambda batch: batch, limit))
    assert [item for batch in result for item in batch] == weights
    assert all(len(batch) == 1 or sum(batch) <= limit for batch in result)
    done = 0
    for batch in result:
        assert len(batch) <= 1 + done // 32
        done += len(batch)


@given(st.lists(st.integers(), max_size=50), st.integers(1, 60))
def test_a_chunk_is_exact(items, chunk):
    result = batches(items, chunk=chunk)
    assert [item for batch in result for item in batch] == items
    assert all(len(batch) == chunk for batch in result[:-1])


def test_an_endless_generator_is_read_no_further_than_asked():
    taken = []

    def numbers():
        for n in range(10**9):
            taken.append(n)
            yield n

    first = list(islice(guided_batches(numbers(), SizeEstimator().item_sizes, LIMIT), 40))
    assert len(taken) == sum(map(len, first))


def test_large_items_are_not_read_ahead():
    alive = 0

    def heavy():
        nonlocal alive
        for _ in range(500):
            alive += 1
            yield "x" * 600

    most = 0
    for batch in guided_batches(heavy(), SizeEstimator().item_sizes, LIMIT):
        most = max(most, alive)
        alive -= len(batch)
    assert most <= 2


def test_no_items_make_no_batch():
    assert batches([]) == []
    assert batches([], chunk=3) == []


def test_sizes_of_strings_are_exact_and_of_others_sampled():
    estimator = SizeEstimator()
    assert estimator.item_sizes(["abc", b"de"]) == [3, 2]
    rows = [{"name": "x" * 500}] * 100
    weights = estimator.item_sizes(rows)
    assert weights[0] == len(pickle.dumps(rows[0], 5))
    assert sum(weights) == pytest.approx(100 * weights[0], rel=0.01)
    assert estimator.pair_sizes([("ab", "cde")]) == [5]


def test_the_size_of_an_unpicklable_item_is_guessed():
    assert SizeEstimator().item_sizes([lambda: 1])[0] > 0
