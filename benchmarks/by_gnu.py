"""The GNU sort side: as many cores and about as much memory as all of redismr's executors."""

from __future__ import annotations

import os
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from benchmarks import sorting, tables
from benchmarks.measure import Side
from benchmarks.workloads import PROCESSES

MEMORY = "512M"


def side(_job_name: str) -> Side[Any]:
    """Return the side of the one job that GNU sort can do."""
    return sorting.side(nullcontext, lambda _: None, sort_files)


def sort_files(folder: Path, _opened: object) -> list[Path]:
    """Sort by the first ten bytes; records of equal keys stay in input order."""
    part = folder / "part"
    options = ["-s", "-k1.1,1.10", f"--parallel={PROCESSES}", "-S", MEMORY, "-T", str(folder)]
    command = ["sort", *options, "-o", str(part), *tables.records()]
    subprocess.run(command, env=os.environ | {"LC_ALL": "C"}, check=True)
    return [part]
