"""Results over fake partitions: reading, order, threads that share them, and closing."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.client import results as module
from redismr.client.results import Results
from redismr.errors import BadKey, ConfigError, JobLost, ResultsClosed


class FakePartitions:
    """Partitions as lists of blocks; ``before`` is called with the number of the next block."""

    def __init__(self, *partitions, has_unique_keys=True, before=lambda number: None):
        self._partitions, self.has_unique_keys, self._before = partitions, has_unique_keys, before
        self.records = [sum(map(len, partition)) for partition in partitions]
        self.closed = False

    def blocks(self, partition):
        for number, block in enumerate(self._partitions[partition]):
            self._before(number)
            if self.closed:
                raise JobLost("it vanished")
            yield list(block), [value_of(key) for key in block]

    def candidate_partitions(self, key):
        return range(len(self._partitions))

    def close(self):
        self.closed = True


def value_of(key):
    return f"value of {key}"


def pairs_of(keys):
    return {key: value_of(key) for key in keys}


READERS = {
    "iter": iter,
    "keys": lambda results: iter(results.keys()),
    "items": lambda results: iter(results.items()),
    "values": lambda results: iter(results.values()),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("has_unique_keys", [False, True])
@pytest.mark.parametrize("taken", [0, 1, 2, 3])
def test_an_iterator_raises_results_closed_after_close(read, sort, has_unique_keys, taken):
    partitions = FakePartitions([[0, 1], [2]], [[3, 4]], has_unique_keys=has_unique_keys)
    results = Results(partitions, sort=sort)
    iterator = read(results)
    assert len([next(iterator) for _ in range(taken)]) == taken
    results.close()
    with pytest.raises(ResultsClosed, match="take what you need before close"):
        next(iterator)


def test_partitions_that_vanish_before_close_raise_job_lost():
    partitions = FakePartitions([[0], [1]])
    pairs = iter(Results(partitions).items())
    next(pairs)
    partitions.close()
    with pytest.raises(JobLost):
        next(pairs)


def test_a_value_in_memory_is_not_returned_after_close():
    results = Results(FakePartitions([[0, 1]]))
    assert results[0] == value_of(0)
    keys = iter(results.keys())
    next(keys)
    results.close()
    for key in (0, 1):
        with pytest.raises(ResultsClosed):
            results[key]


@given(st.lists(st.lists(st.integers() | st.text() | st.none(), max_size=4), max_size=6))
def test_keys_without_an_order_raise_bad_key_however_they_are_partitioned(partitions):
    def in_order(keys):
        return sorted({key for key in keys if type(key) is type(keys[0])})

    seen, new_keys = set(), []
    for keys in partitions:
        new_keys.append([key for key in in_order(keys) if key not in seen] if keys else [])
        seen.update(new_keys[-1])
    results = Results(FakePartitions(*([keys] for keys in new_keys)), sort=True)
    kinds = {type(key) for key in seen}
    readers = (dict, list, lambda r: {**r}, lambda r: {}.update(r), Results.sorted)
    for reader in readers:
        if len(kinds) < 2:
            reader(results)
            continue
        with pytest.raises(BadKey, match="sort=True needs keys that can be ordered: '<' not supp"):
            reader(results)
    if len(kinds) < 2:
        assert list(dict(results).items()) == list(pairs_of(sorted(seen)).items())


def test_top_blames_keys_without_an_order_and_not_values():
    with pytest.raises(BadKey, match="sort=True"):
        Results(FakePartitions([[1]], [["a"]]), sort=True).top(1)


@pytest.mark.parametrize("n", [-1, 1.5, True, "1", None])
def test_top_takes_a_count(n):
    with pytest.raises(ConfigError, match="n="):
        Results(FakePartitions([[1]])).top(n)


@pytest.mark.parametrize("sort", [False, True])
@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_threads_that_share_an_iterator_get_each_item_once(read, sort):
    before_switch = sys.getswitchinterval()
    blocks = [range(at, at + 50) for at in range(0, 5000, 50)]
    results = Results(
        FakePartitions(blocks[:50], blocks[50:], before=lambda _: time.sleep(0)), sort=sort
    )
    iterator, whole = read(results), sorted(read(results))
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            # list() would take all items before another thread gets a turn.
            shares = list(pool.map(lambda it: [item for item in it], [iterator] * 4))  # noqa: C416
    finally:
        sys.setswitchinterval(before_switch)
    assert sorted(chain.from_iterable(shares)) == whole


def test_several_threads_can_read_one_result(monkeypatch):
    monkeypatch.setattr(module, "_MAX_KEPT_RECORDS", 300)  # so threads drop partitions
    before = sys.getswitchinterval()
    keys = list(range(1000))
    partitions = FakePartitions(
        *([keys[at : at + 50], keys[at + 50 : at + 100]] for at in range(0, 1000, 100))
    )
    results, wanted = Results(partitions), pairs_of(keys)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            readers = [
                dict,
                lambda r: dict(r.items()),
                lambda r: {key: r[key] for key in reversed(keys)},
                lambda r: {key: r[key] for key in keys[::-7] + keys},
            ] * 3
            for got in pool.map(lambda reader: reader(results), readers):
                assert got == wanted
    finally:
        sys.setswitchinterval(before)


def test_a_reader_raises_results_closed_if_another_thread_closes():
    reading, closed = threading.Event(), threading.Event()

    def before(number):
        if number:
            reading.set()
            assert closed.wait(10)

    results = Results(FakePartitions([[0], [1]], before=before))
    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(dict, results)
        assert reading.wait(10)
        results.close()
        closed.set()
        with pytest.raises(ResultsClosed):
            reader.result(10)
