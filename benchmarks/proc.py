"""Measure the processor time and memory of a program and all its descendants, on Linux only.

Processor time is read from /proc, so every descendant counts: a server or daemon whose parent has
ended is adopted by the measured program.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
PROC = Path("/proc")
SERVER_BINARIES = {"valkey-server", "redis-server"}


def become_subreaper() -> None:
    """Become the parent of every descendant whose own parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def cpu_seconds() -> float | None:
    """Return user and system time of this process and its descendants, also of ended ones."""
    if not PROC.exists():
        return None
    ticks = sum(int(word) for stat in _process_tree_stats() for word in stat[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int | str = "self") -> float:
    """Return the peak resident memory of one process, without its children.

    ``ru_maxrss`` is used only where there is no /proc: a process inherits it from its parent.
    """
    with contextlib.suppress(OSError):
        status = (PROC / str(pid) / "status").read_text(encoding="ascii", errors="replace")
        peak = re.search(r"VmHWM:\s*(\d+) kB", status)
        return int(peak[1]) / 1024 if peak else 0.0
    if pid != "self":
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def others_peak_mb() -> float:
    """Return the largest peak of a descendant that is no Redis: a worker, a JVM, a scheduler."""
    living = [
        peak_mb(stat[-1]) for stat in _process_tree_stats() if stat[-2] not in SERVER_BINARIES
    ]
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max([*living[1:], ended / (1 << 20 if sys.platform == "darwin" else 1 << 10)])


def descendants() -> list[int]:
    """Return the pids of all descendants."""
    return [int(stat[-1]) for stat in _process_tree_stats()][1:]


def _process_tree_stats() -> Iterator[list[str]]:
    """Yield ``/proc/PID/stat`` from field 3 on, then name and pid: first of this process."""
    stats: dict[str, list[str]] = {}
    children: dict[str, list[str]] = {}
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")
            fields = rest.split()
            stats[folder.name] = [*fields, name.partition("(")[2], folder.name]
            children.setdefault(fields[1], []).append(folder.name)
    pids = [str(os.getpid())]
    for pid in pids:
        pids += children.get(pid, ())
        if pid in stats:
            yield stats[pid]
