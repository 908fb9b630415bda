"""Draw plots of the figures: ``python -m benchmarks.plots RESULTS FOLDER``, by the peers' Python.

The program prints the names of the rows that have a plot.
"""
# mypy: disable-error-code="import-not-found,import-untyped"

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

REDISMR_COLOUR, OTHERS_COLOUR = "#c0392b", "#8fa3b0"
PLOTS_PER_ROW = 3
LOG_SCALE_RATIO = 20
"""Ratio of largest to smallest value above which an axis is logarithmic."""


def main(results: Path, folder: Path) -> None:
    """Draw one PNG for each row that compares sides or grows."""
    plt.switch_backend("agg")  # there is no screen
    folder.mkdir(parents=True, exist_ok=True)
    plt.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False})
    for file in sorted(results.glob("*.json")):
        report = json.loads(file.read_text(encoding="utf-8"))
        if "points" in report:
            figure = lines(report)
        elif len(report["sides"]) > 1:
            figure = bars(report)
        else:
            continue
        figure.savefig(folder / f"{file.stem}.png", dpi=110, bbox_inches="tight")
        plt.close(figure)
        print(file.stem)


def bars(report: dict[str, Any]) -> Any:
    """Draw the seconds of work: a bar for each side, whiskers from fastest to slowest round."""
    sides = report["sides"]
    names = [f"{side['name']} {_chunksize_text(key)}".strip() for key, side in sides.items()]
    work = [side["work"] for side in sides.values()]
    rounds = [[run["work"] / run["part"] for run in report["runs"][key]] for key in sides]
    whiskers = [
        [middle - min(times) for middle, times in zip(work, rounds, strict=True)],
        [max(times) - middle for middle, times in zip(work, rounds, strict=True)],
    ]
    figure, axes = plt.subplots(figsize=(6.5, 0.6 + 0.28 * len(names)))
    colours = [REDISMR_COLOUR if key.startswith("redismr.") else OTHERS_COLOUR for key in sides]
    axes.barh(range(len(names)), work, xerr=whiskers, color=colours, ecolor="#444444", capsize=2)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    if max(work) > LOG_SCALE_RATIO * min(work):
        axes.set_xscale("log")
    axes.set_xlabel("seconds of work")
    for row, seconds in enumerate(work):
        axes.annotate(f" {seconds:.3g}", (max(rounds[row]), row), va="center")
    axes.set_title(report["title"], loc="left")
    return figure


def _chunksize_text(key: str) -> str:
    job = key.partition(".")[2]
    return f"({int(job.rpartition('.')[2]):,})" if "." in job else ""


def lines(report: dict[str, Any]) -> Any:
    """Draw a small plot of each measure over the value that grows."""
    values = [int(value) for value in report["points"]]
    columns = report["columns"]
    plot_rows = -(-len(columns) // PLOTS_PER_ROW)
    figure, grid = plt.subplots(
        plot_rows, PLOTS_PER_ROW, figsize=(6.5, 0.4 + 1.7 * plot_rows), squeeze=False
    )
    for axes in grid.flat[len(columns) :]:
        axes.set_visible(False)
    for axes, (measure, heading) in zip(grid.flat, columns.items(), strict=False):
        figures = [point[measure] for point in report["points"].values()]
        axes.plot(values, figures, "o-", color=REDISMR_COLOUR, markersize=3)
        if max(values) > LOG_SCALE_RATIO * min(values):
            axes.set_xscale("log")
        if max(figures) > LOG_SCALE_RATIO * max(min(figures), 1e-9):
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_title(heading)
        axes.set_xlabel(report["grows"])
    figure.suptitle(report["title"], x=0.01, ha="left")
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
