"""Rates and the time that is left."""

from __future__ import annotations

import pytest

from redismr.ui.pace import Pace


def paced(*seen: tuple[float, float]) -> Pace:
    pace = Pace()
    for now, count in seen:
        pace.see(now, count)
    return pace


def test_says_nothing_from_nothing():
    assert Pace().left(10) is None
    assert Pace().rate() == 0
    assert paced((0, 0), (60, 0)).left(10) is None


def test_says_nothing_from_a_moment():
    assert paced((0, 0), (0.2, 50)).left(10) is None


def test_steady_work():
    pace = paced(*((t, 2 * t) for t in range(11)))
    assert pace.rate() == pytest.approx(2)
    assert pace.left(10) == pytest.approx(5)


def test_time_left_counts_down_between_two_changes():
    pace = paced((0, 0), (10, 1), (13, 1))
    assert pace.left(2) == pytest.approx(17)


def test_a_standstill_is_not_nearly_done():
    pace = paced((0, 0), (10, 1), (100, 1))
    assert pace.left(1) == pytest.approx(90)
    assert pace.rate() == pytest.approx(0.01)


def test_the_window_forgets_a_slow_start():
    slow = [(t, t) for t in range(10)]
    fast = [(10 + t, 10 + 10 * t) for t in range(60)]
    assert paced(*slow, *fast).rate() == pytest.approx(10)


def test_tasks_longer_than_the_window_still_count():
    assert paced((0, 0), (100, 4), (200, 8)).left(8) == pytest.approx(200)


def test_what_is_already_done_when_watching_starts_is_no_pace_of_ours():
    assert paced((0, 1000), (10, 1010)).rate() == pytest.approx(1)


def test_lost_work_starts_anew():
    pace = paced((0, 0), (5, 50), (6, 20))
    assert pace.rate() == 0
    assert pace.left(10) is None


def test_hours_of_watching_stay_small():
    pace = paced(*((t / 5, t) for t in range(50_000)))
    assert len(pace._changes) < 100
