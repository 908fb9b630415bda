"""What a run ran on: for people who compare figures."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

from redismr import __version__


def describe_machine() -> dict[str, Any]:
    """Machine, system and versions, and how busy the machine was before."""
    found = {
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
    words = "python {python}, {cores} cores ({cpu}), {memory_gb} GB, load before {load}"
    return found | {"words": words.format(**found)}


def _first_match(pattern: str, path: str) -> str:
    try:
        found = re.search(pattern, Path(path).read_text(encoding="utf-8"))
    except OSError:
        return ""
    return found[1].strip() if found else ""
