"""The benchmarks run and their results agree. Speed is measured by ``make bench``, never by a test.

Peers are left out, because tests run without their environment. Inputs are tiny.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCALE = "0.001"
ROWS = {
    "wordcount": ["redismr", "pool", "pool_gc"],
    "combiner": ["redismr", "pool", "pool_gc"],
    "nocombiner": ["redismr", "pool", "pool_gc"],
    "prose": ["redismr", "pool", "pool_gc"],
    "index": ["redismr", "pool", "pool_gc"],
    "grep": ["redismr", "pool", "pool_gc"],
    "sort": ["redismr", "pool", "pool_gc"],
    "join": ["redismr", "pool", "pool_gc"],
    "skewed": ["redismr", "pool", "pool_gc", "redismr"],
    "tasks": ["redismr", "pool"],
    "tiny": ["redismr", "pool", "pool", "pool", "pool"],
    "distinct": ["redismr", "pool", "pool", "pool", "pool"],
    "latency": ["redismr", "futures"],
    "cold": ["redismr", "futures", "pool"],
    "submit": ["redismr"],
    "results": ["redismr"],
}
"""Each row, and the tools of its sides that need nothing but redismr's own Python."""


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Make the inputs once, from files of Python itself; there are no peers."""
    cache = tmp_path_factory.mktemp("inputs")
    return os.environ | {
        "REDISMR_BENCH_CACHE": str(cache),
        "REDISMR_BENCH_PEERS": str(cache / "none"),
        "REDISMR_BENCH_SCALE": SCALE,
    }


def run(environ: dict[str, str], *words: str) -> str:
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def bench(environ: dict[str, str], out: Path, row: str, tools: str) -> dict[str, Any]:
    words = (row, "--rounds", "1", "--tools", tools, "--out", str(out))
    (report,) = json.loads(run(environ, "benchmarks.bench", *words).splitlines()[-1])
    return report


@pytest.mark.parametrize("row", ROWS)
def test_the_sides_of_a_row_agree(row: str, environ: dict[str, str], tmp_path: Path) -> None:
    """The run itself checks that all results are equal."""
    report = bench(environ, tmp_path, row, "redismr,pool,pool_gc,futures")
    assert [side.partition(".")[0] for side in report["sides"]] == ROWS[row]
    assert all(one["digest"] for side in report["runs"].values() for one in side)


def test_every_row_is_tested(environ: dict[str, str]) -> None:
    assert f"of: {' '.join(ROWS)} growth-" in " ".join(
        run(environ, "benchmarks.bench", "-h").split()
    )


def test_a_missing_peer_is_reported_as_left_out(environ: dict[str, str], tmp_path: Path) -> None:
    report = bench(environ, tmp_path, "tasks", "redismr,ray,huey")
    assert list(report["sides"]) == ["redismr.tasks"]
    assert sorted(report["left_out"]) == ["huey.tasks", "ray.tasks"]


def test_a_row_that_grows_has_all_its_points(environ: dict[str, str], tmp_path: Path) -> None:
    report = bench(environ, tmp_path, "growth-tasks", "redismr")
    assert list(report["points"]) == ["100", "1000", "10000", "100000"]
    assert {"seconds", "redis_mb", "commands", "per"} <= set(report["points"]["100"])


def test_idle_supervisors_are_counted(environ: dict[str, str]) -> None:
    """All supervisors have started, or the test would wait; how often they ask is not tested."""
    assert json.loads(run(environ, "benchmarks.growing", "growth-idle", "3")).keys() == {"rate"}


def test_measurements_go_between_the_markers(environ: dict[str, str], tmp_path: Path) -> None:
    results, page = tmp_path / "results", tmp_path / "page.md"
    bench(environ, results, "submit", "redismr")
    page.write_text("before\n<!-- submit -->\nold\n<!-- end -->\nafter\n", encoding="utf-8")
    words = ("--results", str(results), "--page", str(page), "--write")
    for _ in range(2):
        run(environ, "benchmarks.report", *words)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- submit -->\n### 2 GB submitted")
    assert text.endswith("<!-- end -->\nafter\n") and text.count("| redismr |") == 1
    assert "old" not in text and f"At {SCALE} of its full size" in text


def test_redismr_gives_the_ancestors_scripts_what_a_loop_does(tmp_path: Path) -> None:
    """The row of 70,000 keys, without the ancestor, which would have to be downloaded."""
    environ = os.environ | {"REDISMR_BENCH_CACHE": str(tmp_path)}
    words = ("keys70k", "--rounds", "1", "--alone")
    (report,) = json.loads(run(environ, "benchmarks.ancestors", *words).splitlines()[-1])
    assert [run["digest"].split(":")[0] for (run,) in report["runs"].values()] == ["70000"] * 2
