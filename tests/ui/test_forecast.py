"""The time that is left, held against what it turns out to be; time is simulated."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, replace

import pytest

from redismr.core.work import Extent, Work
from redismr.sources import as_source
from redismr.sources.protocol import amount_of
from redismr.ui.forecast import Forecast

LOOKS = 50


@dataclass(frozen=True)
class Ran:
    """One task of a schedule."""

    begun: float
    ended: float
    amount: int


def schedule(amounts, executors, *, first=0.0, each=0.0, vary=0.0):
    """Tasks in their order, each by whoever is free first: a second for 1, and what is added.

    ``first`` is what an executor takes before its first task, ``each`` what every task takes, and
    ``vary`` how much slower or quicker than others one may be.
    """
    dice = random.Random(1)
    free = [(0.0, number) for number in range(executors)]
    fresh, ran = set(range(executors)), []
    for amount in amounts:
        begun, number = heapq.heappop(free)
        seconds = amount * dice.uniform(1 - vary, 1 + vary) + each + first * (number in fresh)
        fresh.discard(number)
        ran.append(Ran(begun, begun + seconds, amount))
        heapq.heappush(free, (begun + seconds, number))
    return ran


def seen_at(now, ran, extent):
    """What a look at the job would tell."""
    over = [task for task in ran if task.ended <= now]
    running = [now - task.begun for task in ran if task.begun <= now < task.ended]
    return Work(
        unit="items",
        done=sum(task.amount for task in over),
        total=extent.total,
        spent=sum(task.ended - task.begun for task in over),
        busy=len(running),
        since=sum(running),
        least=min(running, default=0.0),
        tasks=len(ran),
        tasks_done=len(over),
        tasks_begun=len(over) + len(running),
        heaviest=extent.heaviest,
        index=extent.index,
        ahead=extent.ahead,
    )


def followed(ran, *, see=lambda work: work, begin=0.0):
    """(now, time left as forecast, time left in truth) all along."""
    extent = Extent()
    for index, task in enumerate(ran):
        extent.add(index, task.amount)
    end, forecast = max(task.ended for task in ran), Forecast()
    for look in range(int(begin * LOOKS), LOOKS):
        now = end * look / LOOKS
        forecast.see(now, see(seen_at(now, ran, extent)))
        yield now, forecast.left(), end - now


def misses(ran, **how):
    """Looks, from a fifth of the time on, at which the forecast was off by more than a quarter.

    Of the last tenth it is a quarter of all that: there nothing but the clock is left to see.
    """
    end = max(task.ended for task in ran)
    return [
        (round(now, 1), left, round(truth, 1))
        for now, left, truth in followed(ran, **how)
        if now >= end / 5 and (left is None or abs(left - truth) > max(truth, end / 10) / 4)
    ]


def equal_items(count):
    """The amounts of the tasks that so many items are packed into."""
    return [amount_of(split) for split in as_source(range(count)).splits()]


@pytest.mark.parametrize(
    ("count", "executors"), [(200, 1), (200, 4), (1000, 2), (1000, 8), (100_000, 4)]
)
def test_equal_items(count, executors):
    assert not misses(schedule(equal_items(count), executors))


def test_equal_items_one_a_task():
    assert not misses(schedule([1] * 200, 4))


def test_what_executors_do_before_their_first_task_is_no_pace():
    assert not misses(schedule(equal_items(1000), 2, first=60))


def test_what_each_task_costs_is_soon_little():
    assert not misses(schedule(equal_items(100_000), 4, each=30))


FILES = {
    "ever larger": range(1, 31),
    "ever smaller": range(30, 0, -1),
    "each twice the last": [2**n for n in range(12)],
    "a giant among the first": [1] * 4 + [60] + [1] * 60,
    "a giant among them": [1] * 30 + [40] + [1] * 30,
    "a giant at the end": [1] * 100 + [40],
}


@pytest.mark.parametrize("files", FILES)
def test_files_of_unequal_size(files):
    assert not misses(schedule(FILES[files], 2))


@pytest.mark.parametrize("executors", [2, 4])
def test_files_as_they_lie_about(executors):
    """Most are small and a few large: all but the heaviest are only known in sum."""
    off = 0
    for seed in range(10):  # a tenth of all looks may be off
        dice = random.Random(seed)
        sizes = [int(dice.lognormvariate(3, 1)) + 1 for _ in range(60)]
        off += len(misses(schedule(sizes, executors)))
    assert off < LOOKS


def test_items_that_vary_are_met_on_the_whole():
    ran = schedule(equal_items(1000), 2, vary=0.5)
    assert len(misses(ran)) < LOOKS / 20


def test_who_begins_to_watch_late_knows_as_much():
    ran = schedule(equal_items(1000), 2)
    _, left, truth = next(iter(followed(ran, begin=0.5)))
    assert left == pytest.approx(truth, rel=0.25)


def test_worker_after_worker_counts_at_once():
    ran = schedule([1] * 100, 2)
    forecast = Forecast()
    for second in range(26):
        forecast.see(second, seen_at(second, ran, Extent(100, 1)))
    alone = forecast.left()
    for second in range(26, 30):
        work = seen_at(25, ran, Extent(100, 1))
        forecast.see(second, replace(work, busy=4))
    assert forecast.left() == pytest.approx(alone / 2, rel=0.15)


@pytest.mark.parametrize(
    "nothing",
    [
        Work(total=100),
        Work(total=100, busy=2, since=50),
        Work(total=None, done=50, spent=50, busy=2),
        Work(total=100, done=50, spent=50),
        Work(total=100, done=1, spent=0.1, busy=1),
        Work(total=100, done=50, spent=50, busy=-1),
    ],
    ids=["nothing", "not one task", "no total", "nobody at it", "a moment", "too many to look at"],
)
def test_says_nothing_from_nothing(nothing):
    forecast = Forecast()
    forecast.see(0.0, nothing)
    assert forecast.left() is None


def test_nothing_is_left_when_all_is_done():
    forecast = Forecast()
    forecast.see(0.0, Work(total=100, done=100, spent=50))
    assert forecast.left() == 0


def test_what_takes_longer_than_it_should_is_not_nearly_over():
    forecast = Forecast()
    work = Work(total=2, done=1, spent=10, busy=1, tasks=2, tasks_done=1, tasks_begun=2, heaviest=1)
    forecast.see(0, replace(work, since=4, least=4))
    assert forecast.left() == pytest.approx(6)
    forecast.see(40, replace(work, since=44, least=44))
    assert forecast.left() == pytest.approx(34)


def test_lost_work_starts_anew():
    forecast = Forecast()
    forecast.see(0, Work(total=100, done=80, spent=80, busy=1, tasks_begun=81, tasks_done=80))
    forecast.see(1, Work(total=100, done=20, spent=20, busy=1, tasks_begun=21, tasks_done=20))
    assert forecast.left() == pytest.approx(80)


def test_hours_of_watching_stay_small():
    forecast = Forecast()
    for look in range(20_000):
        forecast.see(look / 5, Work(total=20_000, done=look, spent=look / 5, busy=1))
    assert len(forecast._points) < 100
