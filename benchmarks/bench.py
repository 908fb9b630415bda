"""Compare redismr with programs written by hand, side by side, in alternating rounds.

``python -m benchmarks.bench`` runs every row, ``python -m benchmarks.bench wordcount --rounds 3``
one. Every side of every round is a fresh process, started in turn, so that a busy machine slows
all sides alike; medians are compared, never single runs. Prints a table, then one line of JSON.
Floors are printed beside what was measured and decide the exit code of ``--check`` alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

from benchmarks.measure import Measured, measure

CHUNK_SIZES = (100, 1_000, 10_000, 50_000)


@dataclass(frozen=True, slots=True)
class Row:
    """Sides to run, the first of them redismr's, and one figure to make of their medians."""

    title: str
    sides: tuple[str, ...]
    figure: str
    floor: float
    make: Callable[[Mapping[str, Measured]], float]
    more_is_better: bool = False


def _against_best(of: str, found: Mapping[str, Measured]) -> float:
    ours, *others = (getattr(measured, of) for measured in found.values())
    return float(ours / min(others))


ROWS = {
    "wordcount": Row(
        "word count of 320 MB in 32 files, start and end included",
        ("redismr.wordcount", "pool.wordcount"),
        "times Pool(2)",
        1.3,
        partial(_against_best, "whole"),
    ),
    "tasks": Row(
        "20,000 tasks of one item",
        ("redismr.tasks",),
        "tasks a second",
        5_000,
        lambda found: 20_000 / found["redismr.tasks"].work,
        more_is_better=True,
    ),
    "tiny": Row(
        "1,000,000 tiny items onto 10 keys",
        ("redismr.tiny_items", *(f"pool.tiny.{size}" for size in CHUNK_SIZES)),
        "times Pool.imap at its best chunksize",
        5.0,
        partial(_against_best, "work"),
    ),
    "submit": Row(
        "submitter's peak memory while it submits 2 GB from a generator",
        ("redismr.submit",),
        "MB",
        150,
        lambda found: found["redismr.submit"].peak_mb,
    ),
    "results": Row(
        "submitter's peak memory while it iterates 5,000,000 results",
        ("redismr.results",),
        "MB",
        150,
        lambda found: found["redismr.results"].peak_mb,
    ),
}


def main() -> int:
    """Run the rows asked for; 1 if ``--check`` is given and a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("rows", nargs="*", help=f"of: {' '.join(ROWS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--check", action="store_true", help="exit 1 if a floor is missed")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(asdict(_run_side(args.side))))
        return 0
    if unknown := set(args.rows) - set(ROWS):
        parser.error(f"no such row: {' '.join(sorted(unknown))}")
    if {"wordcount"} & set(args.rows or ROWS):
        from benchmarks.corpus import corpus

        print("corpus:", corpus())
    load = os.getloadavg()[0]
    print(f"python {platform.python_version()}, {os.cpu_count()} cores, load before {load:.1f}")
    sys.stdout.flush()
    reports = [_run_row(ROWS[name], args.rounds) for name in args.rows or ROWS]
    print(json.dumps(reports))
    return int(args.check and not all(report["met"] for report in reports))


def _run_row(row: Row, rounds: int) -> dict[str, Any]:
    runs: dict[str, list[Measured]] = {side: [] for side in row.sides}
    for _ in range(rounds):
        for side in row.sides:
            runs[side].append(_in_fresh_process(side))
    digests = {measured.digest for all_runs in runs.values() for measured in all_runs}
    if len(digests) != 1:
        raise SystemExit(f"{row.title}: results differ: {digests}")
    medians = {side: _median(found) for side, found in runs.items()}
    figure = row.make(medians)
    met = figure >= row.floor if row.more_is_better else figure <= row.floor
    print(f"\n{row.title}")
    print(f"  {'side':<22}{'work s':>9}{'whole s':>9}{'peak MB':>9}")
    for side, found in medians.items():
        print(f"  {side:<22}{found.work:>9.2f}{found.whole:>9.2f}{found.peak_mb:>9.0f}")
    bound = "at least" if row.more_is_better else "at most"
    verdict = "met" if met else "MISSED"
    print(f"  {figure:,.2f} {row.figure} (floor: {bound} {row.floor:,}): {verdict}", flush=True)
    every = {side: [asdict(one) for one in found] for side, found in runs.items()}
    return {"title": row.title, "figure": figure, "unit": row.figure, "met": met, "runs": every}


def _in_fresh_process(side: str) -> Measured:
    """One run of one side; no server of the user's is touched, whatever the environment says."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if name == "REDISMR_BENCH_CACHE" or not name.startswith(("REDISMR_", "REDIS_URL"))
    }
    command = [sys.executable, "-m", "benchmarks.bench", "--side", side]
    done = subprocess.run(command, env=clean, stdout=subprocess.PIPE, check=True, text=True)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def _run_side(side: str) -> Measured:
    tool, _, what = side.partition(".")
    if tool == "redismr":
        from benchmarks import by_redismr

        return measure(by_redismr.client, by_redismr.warm, getattr(by_redismr, what))
    if what == "wordcount":
        return _pool_wordcount()
    from benchmarks import pool_tiny

    chunksize = int(what.removeprefix("tiny."))
    return measure(
        pool_tiny.open_pool,
        lambda pool: pool.map(abs, range(64)),
        lambda pool: pool_tiny.count(pool, chunksize),
    )


def _pool_wordcount() -> Measured:
    from contextlib import nullcontext

    from benchmarks import pool_wordcount
    from benchmarks.corpus import corpus

    pattern = corpus().pattern
    return measure(nullcontext, lambda _: None, lambda _: pool_wordcount.count(pattern))


def _median(found: list[Measured]) -> Measured:
    return Measured(
        work=median(one.work for one in found),
        whole=median(one.whole for one in found),
        peak_mb=max(one.peak_mb for one in found),
        digest=found[0].digest,
    )


if __name__ == "__main__":
    sys.exit(main())
