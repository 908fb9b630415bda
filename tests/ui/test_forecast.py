"""Forecasts of the time left, compared with the true time left in simulated schedules."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, replace

import pytest

from redismr.core.status_rows import InputAmount, StageProgress
from redismr.sources import as_source
from redismr.sources.protocol import amount_of
from redismr.ui.forecast import StageEstimate

LOOK_COUNT = 50


@dataclass(frozen=True)
class TaskRun:
    """One task of a schedule."""

    begun: float
    ended: float
    amount: int


def schedule(amounts, executors, *, startup=0.0, per_task=0.0, variation=0.0):
    """Return the runs of tasks in order; the executor that is free first takes the next task.

    A task takes a second for each unit of its amount, slower or quicker by up to ``variation``, and
    ``per_task`` seconds more. ``startup`` is added to the first task of each executor.
    """
    random_numbers = random.Random(1)
    free = [(0.0, number) for number in range(executors)]
    fresh, task_runs = set(range(executors)), []
    for amount in amounts:
        begun, number = heapq.heappop(free)
        seconds = (
            amount * random_numbers.uniform(1 - variation, 1 + variation)
            + per_task
            + startup * (number in fresh)
        )
        fresh.discard(number)
        task_runs.append(TaskRun(begun, begun + seconds, amount))
        heapq.heappush(free, (begun + seconds, number))
    return task_runs


def work_at(now, task_runs, input_amount):
    """Return the progress that a watcher sees at ``now``."""
    over = [task for task in task_runs if task.ended <= now]
    running = [now - task.begun for task in task_runs if task.begun <= now < task.ended]
    return StageProgress(
        unit="items",
        done=sum(task.amount for task in over),
        total=input_amount.total,
        spent=sum(task.ended - task.begun for task in over),
        busy=len(running),
        since=sum(running),
        least=min(running, default=0.0),
        tasks=len(task_runs),
        tasks_done=len(over),
        tasks_begun=len(over) + len(running),
        heaviest=input_amount.heaviest,
        index=input_amount.index,
        ahead=input_amount.ahead,
    )


def forecasts(task_runs, *, change_work=lambda work: work, begin=0.0):
    """Yield (now, forecast of the time left, true time left) over the whole schedule."""
    input_amount = InputAmount()
    for index, task in enumerate(task_runs):
        input_amount.add(index, task.amount)
    end, forecast = max(task.ended for task in task_runs), StageEstimate()
    for look in range(int(begin * LOOK_COUNT), LOOK_COUNT):
        now = end * look / LOOK_COUNT
        forecast.update(now, change_work(work_at(now, task_runs, input_amount)))
        yield now, forecast.seconds_left(), end - now


def wrong_forecasts(task_runs, **options):
    """Return the looks at which the forecast was off by more than a quarter.

    The first fifth of the time does not count. In the last tenth, a quarter of a tenth is allowed,
    because little more than the clock changes there.
    """
    end = max(task.ended for task in task_runs)
    return [
        (round(now, 1), left, round(truth, 1))
        for now, left, truth in forecasts(task_runs, **options)
        if now >= end / 5 and (left is None or abs(left - truth) > max(truth, end / 10) / 4)
    ]


def equal_items(count):
    """Return the amounts of the tasks into which so many items are packed."""
    return [amount_of(split) for split in as_source(range(count)).splits()]


@pytest.mark.parametrize(
    ("count", "executors"), [(200, 1), (200, 4), (1000, 2), (1000, 8), (100_000, 4)]
)
def test_equal_items(count, executors):
    assert not wrong_forecasts(schedule(equal_items(count), executors))


def test_equal_items_one_a_task():
    assert not wrong_forecasts(schedule([1] * 200, 4))


def test_start_up_time_of_executors_does_not_count():
    assert not wrong_forecasts(schedule(equal_items(1000), 2, startup=60))


def test_a_cost_per_task_matters_little_later():
    assert not wrong_forecasts(schedule(equal_items(100_000), 4, per_task=30))


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
    assert not wrong_forecasts(schedule(FILES[files], 2))


@pytest.mark.parametrize("executors", [2, 4])
def test_files_of_typical_sizes(executors):
    """Most files are small and a few large; only the heaviest one is known by itself."""
    wrong = 0
    for seed in range(10):  # a tenth of all forecasts may be wrong
        random_numbers = random.Random(seed)
        sizes = [int(random_numbers.lognormvariate(3, 1)) + 1 for _ in range(60)]
        wrong += len(wrong_forecasts(schedule(sizes, executors)))
    assert wrong < LOOK_COUNT


def test_items_of_varying_cost():
    task_runs = schedule(equal_items(1000), 2, variation=0.5)
    assert len(wrong_forecasts(task_runs)) < LOOK_COUNT / 20


def test_a_late_watcher_gets_the_same_forecast():
    task_runs = schedule(equal_items(1000), 2)
    _, left, truth = next(iter(forecasts(task_runs, begin=0.5)))
    assert left == pytest.approx(truth, rel=0.25)


def test_a_new_worker_counts_at_once():
    task_runs = schedule([1] * 100, 2)
    forecast = StageEstimate()
    for second in range(26):
        forecast.update(second, work_at(second, task_runs, InputAmount(100, 1)))
    alone = forecast.seconds_left()
    for second in range(26, 30):
        work = work_at(25, task_runs, InputAmount(100, 1))
        forecast.update(second, replace(work, busy=4))
    assert forecast.seconds_left() == pytest.approx(alone / 2, rel=0.15)


@pytest.mark.parametrize(
    "too_little",
    [
        StageProgress(total=100),
        StageProgress(total=100, busy=2, since=50),
        StageProgress(total=None, done=50, spent=50, busy=2),
        StageProgress(total=100, done=50, spent=50),
        StageProgress(total=100, done=1, spent=0.1, busy=1),
        StageProgress(total=100, done=50, spent=50, busy=-1),
    ],
    ids=["nothing", "not one task", "no total", "nobody at it", "a moment", "too many to look at"],
)
def test_no_forecast_while_too_little_is_known(too_little):
    forecast = StageEstimate()
    forecast.update(0.0, too_little)
    assert forecast.seconds_left() is None


def test_zero_seconds_are_left_when_all_is_done():
    forecast = StageEstimate()
    forecast.update(0.0, StageProgress(total=100, done=100, spent=50))
    assert forecast.seconds_left() == 0


def test_time_left_grows_again_for_a_task_that_is_over_its_forecast():
    forecast = StageEstimate()
    work = StageProgress(
        total=2, done=1, spent=10, busy=1, tasks=2, tasks_done=1, tasks_begun=2, heaviest=1
    )
    forecast.update(0, replace(work, since=4, least=4))
    assert forecast.seconds_left() == pytest.approx(6)
    forecast.update(40, replace(work, since=44, least=44))
    assert forecast.seconds_left() == pytest.approx(34)


def test_lost_work_starts_a_new_forecast():
    forecast = StageEstimate()
    forecast.update(
        0, StageProgress(total=100, done=80, spent=80, busy=1, tasks_begun=81, tasks_done=80)
    )
    forecast.update(
        1, StageProgress(total=100, done=20, spent=20, busy=1, tasks_begun=21, tasks_done=20)
    )
    assert forecast.seconds_left() == pytest.approx(80)


def test_hours_of_watching_keep_few_points():
    forecast = StageEstimate()
    for look in range(20_000):
        forecast.update(look / 5, StageProgress(total=20_000, done=look, spent=look / 5, busy=1))
    assert len(forecast._points) < 100
