"""The campaign in small: every row, with a fixed seed, as ``make test`` runs it.

Rows wait more than they compute, so two run at a time; each test waits for its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from chaos.__main__ import rows  # noqa: E402

SEED = 7
SCALE = 0.02
SCALES = {
    "programs": 0.08, "control": 0.1, "machine": 0.1, "cuts": 0.08, "data": 0.1, "kills": 0.01,
}  # fmt: skip
"""Shares of the whole campaign; all rows but programs take 50 s together on two idle cores, and
that one about as long alone."""

SECONDS = 240


def scale_of(name: str) -> float:
    """Return the scale of a row in this short campaign."""
    return SCALES.get(name, SCALE)


NAMES = [name for name in rows() if name != "programs"]
"""The row "programs" keeps both cores busy, and has a test of its own in tests/fuzz."""


@pytest.fixture(scope="session")
def cut(request):
    """Start all rows that are asked for; return row -> future."""
    mine = [item for item in request.session.items if item.path == Path(__file__)]
    with ThreadPoolExecutor(2) as pool:
        names = [item.callspec.params["name"] for item in mine]
        yield {name: pool.submit(run, name) for name in names}
        pool.shutdown(cancel_futures=True)


def run(name: str, tree: Path = TESTS.parent, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command of ``make chaos`` for one row of this tree.

    Raises:
        TimeoutExpired: it took too long, and was interrupted, so that it ends its workers.
    """
    scale = str(scale_of(name))
    row = subprocess.Popen(
        [sys.executable, "-m", "chaos", name, "--seed", str(SEED), "--scale", scale],
        cwd=tree / "tests",
        env={**os.environ, "PYTHONPATH": str(tree), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = row.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        row.send_signal(signal.SIGINT)
        row.communicate(timeout=60)
        raise
    return subprocess.CompletedProcess(row.args, row.returncode, out, err)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_no_result_is_wrong_and_no_figure_missed(name: str, cut: dict[str, Future]) -> None:
    done = cut[name].result()
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
