"""Write the figures of ``benchmarks.bench`` into ``docs/performance.md``, as tables and plots.

``python -m benchmarks.report`` prints the tables. With ``--write`` each table replaces the text
between its row's markers, ``<!-- wordcount -->`` and ``<!-- end -->``; the text around them stays.
A page that does not exist is created. Plots need matplotlib, which ``make bench-peers`` installs.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import growth, peers, rows
from benchmarks.bench import RESULTS_FOLDER

PERFORMANCE_PAGE = peers.ROOT / "docs" / "performance.md"
PLOTS_FOLDER = peers.ROOT / "docs" / "performance"
ROW_NAMES = (*rows.ROWS, *growth.ROWS)

INTRODUCTION = """# What redismr costs

Measured by `make bench-peers`, `make bench` and `make bench-report`. Each side of each round ran
in a fresh process, in turn; figures are medians, and results were compared. *Work* is from submit
to a result in hand, *whole* adds starting the tool, warming it and putting it away. *CPU* is user
and system time of all processes, servers included, during the work. *Submitter* and *others* are
the peak memory of the process that collects, and of the largest beside it that is no Redis.
"""


def main() -> int:
    """Print or write all tables; return 1 if there are none."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--results", type=Path, default=RESULTS_FOLDER, help="folder of JSON files")
    parser.add_argument("--page", type=Path, default=PERFORMANCE_PAGE)
    parser.add_argument("--write", action="store_true", help="into the page, with plots beside it")
    args = parser.parse_args()
    reports = {}
    for name in ROW_NAMES:
        if (file := args.results / f"{name}.json").exists():
            reports[name] = json.loads(file.read_text(encoding="utf-8"))
    if not reports:
        print(f"nothing was measured: {args.results}", file=sys.stderr)
        return 1
    if not args.write:
        print("\n\n".join(section(report, set()) for report in reports.values()))
        return 0
    folder = args.page.with_suffix("")
    drawn = draw_plots(args.results, folder)
    page = args.page.read_text(encoding="utf-8") if args.page.exists() else new_page()
    for name, report in reports.items():
        page = insert_section(page, name, section(report, drawn, f"{folder.name}/"))
    args.page.parent.mkdir(parents=True, exist_ok=True)
    args.page.write_text(page, encoding="utf-8")
    return 0


def new_page() -> str:
    """Return a page with a place for each row."""
    places = "\n\n".join(f"<!-- {name} -->\n<!-- end -->" for name in ROW_NAMES)
    return f"{INTRODUCTION}\n{places}\n"


def insert_section(page: str, name: str, text: str) -> str:
    """Return the page with the text at the row's place; without a place, the page as it is."""
    place = re.compile(rf"<!-- {name} -->\n.*?<!-- end -->", re.DOTALL)
    if not place.search(page):
        print(f"the page has no place for {name}: <!-- {name} --> <!-- end -->", file=sys.stderr)
    return place.sub(lambda _: f"<!-- {name} -->\n{text}\n<!-- end -->", page)


def draw_plots(results: Path, folder: Path) -> set[str]:
    """Draw plots if matplotlib is installed; return the names of the rows that have a plot."""
    folders = str(results.absolute()), str(folder.absolute())
    command = [str(peers.PEERS_PYTHON), "-m", "benchmarks.plots", *folders]
    if not peers.PEERS_PYTHON.exists():
        print("no plots: they need matplotlib, see make bench-peers", file=sys.stderr)
        return {file.stem for file in folder.glob("*.png")}
    done = subprocess.run(command, cwd=peers.ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return set(done.stdout.split())


def section(report: dict[str, Any], drawn: set[str], folder: str = "") -> str:
    """Return the section of one row: title, conditions, table, targets and plot."""
    lines = [f"### {report['title'][0].upper()}{report['title'][1:]}", "", *_conditions(report)]
    lines += ["", *(_growth_table(report) if "points" in report else _sides_table(report)), ""]
    lines += [f"- {line}" for line in _notes(report)]
    if report["row"] in drawn:
        lines += ["", f"![{report['title']}]({folder}{report['row']}.png)"]
    return "\n".join(lines).rstrip()


def _conditions(report: dict[str, Any]) -> Iterator[str]:
    machine = report["machine"]
    size = "" if report["scale"] == 1 else f" **At {report['scale']:g} of its full size.**"
    reads = f"{report['reads']}. " if report.get("reads") else ""
    yield f"{reads}{report['rounds']} rounds; {machine['words']}; {machine['when']} UTC.{size}"


def _sides_table(report: dict[str, Any]) -> Iterator[str]:
    sides = report["sides"]
    rates = any(side["rate"] for side in sides.values())
    heads = "| | work s | x redismr | whole s | CPU s | submitter MB | others MB |"
    yield f"{heads}{' a second |' * rates}"
    yield f"| --- |{' ---: |' * (6 + rates)}"
    redismr_work = next(iter(sides.values()))["work"]
    for key, side in sides.items():
        cells = [
            _side_label(key, side),
            f"{side['work']:.3g}",
            f"{side['work'] / redismr_work:.2f}",
            f"{side['whole']:.3g}",
            "" if side["cpu"] is None else f"{side['cpu']:.3g}",
            f"{side['peak_mb']:.0f}",
            f"{side['others_mb']:.0f}",
        ]
        cells += [f"{side['rate']:,.0f}"] if rates else []
        yield f"| {' | '.join(cells)} |"


def _side_label(key: str, side: dict[str, Any]) -> str:
    """Return the tool, its version, and its chunksize if the row has several."""
    tool, _, job = key.partition(".")
    chunksize = f", chunksize {int(job.rpartition('.')[2]):,}" if "." in job else ""
    share = "" if side["part"] == 1 else f" (given {side['part']:.3g} of the input, scaled)"
    version = f" {side['version']}" if tool not in {"redismr", "pool", "pool_gc", "futures"} else ""
    return f"{side['name']}{version}{chunksize}{share}"


def _growth_table(report: dict[str, Any]) -> Iterator[str]:
    columns = report["columns"]
    yield f"| {' | '.join([report['grows'], *columns.values()])} |"
    yield f"|{' ---: |' * (1 + len(columns))}"
    for value, point in report["points"].items():
        cells = (f"{point[measure]:,.3g}" for measure in columns)
        yield f"| {' | '.join([f'{int(value):,}', *cells])} |"


def _notes(report: dict[str, Any]) -> Iterator[str]:
    for target in report["targets"]:
        bound = f"at {'least' if target['at_least'] else 'most'} {target['bound']:,}"
        verdict = "reached" if target["met"] else "**not reached**"
        yield f"{target['figure']:,.3g} {target['words']} (target: {bound}): {verdict}"
    for key, reason in report.get("left_out", {}).items():
        yield f"left out: {peers.TOOL_NAMES[key.partition('.')[0]]}: {reason}"


if __name__ == "__main__":
    sys.exit(main())
