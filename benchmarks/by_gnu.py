"""GNU sort, with as many cores, and about as much memory as redismr's executors take together."""

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
    """The sort, which is all that it can do."""
    return sorting.side(nullcontext, lambda _: None, sort_files)


def sort_files(folder: Path, _opened: object) -> list[Path]:
    """By the first ten bytes; equal keys stay in input order."""
    part = folder / "part"
    options = ["-s", "-k1.1,1.10", f"--parallel={PROCESSES}", "-S", MEMORY, "-T", str(folder)]
    command = ["sort", *options, "-o", str(part), *tables.records()]
    subprocess.run(command, env=os.environ | {"LC_ALL": "C"}, check=True)
    return [part]
