"""Rates, and the time left at an even rate."""

from __future__ import annotations

import pytest

from redismr.ui.forecast import RateMeter


def make_meter(*seen: tuple[float, float]) -> RateMeter:
    meter = RateMeter()
    for now, count in seen:
        meter.update(now, count)
    return meter


def test_no_estimate_without_changes():
    assert RateMeter().seconds_left(10) is None
    assert RateMeter().rate() == 0
    assert make_meter((0, 0), (60, 0)).seconds_left(10) is None


def test_no_estimate_after_less_than_a_second():
    assert make_meter((0, 0), (0.2, 50)).seconds_left(10) is None


def test_rate_and_time_left_of_steady_work():
    meter = make_meter(*((t, 2 * t) for t in range(11)))
    assert meter.rate() == pytest.approx(2)
    assert meter.seconds_left(10) == pytest.approx(5)


def test_time_left_counts_down_between_two_changes():
    meter = make_meter((0, 0), (10, 1), (13, 1))
    assert meter.seconds_left(2) == pytest.approx(17)


def test_time_left_grows_during_a_standstill():
    meter = make_meter((0, 0), (10, 1), (100, 1))
    assert meter.seconds_left(1) == pytest.approx(90)
    assert meter.rate() == pytest.approx(0.01)


def test_the_window_forgets_a_slow_start():
    slow = [(t, t) for t in range(10)]
    fast = [(10 + t, 10 + 10 * t) for t in range(60)]
    assert make_meter(*slow, *fast).rate() == pytest.approx(10)


def test_tasks_longer_than_the_window_still_count():
    assert make_meter((0, 0), (100, 4), (200, 8)).seconds_left(8) == pytest.approx(200)


def test_work_done_before_watching_does_not_count():
    assert make_meter((0, 1000), (10, 1010)).rate() == pytest.approx(1)


def test_a_falling_count_starts_a_new_measurement():
    meter = make_meter((0, 0), (5, 50), (6, 20))
    assert meter.rate() == 0
    assert meter.seconds_left(10) is None


def test_hours_of_watching_keep_few_changes():
    meter = make_meter(*((t / 5, t) for t in range(50_000)))
    assert len(meter._changes) < 100
