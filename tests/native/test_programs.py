"""Random programs give the same bytes, results, order, cursors and errors with and without C."""

from __future__ import annotations

import pytest
from engine.in_memory import set_tiny_limits
from hypothesis import given, settings
from hypothesis import strategies as st
from native.programs import (
    observe_map,
    observe_reduce,
    programs,
    shuffle,
    splits,
    switched,
)

USUAL = settings(max_examples=250, deadline=None)


@USUAL
@given(programs(), splits(), st.integers(1, 100) | st.integers(1, 3), st.booleans(), st.booleans())
def test_map_tasks(program, records, partitions, tiny, skips):
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_tiny_limits(monkeypatch, tiny)
        for split in records:
            with switched(False):
                expected = observe_map(program, split, partitions, skips=skips)
            with switched(True):
                assert observe_map(program, split, partitions, skips=skips) == expected


@USUAL
@given(programs(), splits(), st.integers(1, 5), st.booleans(), st.integers(1, 3))
def test_reduce_tasks_in_one_pass_and_in_several(program, records, partitions, tiny, passes):
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_tiny_limits(monkeypatch, tiny)
        with switched(False):
            frames = shuffle(observe_map(program, split, partitions) for split in records)
        for partition, some in frames.items():
            if not all(isinstance(frame, bytes) for frame in some):
                continue  # a value that nobody can send
            with switched(False):
                expected = observe_reduce(program, some, partition, partitions, passes)
            with switched(True):
                assert observe_reduce(program, some, partition, partitions, passes) == expected


@settings(max_examples=100, deadline=None)
@given(programs(), splits(), st.integers(1, 5), st.lists(st.booleans(), min_size=4, max_size=4))
def test_jobs_whose_workers_differ(program, records, partitions, has_extension):
    """Some workers of a job have the extension, others do not."""

    def run(choices):
        observed = []
        for n, split in enumerate(records):
            with switched(choices[n % len(choices)]):
                observed.append(observe_map(program, split, partitions))
        frames, results = shuffle(observed), []
        for partition, some in sorted(frames.items()):
            if all(isinstance(frame, bytes) for frame in some):
                with switched(choices[(partition + 1) % len(choices)]):
                    results.append(observe_reduce(program, some, partition, partitions))
        return frames, results

    assert run(has_extension) == run([False])
