"""Skips bad records, counts and records them, instead of ending the job: the option ``on_error``.

All output of a record is collected before any of it is used, so that a skipped record contributes
nothing, neither pairs nor counters. This module wraps the functions of the program; without
``on_error`` nothing here runs. An error that is not due to one record or key still fails the task:
in combinefn, in a function of items, in the source, or on a value that a named reducer or the codec
refuses.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from types import GeneratorType
from typing import Any

from redismr.context import discard_counts_on_error
from redismr.core.failure_capture import is_debugger_exit, make_failure
from redismr.core.model import Crash, Failure, OnError, Skipped, Stage
from redismr.core.pickled_snapshots import CannotSnapshot
from redismr.core.printable import printable_text, short_repr
from redismr.core.value_snapshots import IMMUTABLE_TYPES, Snapshotter
from redismr.engine.emitted import (
    UserCodeError,
    check_pair,
    choose_value_snapshot,
    explain_output_error,
    iterate_pairs,
    snapshot_key,
)
from redismr.engine.partitioner import choose_partitions
from redismr.engine.program import GroupFunction, Program
from redismr.errors import DebuggerError

RECORDED_SKIPS_PER_TASK = 100  # the first ones, in full; all are counted

LocateRecords = Callable[[Sequence[int]], Iterable[Any]]  # ordinals -> places in words

_OUTSIDE_USER_CODE = -2
"""While no user function works on a record, ``cursor[0]`` is this constant minus the ordinal: if
the process dies while it reads, combines or encodes, the record must not be blamed."""


class SkipLimitExceeded(Exception):
    """The task skipped more than ``on_error`` allows; ``failure`` is the job's failure."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def max_skips(on_error: OnError, records_in: int | None) -> float | Fraction:
    """Return how many records may be skipped; ``records_in`` is None if not known yet."""
    if on_error == "skip":
        return math.inf
    if isinstance(on_error, float):
        return math.inf if records_in is None else Fraction(repr(float(on_error))) * records_in
    return int(on_error)


def skip_limit_failure(on_error: OnError, skipped: Skipped, records_in: int | None) -> Failure:
    """Return the failure of a job that skipped too much: the first skip, with message and notes."""
    of_all = f" of {records_in:,}" if isinstance(on_error, float) else ""
    count_text = f"{skipped.total:,}{of_all} record{'s'[: bool(of_all) or skipped.total != 1]}"
    first, *others = skipped
    notes = [f"skipped as well: {other.where}: {_summary(other)}" for other in others[:2]]
    return replace(
        first,
        kind="error",
        error_module="redismr.errors",
        error_name="TooManySkipped",
        message=f"{count_text} had to be skipped, more than on_error={on_error!r} allows; "
        f"the first with {_summary(first)}"[:500],
        notes=(*notes, "correct what they fail on, or allow more with on_error"),
        retryable=False,
    )


@dataclass(eq=False)
class SkipRecorder:
    """Records what one attempt skips; raises SkipLimitExceeded if the job skips too much."""

    stage: Stage
    task: str
    on_error: OnError  #: The limit of the job.
    locate_records: LocateRecords  #: Describes the places of records; may read the input.
    skipped_before: Skipped = field(default_factory=Skipped)  #: By the job, as known here.
    records_in: int | None = None  #: Records of the job; None in map tasks, which cannot know it.
    _recorded: list[tuple[int, Failure]] = field(
        init=False, default_factory=list
    )  #: Ordinal, reason.
    _total: int = field(init=False, default=0)  #: How many this attempt skipped.

    def __post_init__(self) -> None:
        self._check_limit()

    def _check_limit(self) -> None:
        total = self.skipped_before.total + self._total
        if total > max_skips(self.on_error, self.records_in):
            skipped = self.skipped_before.plus(self.skipped())
            raise SkipLimitExceeded(skip_limit_failure(self.on_error, skipped, self.records_in))

    def skip(
        self, function: str, ordinal: int, error: BaseException | Crash, key: Any, value: Any
    ) -> None:
        """Record that a record, or a key of reducefn, is left out because of ``error``."""
        self._total += 1
        if len(self._recorded) < RECORDED_SKIPS_PER_TASK:
            cause = error if isinstance(error, BaseException) else Exception(error.what)
            failure = make_failure(
                cause,
                stage=self.stage,
                task=self.task,
                function=function,
                kind="skipped",
                where=f"key {short_repr(key)}" if self.stage == "reduce" else "",
                key=key,
                value=value,
                retryable=False,
            )
            if isinstance(error, Crash):
                failure = replace(failure, error_module="redismr", error_name=error.name)
            self._recorded.append((ordinal, failure))
        self._check_limit()

    def skipped(self) -> Skipped:
        """Return what was skipped, with the place of each record."""
        if self.stage == "reduce":
            return Skipped((failure for _, failure in self._recorded), self._total)
        ordinals = [ordinal for ordinal, _ in self._recorded]
        places: list[str] = []
        with contextlib.suppress(Exception):  # the file may be gone
            places = [printable_text(place, 300) for place in self.locate_records(ordinals)]
        places += [f"record {ordinal + 1} of its task" for ordinal in ordinals[len(places) :]]
        kept = (
            replace(failure, where=place)
            for (_, failure), place in zip(self._recorded, places, strict=True)
        )
        return Skipped(kept, self._total)


def with_skipping_mapfn(
    program: Program,
    partitions: int,
    cursor: MutableSequence[int],
    skip_recorder: SkipRecorder,
    crashes: Mapping[int, Crash],
) -> Program:
    """Return the program with a mapfn that returns no pairs for a bad record.

    A record whose ordinal is in ``crashes`` is skipped without a call of mapfn, because it ends
    processes. A key without a partition makes its record bad; with a combinefn only the keys of
    combinefn need partitions, and no record is to blame for those.
    """
    call, snapshot_value = _mapfn_of_key_and_value(program), choose_value_snapshot(program)
    needs_partitions = program.combine is None

    def mapfn(key: Any, value: Any) -> list[tuple[Any, Any]]:
        pairs: list[tuple[Any, Any]] = []  # list[...]() would cost 1 us
        ordinal = cursor[0]
        function = "mapfn"
        error: BaseException | Crash | None = crashes.get(ordinal)
        if error is None:
            try:
                with discard_counts_on_error():
                    _collect_pairs(call, (key, value), pairs, "mapfn", snapshot_value)
                    if needs_partitions and pairs:
                        function = "partitionfn" if program.partitionfn else "mapfn"
                        choose_partitions(program, partitions, "mapfn", [k for k, _ in pairs])
            except BaseException as exc:
                error = exc
                if isinstance(exc, UserCodeError) and exc.__cause__ is not None:
                    error = exc.__cause__
                if _is_stop_request(error):
                    raise
        cursor[0] = _OUTSIDE_USER_CODE - ordinal
        if error is not None:
            skip_recorder.skip(function, ordinal, error, key, value)
            return []
        return pairs

    return replace(program, mapfn=mapfn, takes_value_only=False)


def with_skipping_reducefn(program: Program, skip_recorder: SkipRecorder) -> Program:
    """Return the program with a reducefn that yields nothing for a key on which it raises.

    A named reducer and a function of items stay: no single key is to blame for their errors.
    """
    reduce = program.reduce
    if not isinstance(reduce, GroupFunction) or reduce.takes_items:
        return program
    call, snapshot_value = reduce.call, Snapshotter().take

    def emit(key: Any, values: Any) -> Iterable[Any]:
        result = call(key, values)
        return result if isinstance(result, Iterator) else ((key, result),)

    def reducefn(key: Any, values: Any) -> Iterator[tuple[Any, Any]]:
        pairs: list[tuple[Any, Any]] = []
        try:
            with discard_counts_on_error():
                _collect_pairs(emit, (key, values), pairs, "reducefn", snapshot_value)
        except BaseException as exc:
            if _is_stop_request(exc):
                raise
            skip_recorder.skip("reducefn", -1, exc, key, values)
            return iter(())
        return iter(pairs)

    return replace(program, reduce=GroupFunction(reducefn))


def current_ordinal(cursor: Sequence[int]) -> int:
    """Return the ordinal of the record that was read last, -1 if none was read."""
    return cursor[0] if cursor[0] >= -1 else _OUTSIDE_USER_CODE - cursor[0]


def _mapfn_of_key_and_value(program: Program) -> Callable[[Any, Any], Any]:
    if (function := program.mapfn) is None:
        return lambda key, value: ((key, value),)
    return (lambda _key, value: function(value)) if program.takes_value_only else function


def _collect_pairs(
    emit: Callable[[Any, Any], Any],
    record: tuple[Any, Any],
    pairs: list[Any],
    role: str,
    snapshot_value: Callable[[Any], Any],
) -> None:
    """Add all pairs that ``emit`` emits for a record to ``pairs``, checked and as they are now."""
    out = pair = None
    try:
        out = emit(*record)
        for pair in out if type(out) is GeneratorType else iterate_pairs(out, role):
            if type(pair) is not tuple:
                check_pair(pair, role)
            k, v = pair
            hash(k)
            if type(v) not in IMMUTABLE_TYPES:
                # The kernel raises for a value without a snapshot; the record is not to blame.
                with contextlib.suppress(CannotSnapshot):
                    v = snapshot_value(v)
            pairs.append((snapshot_key(k), v))
    except BaseException as error:
        explained = explain_output_error(error, pair, role, out)
        if isinstance(out, GeneratorType):  # closed here, so that its last counts are discarded
            with contextlib.suppress(Exception):
                out.close()
        if explained is error:
            raise
        raise explained from None


def _is_stop_request(error: BaseException) -> bool:
    """True if a person wants to stop, or to debug: no record is to blame."""
    return isinstance(error, KeyboardInterrupt | DebuggerError) or is_debugger_exit(error)


def _summary(failure: Failure) -> str:
    first = failure.message.partition("\n")[0]
    return f"{failure.error_name}: {first[:160]}" if first else failure.error_name
