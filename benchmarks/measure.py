"""Measure one side of a row: seconds, peak memory, and a fingerprint of what came out."""

from __future__ import annotations

import hashlib
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of the work alone and with making the tool ready and putting it away.

    ``whole`` is there so that no tool hides its start; ``peak_mb`` is the peak resident memory
    of the process that submits and collects, its children not counted.
    """

    work: float
    whole: float
    peak_mb: float
    digest: str


def measure(
    tool: Callable[[], AbstractContextManager[T]],
    warm: Callable[[T], object],
    work: Callable[[T], Mapping[Any, Any]],
) -> Measured:
    """Time ``work`` on a warm tool; its result is fingerprinted after the clock has stopped."""
    began = time.perf_counter()
    with tool() as opened:
        warm(opened)
        started = time.perf_counter()
        found = work(opened)
        ended = time.perf_counter()
    closed = time.perf_counter()
    return Measured(ended - started, closed - began, _peak_mb(), _digest(found))


def _digest(found: Mapping[Any, Any]) -> str:
    """How many keys, the sum of their values, and a hash of all pairs whatever their order."""
    total = 0
    for pair in found.items():
        total += int.from_bytes(hashlib.blake2b(repr(pair).encode(), digest_size=8).digest())
    return f"{len(found)}:{sum(found.values())}:{total % (1 << 64):016x}"


def _peak_mb() -> float:
    """Of this program alone: ``ru_maxrss`` is inherited from the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="ascii"))
        if peak is not None:
            return int(peak[1]) / 1024
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_bytes / (1 << 20 if sys.platform == "darwin" else 1 << 10)
