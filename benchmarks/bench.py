"""Compare redismr with programs written by hand and with its peers, in alternating rounds.

``python -m benchmarks.bench`` runs every row, ``python -m benchmarks.bench wordcount --rounds 3``
one. Every side of every round is a fresh process, and the sides run in turn, so a busy machine
slows all of them alike. Medians are compared, never single runs. The program prints a table for
each row and stores the figures as JSON in ``--out``, where ``python -m benchmarks.report`` reads
them; the last line is the JSON of all rows. Targets are printed beside the figures, and only
decide the exit code of ``--check``. A peer that is not installed, or fails, is reported as left
out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import cache, growth, peers
from benchmarks.machine import describe_machine
from benchmarks.measure import Measured
from benchmarks.rows import ROWS, Row
from benchmarks.running import SideFailed, run_side

RESULTS_FOLDER = peers.ROOT / ".bench" / "results"
OPTIONAL_TOOLS = set(peers.TOOL_NAMES) - peers.OWN_PYTHON_TOOLS
ROW_NAMES = (*ROWS, *growth.ROWS)


def main() -> int:
    """Run the given rows; return 1 if ``--check`` is given and a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("rows", nargs="*", help=f"of: {' '.join(ROW_NAMES)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, help="share of the full inputs (default: 1)")
    parser.add_argument("--tools", help=f"only these, by comma, of: {' '.join(peers.TOOL_NAMES)}")
    parser.add_argument(
        "--out", type=Path, default=RESULTS_FOLDER, help="folder for a JSON of each row"
    )
    parser.add_argument("--check", action="store_true", help="exit 1 if a target is missed")
    args = parser.parse_args()
    if unknown := set(args.rows) - set(ROW_NAMES):
        parser.error(f"no such row: {' '.join(sorted(unknown))}")
    if args.scale is not None:
        os.environ["REDISMR_BENCH_SCALE"] = str(args.scale)
    tools = set(args.tools.split(",")) if args.tools else set(peers.TOOL_NAMES)
    if unknown := tools - set(peers.TOOL_NAMES):
        parser.error(f"no such tool: {' '.join(sorted(unknown))}")
    machine = describe_machine()
    print(machine["words"], flush=True)
    reports = []
    for name in args.rows or ROW_NAMES:
        report = {"row": name, "machine": machine, "scale": cache.scale(), "rounds": args.rounds}
        if name in ROWS:
            report |= run_row(ROWS[name], args.rounds, tools)
        else:
            report |= growth.run_row(name, args.rounds)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{name}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        reports.append(report)
    print(json.dumps(reports))
    targets = [target for report in reports for target in report["targets"]]
    return int(args.check and not all(target["met"] for target in targets))


def run_row(row: Row, rounds: int, tools: set[str]) -> dict[str, Any]:
    """Run all rounds of one row, print its table, and return its report."""
    input_text = row.make_input()
    print(f"\n{row.title}{f' ({input_text})' if input_text else ''}", flush=True)
    tool_of = {side: side.partition(".")[0] for side in row.sides}
    chosen = {side: tool for side, tool in tool_of.items() if tool in tools}
    left_out = {
        side: reason for side, tool in chosen.items() if (reason := peers.reason_missing(tool))
    }
    runs: dict[str, list[Measured]] = {side: [] for side in chosen if side not in left_out}
    for _ in range(rounds):
        for side in list(runs):
            try:
                runs[side].append(_run(side, tool_of[side] in OPTIONAL_TOOLS))
            except SideFailed as exc:
                if tool_of[side] not in OPTIONAL_TOOLS:
                    raise
                left_out[side] = str(exc)
                del runs[side]
    _check_same_results(row, runs)
    medians = {side: _median_of_runs(side_runs) for side, side_runs in runs.items()}
    report = {
        "title": row.title,
        "reads": input_text,
        "sides": {side: _side_report(row, tool_of[side], run) for side, run in medians.items()},
        "left_out": left_out,
        "targets": list(_targets(row, medians)),
        "runs": {side: [asdict(run) for run in side_runs] for side, side_runs in runs.items()},
    }
    _print(report)
    return report


def _run(side: str, optional: bool) -> Measured:  # noqa: FBT001
    """Run a side; a peer that fails runs once more, as some do not start on a busy machine."""
    try:
        return run_side(side)
    except SideFailed as exc:
        if not optional:
            raise
        print(f"  one more attempt: {exc}", file=sys.stderr)
        return run_side(side)


def _check_same_results(row: Row, runs: dict[str, list[Measured]]) -> None:
    """Check that the sides with the whole input agree; the others were compared with a loop."""
    digests = {
        side: {run.digest for run in side_runs if run.part == 1}
        for side, side_runs in runs.items()
        if side not in row.not_compared
    }
    if len(set().union(*digests.values())) > 1:
        raise SystemExit(f"{row.title}: results differ: {digests}")


def _median_of_runs(runs: list[Measured]) -> Measured:
    cpus = [run.cpu for run in runs if run.cpu is not None]
    return replace(
        runs[0],
        work=median(run.work for run in runs),
        whole=median(run.whole for run in runs),
        cpu=median(cpus) if cpus else None,
        peak_mb=max(run.peak_mb for run in runs),
        others_mb=max(run.others_mb for run in runs),
    )


def _side_report(row: Row, tool: str, median_run: Measured) -> dict[str, Any]:
    """Return a line of the table; a side with a part of the input is scaled to all of it."""
    return {
        "name": peers.TOOL_NAMES[tool],
        "version": peers.version(tool),
        "work": median_run.all_work,
        "whole": median_run.all_whole,
        "cpu": None if median_run.cpu is None else median_run.cpu / median_run.part,
        "peak_mb": median_run.peak_mb,
        "others_mb": median_run.others_mb,
        "part": median_run.part,
        "rate": cache.scaled(row.item_count) / median_run.all_work if row.item_count else None,
    }


def _targets(row: Row, medians: dict[str, Measured]) -> Iterator[dict[str, Any]]:
    for target in row.targets:
        try:
            figure = target.figure(medians)
        except (KeyError, TypeError):  # a side is left out, or has no such figure here
            continue
        yield {
            "words": target.words,
            "figure": figure,
            "bound": target.bound,
            "at_least": target.at_least,
            "met": target.met(figure),
        }


def _print(report: dict[str, Any]) -> None:
    print(f"  {'side':<24}{'work s':>9}{'x ours':>8}{'whole s':>9}{'cpu s':>9}", end="")
    print(f"{'peak MB':>9}{'others':>8}{'a second':>10}")
    redismr_figures = next(iter(report["sides"].values()))
    for side, figures in report["sides"].items():
        name = side if figures["part"] == 1 else f"{side} ({figures['part']:.3g})"
        cpu = f"{figures['cpu']:.4g}" if figures["cpu"] is not None else "-"
        rate = f"{figures['rate']:,.0f}" if figures["rate"] else ""
        print(
            f"  {name:<24}{figures['work']:>9.4g}{figures['work'] / redismr_figures['work']:>8.2f}",
            end="",
        )
        print(f"{figures['whole']:>9.4g}{cpu:>9}{figures['peak_mb']:>9.0f}", end="")
        print(f"{figures['others_mb']:>8.0f}{rate:>10}")
    if any(figures["part"] != 1 for figures in report["sides"].values()):
        print(
            "  (share): of the input that the side was given; its figures are scaled to all of it"
        )
    for side, reason in report["left_out"].items():
        print(f"  left out: {side}: {reason}")
    for target in report["targets"]:
        bound = f"at {'least' if target['at_least'] else 'most'} {target['bound']:,}"
        verdict = "met" if target["met"] else "MISSED"
        print(f"  {target['figure']:,.3g} {target['words']} (target: {bound}): {verdict}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
