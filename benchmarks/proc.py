"""What a program and all it has started have used so far: Linux only, elsewhere nothing is known.

CPU is read from the kernel's own books, so that it is counted whoever started a process: servers
and daemons that left their parents are adopted by the program that is measured.
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
    """User and system time of this process and its descendants, those that have ended included."""
    if not PROC.exists():
        return None
    ticks = sum(int(word) for stat in _process_tree_stats() for word in stat[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_mb(pid: int | str = "self") -> float:
    """The most memory that was resident in one process, its children not counted.

    Not ``ru_maxrss`` where that can be avoided: it is inherited from who started the program.
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
    """The largest peak of any descendant that is no Redis: workers, executors, JVMs, schedulers."""
    living = [
        peak_mb(stat[-1]) for stat in _process_tree_stats() if stat[-2] not in SERVER_BINARIES
    ]
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max([*living[1:], ended / (1 << 20 if sys.platform == "darwin" else 1 << 10)])


def descendants() -> list[int]:
    """The processes below this one, whoever started them."""
    return [int(stat[-1]) for stat in _process_tree_stats()][1:]


def _process_tree_stats() -> Iterator[list[str]]:
    """``/proc/PID/stat`` from its third field on, then name and pid: ours first, then all below."""
    stats: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for folder in PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            name, _, rest = (folder / "stat").read_text(errors="replace").rpartition(")")
            fields = rest.split()
            stats[folder.name] = [*fields, name.partition("(")[2], folder.name]
            below.setdefault(fields[1], []).append(folder.name)
    found = [str(os.getpid())]
    for pid in found:
        found += below.get(pid, ())
        if pid in stats:
            yield stats[pid]
