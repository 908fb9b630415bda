"""How many tasks an executor asks for."""

from __future__ import annotations

import pytest

from redismr.workers.batch_sizing import BATCH_TASKS, SMALL_JOB_TASKS, BatchSizer


def test_one_as_long_as_nothing_is_known():
    assert (BatchSizer().batch_size(), BatchSizer().small_batch()) == (1, 1)


@pytest.mark.parametrize(
    ("task_seconds", "want"), [(1.0, 1), (0.06, 1), (0.024, 2), (0.012, 4), (1e-6, BATCH_TASKS)]
)
def test_as_many_as_take_50_ms(task_seconds, want):
    sizer = BatchSizer()
    sizer.add_batch(3 * task_seconds, 3)
    assert sizer.batch_size() == want


@pytest.mark.parametrize(
    ("task_seconds", "few"), [(1.0, 1), (0.0029, 1), (0.0014, 2), (1e-6, SMALL_JOB_TASKS)]
)
def test_a_few_are_3_ms(task_seconds, few):
    sizer = BatchSizer()
    sizer.add_batch(3 * task_seconds, 3)
    assert sizer.small_batch() == few


def test_a_slow_batch_is_believed_by_and_by():
    sizer = BatchSizer()
    sizer.add_batch(0.001, 1)
    sizer.add_batch(1.0, 1)
    assert sizer.batch_size() == 1


def test_a_batch_of_which_nothing_was_run_tells_nothing_wrong():
    sizer = BatchSizer()
    sizer.add_batch(0.5, 0)
    assert sizer.batch_size() == 1
