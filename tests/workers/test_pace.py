"""How many tasks an executor asks for."""

from __future__ import annotations

import pytest

from redismr.workers.pace import BATCH_TASKS, FEW_TASKS, Pace


def test_one_as_long_as_nothing_is_known():
    assert (Pace().want(), Pace().few()) == (1, 1)


@pytest.mark.parametrize(
    ("task_seconds", "want"), [(1.0, 1), (0.06, 1), (0.024, 2), (0.012, 4), (1e-6, BATCH_TASKS)]
)
def test_as_many_as_take_50_ms(task_seconds, want):
    pace = Pace()
    pace.note(3 * task_seconds, 3)
    assert pace.want() == want


@pytest.mark.parametrize(
    ("task_seconds", "few"), [(1.0, 1), (0.0029, 1), (0.0014, 2), (1e-6, FEW_TASKS)]
)
def test_a_few_are_3_ms(task_seconds, few):
    pace = Pace()
    pace.note(3 * task_seconds, 3)
    assert pace.few() == few


def test_a_slow_batch_is_believed_by_and_by():
    pace = Pace()
    pace.note(0.001, 1)
    pace.note(1.0, 1)
    assert pace.want() == 1


def test_a_batch_of_which_nothing_was_run_tells_nothing_wrong():
    pace = Pace()
    pace.note(0.5, 0)
    assert pace.want() == 1
