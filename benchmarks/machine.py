"""Describe the machine of a run, for people who compare figures."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from redismr import __version__


def describe_machine() -> dict[str, Any]:
    """Return the machine, the system, versions, and the load of the machine before the run."""
    facts = {
        "cpu": _first_match(r"model name\s*:\s*(.+)", "/proc/cpuinfo") or platform.machine(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "redismr": __version__,
        "load": round(os.getloadavg()[0], 1),
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }
    summary = "python {python}, {cores} cores ({cpu}), {memory_gb} GB, load before {load}"
    return facts | {"words": summary.format(**facts)}


def _first_match(pattern: str, path: str) -> str:
    try:
        match = re.search(pattern, Path(path).read_text(encoding="utf-8"))
    except OSError:
        return ""
    return match[1].strip() if match else ""
