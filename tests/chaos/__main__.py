"""Runs rows and prints the table; exits 1 if a result was wrong or a figure was not reached."""

from __future__ import annotations

import argparse
import importlib
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from chaos.kit import Outcome, Plan, Row

MODULES = (
    "programs",
    "control",
    "restarts",
    "cuts",
    "failover",
    "kills",
    "zombies",
    "clock",
    "leaks",
    "machine",
    "replies",
    "clients",
    "data",
    "fields",
)


def rows() -> dict[str, Row]:
    """Return name -> row, in the order of the table."""
    found = [row for name in MODULES for row in importlib.import_module(f"chaos.{name}").ROWS]
    return {row.name: row for row in found}


def main() -> int:
    """Run the command; return its exit status."""
    known = rows()
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {' '.join(known)}")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--scale", type=float, default=1.0, help="1 is the whole campaign")
    args = parser.parse_args()
    if unknown := set(args.rows) - set(known):
        parser.error(f"no such row: {' '.join(sorted(unknown))}")
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    print(f"seed {args.seed}, scale {args.scale:g}", flush=True)
    bad = False
    for name in args.rows or known:
        began = time.monotonic()
        outcome = outcome_of(known[name], Plan(args.seed, args.scale, folder))
        report(known[name], outcome, time.monotonic() - began)
        bad |= bool(outcome.wrong or outcome.missed)
    if bad:
        print(f"logs of the workers: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return int(bad)


def outcome_of(row: Row, plan: Plan) -> Outcome:
    """Run a row. A row that raises has missed its target; the other rows run all the same."""
    try:
        return row.run(plan)
    except Exception as error:
        traceback.print_exc()
        return Outcome(missed=[f"the row itself failed: {error!r}"])


def report(row: Row, outcome: Outcome, seconds: float) -> None:
    """Print one row of the table, as Markdown."""
    figures = ", ".join(f"{value:g} {name}" for name, value in outcome.figures.items())
    verdict = "**MISSED**" if outcome.missed else "reached"
    print(
        f"| {row.name} | {row.fault} | {row.target} | {figures} | {len(outcome.wrong)} wrong |"
        f" {verdict} | {seconds:.0f} s |",
        flush=True,
    )
    for text in (*outcome.wrong[:20], *outcome.missed[:20]):
        print(f"    {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
