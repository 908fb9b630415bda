"""The benchmarks run and agree; how fast they are is what ``make bench`` says, never a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_row_runs_alone_and_its_sides_agree() -> None:
    command = [sys.executable, "-m", "benchmarks.bench", "tiny", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout.splitlines()[-1])
    runs = [one for side in report["runs"].values() for one in side]
    assert len(runs) == 5
    assert {run["digest"].split(":")[:2] == ["10", "1000000"] for run in runs} == {True}


def test_redismr_gives_the_ancestors_scripts_what_a_loop_does(tmp_path: Path) -> None:
    """The row of 70,000 keys, without the ancestor: that has to be fetched."""
    command = [sys.executable, "-m", "benchmarks.ancestors", "keys70k", "--rounds", "1", "--alone"]
    env = os.environ | {"REDISMR_BENCH_CACHE": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (report,) = json.loads(done.stdout.splitlines()[-1])
    assert [run["digest"].split(":")[0] for (run,) in report["runs"].values()] == ["70000"] * 2
