"""Measure one side of a row: seconds, processor time, peak memory, and a hash of the result."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Any, Generic, TypeVar

from benchmarks import proc

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one run of one side."""

    work: float
    """Seconds of the work alone."""
    whole: float
    """Seconds of the work, of opening and warming the tool before and closing it after."""
    cpu: float | None
    """User and system seconds, during the work, of all processes of the side, also servers."""
    peak_mb: float
    """Peak resident memory of the process that submits and collects."""
    others_mb: float
    """Peak resident memory of the largest other process that is no Redis."""
    digest: str
    part: float = 1.0
    """The share of the row's input that the side was given."""

    @property
    def all_work(self) -> float:
        """``work``, scaled to all of the input."""
        return self.work / self.part

    @property
    def all_whole(self) -> float:
        """``whole``, with the work scaled to all of the input."""
        return self.whole - self.work + self.all_work


def digest(result: Mapping[Any, Any]) -> str:
    """Return the number of keys, and a hash of all pairs that does not depend on their order."""
    total = 0
    for pair in result.items():
        total += int.from_bytes(hashlib.blake2b(repr(pair).encode(), digest_size=8).digest())
    return f"{len(result)}:{total % (1 << 64):016x}"


def _no_warm_up(_opened: object) -> None:
    """Do nothing: the tool is ready when it is open."""


def _unchanged(result: Any) -> Any:
    """Return the result as it is."""
    return result


@dataclass(frozen=True, slots=True)
class SelfTimed:
    """The result of a program that has measured the time itself."""

    result: Any
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Side(Generic[T]):
    """One job on one tool, which is opened, warmed, put to work ``repeat`` times, and closed."""

    work: Callable[[T], Any]
    open_tool: Callable[[], AbstractContextManager[T]] = nullcontext  # type: ignore[assignment]
    warm: Callable[[T], object] = _no_warm_up
    collect: Callable[[Any], Any] = _unchanged
    """Makes the result of what ``work`` returned, when no clock runs any more."""
    digest: Callable[[Any], str] = digest
    repeat: int = 1
    part: float = 1.0
    """The share of the row's input that the side is given."""
    expected: Callable[[], Any] | None = None
    """Returns the result that a plain loop gives, for a side that is given a part of the input."""


def measure(side: Side[Any]) -> Measured:
    """Time the work on a warm tool; hash the result after the clock has stopped.

    Raises:
        ValueError: The result of a part of the input differs from that of a plain loop.
    """
    proc.become_subreaper()
    opened_at = time.perf_counter()
    times, result = [], None
    with side.open_tool() as opened:
        side.warm(opened)
        cpu_before = proc.cpu_seconds()
        for _ in range(side.repeat):
            result = None  # the last result must not be in memory beside the next one
            started = time.perf_counter()
            result = side.work(opened)
            times.append(time.perf_counter() - started)
            if isinstance(result, SelfTimed):
                times[-1], result = result.seconds, result.result
        cpu_after = proc.cpu_seconds()
        peak, others = proc.peak_mb(), proc.others_peak_mb()
        stopped = time.perf_counter()
        fingerprint = side.digest(side.collect(result))
        resumed = time.perf_counter()
    whole = time.perf_counter() - resumed + stopped - opened_at
    if side.expected is not None and fingerprint != side.digest(side.expected()):
        raise ValueError("the result differs from that of a plain loop")
    cpu = None
    if cpu_before is not None and cpu_after is not None:
        cpu = (cpu_after - cpu_before) / side.repeat
    return Measured(median(times), whole, cpu, peak, others, fingerprint, side.part)
