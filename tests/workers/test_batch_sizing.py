"""Sizes of batches."""

from __future__ import annotations

import pytest

from redismr.workers.batch_sizing import BATCH_TASKS, SMALL_JOB_TASKS, BatchSizer


def test_one_task_before_the_first_batch():
    assert (BatchSizer().batch_size(), BatchSizer().small_batch()) == (1, 1)


@pytest.mark.parametrize(
    ("task_seconds", "want"), [(1.0, 1), (0.06, 1), (0.024, 2), (0.012, 4), (1e-6, BATCH_TASKS)]
)
def test_a_batch_is_50_ms_of_work(task_seconds, want):
    sizer = BatchSizer()
    sizer.add_batch(3 * task_seconds, 3)
    assert sizer.batch_size() == want


@pytest.mark.parametrize(
    ("task_seconds", "want_small"), [(1.0, 1), (0.0029, 1), (0.0014, 2), (1e-6, SMALL_JOB_TASKS)]
)
def test_a_small_batch_is_3_ms_of_work(task_seconds, want_small):
    sizer = BatchSizer()
    sizer.add_batch(3 * task_seconds, 3)
    assert sizer.small_batch() == want_small


def test_a_slow_batch_shrinks_the_next_one():
    sizer = BatchSizer()
    sizer.add_batch(0.001, 1)
    sizer.add_batch(1.0, 1)
    assert sizer.batch_size() == 1


def test_a_batch_without_tasks_does_no_harm():
    sizer = BatchSizer()
    sizer.add_batch(0.5, 0)
    assert sizer.batch_size() == 1
