"""Measure one side of a row: seconds, processor time, peak memory, a fingerprint of the result."""

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
    """Seconds of the work alone and with making the tool ready and putting it away.

    ``whole`` is there so that no tool hides its start. ``cpu`` is user and system time, during the
    work, of all processes of the side, servers included. ``peak_mb`` is the peak resident memory
    of the process that submits and collects, ``others_mb`` that of the largest process beside it.
    ``part`` is the share of the row's input that this side was given.
    """

    work: float
    whole: float
    cpu: float | None
    peak_mb: float
    others_mb: float
    digest: str
    part: float = 1.0

    @property
    def all_work(self) -> float:
        """``work``, had this side been given all of the input and stayed as fast."""
        return self.work / self.part

    @property
    def all_whole(self) -> float:
        """``whole``, likewise."""
        return self.whole - self.work + self.all_work


def digest(found: Mapping[Any, Any]) -> str:
    """How many keys, and a hash of all pairs whatever their order."""
    total = 0
    for pair in found.items():
        total += int.from_bytes(hashlib.blake2b(repr(pair).encode(), digest_size=8).digest())
    return f"{len(found)}:{total % (1 << 64):016x}"


def _no_warm_up(_opened: object) -> None:
    """A tool that is ready when it is open."""


def _unchanged(found: Any) -> Any:
    """A result that is there already."""
    return found


@dataclass(frozen=True, slots=True)
class SelfTimed:
    """What a program gave that has kept the time itself."""

    found: Any
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Side(Generic[T]):
    """How one tool does one job: it is opened, warmed, put to work (``repeat`` times), closed.

    ``collect`` makes the result of what the work gave, when no clock runs any more. ``expected``,
    where
    a side is given a ``part`` of the input only, is what it must come to: the loop that anybody
    would write.
    """

    work: Callable[[T], Any]
    open_tool: Callable[[], AbstractContextManager[T]] = nullcontext  # type: ignore[assignment]
    warm: Callable[[T], object] = _no_warm_up
    collect: Callable[[Any], Any] = _unchanged
    digest: Callable[[Any], str] = digest
    repeat: int = 1
    part: float = 1.0
    expected: Callable[[], Any] | None = None


def measure(side: Side[Any]) -> Measured:
    """Time the work on a warm tool; its result is fingerprinted after the clock has stopped.

    Raises:
        ValueError: the result of a part of the input is not what a plain loop gives.
    """
    proc.become_subreaper()
    began = time.perf_counter()
    times, found = [], None
    with side.open_tool() as opened:
        side.warm(opened)
        used = proc.cpu_seconds()
        for _ in range(side.repeat):
            found = None  # what the last one gave is not in memory beside what this one gives
            started = time.perf_counter()
            found = side.work(opened)
            times.append(time.perf_counter() - started)
            if isinstance(found, SelfTimed):
                times[-1], found = found.seconds, found.found
        used_then = proc.cpu_seconds()
        peak, others = proc.peak_mb(), proc.others_peak_mb()
        stopped = time.perf_counter()
        fingerprint = side.digest(side.collect(found))
        went_on = time.perf_counter()
    whole = time.perf_counter() - went_on + stopped - began
    if side.expected is not None and fingerprint != side.digest(side.expected()):
        raise ValueError("the result is not what a plain loop gives")
    cpu = None if used is None or used_then is None else (used_then - used) / side.repeat
    return Measured(median(times), whole, cpu, peak, others, fingerprint, side.part)
