"""Each allocation of the extension may fail: it raises a MemoryError, and stays sound."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import redismr

SCRIPT = Path(__file__).parent / "no_memory.py"


def test_any_allocation_may_be_refused():
    """In a process of its own, which would crash."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(SCRIPT)],
        env=os.environ | {"PYTHONPATH": str(Path(redismr.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    *refused, last = done.stdout.splitlines()
    assert last == "sound"
    assert all(int(line.rpartition(" ")[2]) >= 0 for line in refused), done.stdout
