"""The tools to compare with: which are installed, their versions, and the Python that runs each.

``make bench-peers`` installs the packages of peers.txt into ``.venv-peers``. A tool that is not
installed is reported as left out.
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
PEERS_VENV = Path(os.environ.get("REDISMR_BENCH_PEERS") or ROOT / ".venv-peers")
PEERS_PYTHON = PEERS_VENV / "bin" / "python"
REQUIREMENTS_FILE = Path(__file__).with_name("peers.txt")

TOOL_NAMES = {
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
"""The name of every tool in tables."""

OWN_PYTHON_TOOLS = {"redismr", "pool", "pool_gc", "futures"}
"""Tools that need redismr's own Python and nothing else."""


def python_for(tool: str) -> str:
    """Return the Python that runs the sides of a tool."""
    return sys.executable if tool in OWN_PYTHON_TOOLS | {"gnu", "mincemeat"} else str(PEERS_PYTHON)


def reason_missing(tool: str) -> str:
    """Return the reason why a tool cannot be compared here; empty if it can."""
    if tool == "mincemeat":
        from benchmarks.by_mincemeat import available

        return "" if available() else "no Python 2.7 here, or mincemeat.py cannot be fetched"
    if tool == "gnu":
        return "" if _gnu_sort_version() else "no GNU sort here"
    if tool not in OWN_PYTHON_TOOLS and tool not in _installed_versions():
        return "not installed: make bench-peers"
    if tool == "pyspark" and not shutil.which("java"):
        return "no java here"
    return ""


def version(tool: str) -> str:
    """Return the version of a tool that is installed."""
    if tool == "redismr":
        return __version__
    if tool in OWN_PYTHON_TOOLS:
        return platform.python_version()
    if tool == "gnu":
        return _gnu_sort_version()
    return "0.1.4" if tool == "mincemeat" else _installed_versions()[tool]


@functools.cache
def _installed_versions() -> dict[str, str]:
    """Return the versions of the listed packages in the peers' environment, by name."""
    if not PEERS_PYTHON.exists():
        return {}
    names = re.findall(r"^([\w-]+)", REQUIREMENTS_FILE.read_text(encoding="utf-8"), re.MULTILINE)
    code = (
        "import importlib.metadata as m, json, sys\n"
        "found = {d.name.lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))"
    )
    done = subprocess.run([PEERS_PYTHON, "-c", code, *names], stdout=subprocess.PIPE, check=True)
    return dict(json.loads(done.stdout))


@functools.cache
def _gnu_sort_version() -> str:
    if not shutil.which("sort"):
        return ""
    done = subprocess.run(["sort", "--version"], capture_output=True, text=True, check=False)
    match = re.match(r"sort \(GNU coreutils\) (\S+)", done.stdout)
    return match[1] if match else ""
