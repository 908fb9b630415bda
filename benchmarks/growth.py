"""Measure how costs of redismr grow with input, executors, tasks, jobs at once, or idle workers.

Each point is measured in a fresh process with a fresh server (``growing.py``); figures are medians
of all rounds. Times are from submit to the result as a dict. Commands are all that Redis ran
during that time, also inside scripts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import corpus, workloads
from benchmarks.cache import scaled
from benchmarks.running import run_module

Point = Mapping[str, float]
Points = Mapping[int, Point]
Figures = Iterator[tuple[str, float, float]]

SIZES = (40, 160, 640, 1280)
MEASURES = {
    "seconds": "s",
    "redis_mb": "Redis peak MB",
    "worker_mb": "executor peak MB",
    "submitter_mb": "submitter peak MB",
    "commands": "Redis commands",
}


@dataclass(frozen=True, slots=True)
class GrowthRow:
    """A value that grows, and the measures at each of its sizes."""

    title: str
    growing_value: str
    values: tuple[int, ...]
    per: str
    """The heading of a measure that only this row has."""
    measure_per: Callable[[int, Point], float]
    """Returns that measure of a point."""
    figures: Callable[[Points], Figures]
    """Yields targets: words, figure, upper bound of the figure."""
    prepare: Callable[[], object] = str
    """Makes the inputs before the clock runs."""


def _per_task(tasks: int, point: Point) -> float:
    return point["commands"] / scaled(tasks)


def _size_figures(at: Points) -> Figures:
    pace = [at[size]["seconds"] / size for size in SIZES if size >= 160]
    yield "times the best time per MB, from 160 MB on", max(pace) / min(pace), 1.15
    worst = max(at[size]["redis_mb"] / scaled(size * 1_000_000) * 1e6 for size in SIZES)
    yield "times the input: peak of Redis", worst, 0.5


def _executor_figures(at: Points) -> Figures:
    yield "times the time of 2 executors, by 8", at[8]["seconds"] / at[2]["seconds"], 1.15


def _task_figures(at: Points) -> Figures:
    pace = {tasks: at[tasks]["seconds"] / scaled(tasks) for tasks in at}
    yield "times the time per task of 1,000, with 100,000", pace[100_000] / pace[1_000], 1.0


def _memory_figures(at: Points) -> Figures:
    yield "times the option: executors' peak", max(at[mb]["worker_mb"] / mb for mb in at), 1.0


def _no_figures(_at: Points) -> Figures:
    yield from ()


def _idle_figures(at: Points) -> Figures:
    most_supervisors = max(at)
    rate = at[most_supervisors]["rate"]
    yield f"commands a second, by {most_supervisors} idle supervisors", rate, 150


def _texts() -> None:
    for size in SIZES:
        corpus.growing_text(size)


ROWS = {
    "growth-size": GrowthRow(
        'word count with "sum" of more and more text, 2 executors', "MB", SIZES,
        "ms per MB", lambda size, point: 1e9 * point["seconds"] / scaled(size * 1_000_000),
        _size_figures, _texts,
    ),
    "growth-executors": GrowthRow(
        "word count of 160 MB by more and more executors", "executors", (1, 2, 4, 8),
        "s", lambda _, point: point["seconds"], _executor_figures, _texts,
    ),
    "growth-tasks": GrowthRow(
        "more and more tasks of one item, 2 executors", "tasks", (100, 1_000, 10_000, 100_000),
        "commands per task", _per_task, _task_figures,
    ),
    "growth-memory": GrowthRow(
        "word count of 40 MB, nothing combined, 2 partitions, by the memory they may take",
        "memory=MB", (64, 128, 256, 512),
        "s", lambda _, point: point["seconds"], _memory_figures, _texts,
    ),
    "growth-jobs": GrowthRow(
        "more and more jobs at once, of 100 tasks each, 2 executors", "jobs", (1, 5, 10, 25, 50),
        "ms per job", lambda jobs, point: 1000 * point["seconds"] / jobs, _no_figures,
    ),
    "growth-idle": GrowthRow(
        "more and more supervisors that have nothing to do", "supervisors", (1, 10, 100, 500),
        "commands a second", lambda _, point: point["rate"], _idle_figures,
    ),
}  # fmt: skip


def run_row(name: str, rounds: int) -> dict[str, Any]:
    """Run all points of one row in turn, print their table, and return the report.

    Raises:
        SideFailed: A point has no result.
    """
    row = ROWS[name]
    row.prepare()
    print(f"\n{row.title}", flush=True)
    runs: dict[int, list[Point]] = {value: [] for value in row.values}
    for _ in range(rounds):
        for value, value_points in runs.items():
            value_points.append(_point(name, value))
    points = {
        value: {key: median(point[key] for point in value_points) for key in value_points[0]}
        for value, value_points in runs.items()
    }
    for value, point in points.items():
        point["per"] = row.measure_per(value, point)
    targets = [
        {
            "words": words,
            "figure": figure,
            "bound": bound,
            "at_least": False,
            "met": figure <= bound,
        }
        for words, figure, bound in row.figures(points)
    ]
    report = {
        "title": row.title, "grows": row.growing_value, "columns": _columns(row, points),
        "points": points, "targets": targets, "runs": runs,
    }  # fmt: skip
    _print(report)
    return report


def _point(name: str, value: int) -> Point:
    figures = run_module(sys.executable, "benchmarks.growing", name, str(value))
    return {measure: float(number) for measure, number in figures.items()}


def _columns(row: GrowthRow, points: Points) -> dict[str, str]:
    """Return the measures that a row has, with their headings."""
    point = next(iter(points.values()))
    per_column = {} if row.per == "s" else {"per": row.per}
    return {key: heading for key, heading in MEASURES.items() if key in point} | per_column


def _print(report: dict[str, Any]) -> None:
    columns = report["columns"]
    widths = {key: max(len(heading), 9) + 2 for key, heading in columns.items()}
    headings = (f"{columns[key]:>{width}}" for key, width in widths.items())
    print(f"  {report['grows']:>11}", *headings, sep="")
    for value, point in report["points"].items():
        figures = (f"{point[key]:>{width},.4g}" for key, width in widths.items())
        print(f"  {value:>11,}", *figures, sep="")
    for target in report["targets"]:
        verdict = "met" if target["met"] else "MISSED"
        print(f"  {target['figure']:,.3g} {target['words']} ", end="")
        print(f"(target: at most {target['bound']:,}): {verdict}")
    sys.stdout.flush()


assert workloads.PROCESSES == 2, "the titles of the rows say so"
