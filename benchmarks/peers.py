"""Which tools can be compared here, which versions they are, and what runs them.

``make bench-peers`` puts what peers.txt lists into ``.venv-peers``. What is not there is left out,
and said to be.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

from redismr import __version__

ROOT = Path(__file__).parents[1]
VENV = Path(os.environ.get("REDISMR_BENCH_PEERS") or ROOT / ".venv-peers")
PYTHON = VENV / "bin" / "python"
LISTED = Path(__file__).with_name("peers.txt")

NAMES = {
    "redismr": "redismr",
    "pool": "Pool by hand",
    "pool_gc": "Pool by hand, our GC settings",
    "futures": "concurrent.futures",
    "gnu": "GNU sort",
    "dask": "Dask",
    "ray": "Ray",
    "pyspark": "PySpark",
    "mincemeat": "mincemeat.py (Python 2.7)",
    "celery": "Celery",
    "rq": "RQ",
    "dramatiq": "Dramatiq",
    "huey": "Huey",
}
"""Every tool, as people know it."""

OURS = {"redismr", "pool", "pool_gc", "futures"}
"""What needs redismr's own Python and nothing else."""


def python_for(tool: str) -> str:
    """The Python that runs a side of that tool."""
    return sys.executable if tool in OURS | {"gnu", "mincemeat"} else str(PYTHON)


def missing(tool: str) -> str:
    """Why a tool cannot be compared here; empty if it can."""
    if tool == "mincemeat":
        from benchmarks.by_mincemeat import available

        return "" if available() else "no Python 2.7 here, or mincemeat.py cannot be fetched"
    if tool == "gnu":
        return "" if _gnu_sort() else "no GNU sort here"
    if tool not in OURS and tool not in _installed():
        return "not installed: make bench-peers"
    if tool == "pyspark" and not shutil.which("java"):
        return "no java here"
    return ""


def version(tool: str) -> str:
    """Of a tool that is not missing."""
    if tool == "redismr":
        return __version__
    if tool in OURS:
        return platform.python_version()
    if tool == "gnu":
        return _gnu_sort()
    return "0.1.4" if tool == "mincemeat" else _installed()[tool]


@functools.cache
def _installed() -> dict[str, str]:
    """What is in the peers' environment, by name, of what is listed."""
    if not PYTHON.exists():
        return {}
    wanted = re.findall(r"^([\w-]+)", LISTED.read_text(encoding="utf-8"), re.MULTILINE)
    code = (
        "import importlib.metadata as m, json, sys\n"
        "found = {d.name.lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))"
    )
    done = subprocess.run([PYTHON, "-c", code, *wanted], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


@functools.cache
def _gnu_sort() -> str:
    if not shutil.which("sort"):
        return ""
    said = subprocess.run(["sort", "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"sort \(GNU coreutils\) (\S+)", said.stdout)
    return found[1] if found else ""
