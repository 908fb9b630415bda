"""Runs a whole job in the calling process, so that a debugger, a profiler or a print just works.

As strict as a cluster: several partitions, blocks that really are encoded and decoded, the same
seeded ``random`` in each task. What works here because it is local would only fail later, there.
"""

from __future__ import annotations

import pickle
import platform
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from zlib import crc32

from redismr.context import Here, TaskContext, running
from redismr.core.codec import Block, decode_block, encode_block
from redismr.core.functions import Program
from redismr.core.kernel import UserCodeError, map_task, reduce_task
from redismr.core.model import OnError, Skipped, Stage, task_stage
from redismr.core.skips import Places, Skipper, TooMany, ordinal_of, skipping_map, skipping_reduce
from redismr.core.trace import error_of, failure_of, quits_debugger, users_part
from redismr.errors import (
    FATAL,
    LibraryMismatch,
    RecordError,
    SourceError,
    TaskError,
)
from redismr.local.interrupts import Interrupts
from redismr.sources.kept import frame_of, unmade
from redismr.sources.protocol import Source, Split, places

MIN_PARTITIONS = 2
"""With one, a key that has no stable hash or a reducer that renames keys would go unnoticed."""


def run_inline(
    source: Source,
    program: Program,
    *,
    partitions: int,
    params: Mapping[str, Any],
    sort: bool = False,
    seed: int = 0,
    on_error: OnError = "fail",
) -> tuple[list[tuple[Any, Any]], dict[str, int], Skipped]:
    """The results in partition order (in key order within each with ``sort``), counters, skips.

    The process's own ``random`` is left as it was found.

    Raises:
        MapError, ReduceError: as on workers. What a function of the user's raised is its
            ``__cause__``, and the traceback of both ends where that was.
        SourceError: the source cannot be looked at, or cannot go on. BadValue: a worker could not
            get it.
        KeyboardInterrupt: Ctrl-C. BdbQuit: the debugger was left.
    """
    program, partitions = replace(program, sort=sort), max(partitions, MIN_PARTITIONS)
    with _random_restored(), Interrupts() as interrupts:
        job = _InlineJob(program, partitions, params, seed, on_error, interrupts)
        job.init()
        for number, split in enumerate(source.splits()):
            job.map(f"m{number}", split)
        pairs = [pair for number in range(job.partitions) for pair in job.reduce(number)]
    return pairs, dict(job.counters), job.skipped


class _InlineJob:
    """What the tasks of one run share: the program, the shuffle in memory, counters, skips."""

    def __init__(
        self,
        program: Program,
        partitions: int,
        params: Mapping[str, Any],
        seed: int,
        on_error: OnError,
        interrupts: Interrupts,
    ) -> None:
        self.program, self.partitions, self._on_error = program, partitions, on_error
        self._interrupts = interrupts
        self.counters: Counter[str] = Counter()
        self.skipped, self._records_in = Skipped(), 0
        self._params, self._seed = params, seed
        self._cursor: MutableSequence[int] = [-1, 0]
        self._shuffle: list[list[bytes]] = [[] for _ in range(partitions)]

    def init(self) -> None:
        """Call initfn as a worker does before its first task."""
        initfn = self.program.initfn
        if initfn is None:
            return
        task = TaskContext(Here("inline", "init"), self._params, countable=False)
        with running(task), self._told("m0", "initfn"):
            try:
                initfn()
            except BaseException as error:
                raise UserCodeError("initfn") from error

    def map(self, task: str, split: Split) -> None:
        """Run one map task and keep its output."""
        frame = frame_of(split)
        with self._told(task, "mapfn", split):
            split = _copy_of(frame, split.source)
        with self._running(task, split.source), self._told(task, "mapfn", split):
            program, skipper = self.program, self._skipper("map", task, partial(places, split))
            if skipper:
                program = skipping_map(program, self.partitions, self._cursor, skipper, {})
            blocks = map_task(program, split.read(), self.partitions, self._cursor)
            for partition, (keys, values) in blocks:
                self._shuffle[partition].append(encode_block(keys, values))
            self._records_in += ordinal_of(self._cursor) + 1
            self._account(skipper)

    def reduce(self, partition: int) -> list[tuple[Any, Any]]:
        """Run one reduce task; returns its results."""
        task = f"r{partition}"
        with self._running(task, f"partition {partition}"), self._told(task, "reducefn"):
            program, skipper = self.program, self._skipper("reduce", task, list)
            if skipper:
                program = skipping_reduce(program, skipper)
            blocks = map(_block_of, self._shuffle[partition])
            results = reduce_task(program, blocks, self._cursor, partition, self.partitions)
            encoded = [encode_block(*block) for block, _ in results]
            self._account(skipper)
        self._shuffle[partition].clear()
        return [pair for data in encoded for pair in zip(*decode_block(data), strict=True)]

    def _skipper(self, stage: Stage, task: str, places: Places) -> Skipper | None:
        """What takes note of bad records, if any may be skipped."""
        if self._on_error == "fail":
            return None
        records_in = self._records_in if stage == "reduce" else None
        return Skipper(
            stage, task, self._on_error, places, before=self.skipped, records_in=records_in
        )

    def _account(self, skipper: Skipper | None) -> None:
        if skipper:
            self.skipped = self.skipped.plus(skipper.skipped())

    @contextmanager
    def _told(self, task: str, function: str, split: Split | None = None) -> Iterator[None]:
        """What the user's code raises in the body becomes a MapError or ReduceError.

        But not what a person wants: an end, by Ctrl-C or from the debugger.
        """
        try:
            yield
        except TooMany as error:
            raise error_of(error.failure) from error
        except UserCodeError as error:
            cause = error.__cause__ or error
            if isinstance(cause, TooMany):
                raise error_of(cause.failure) from cause.__context__
            told = _task_error(error, cause, task, split)
            # Where a debugger looks, after the end: not into our frames, which led there.
            cause.__traceback__ = users_part(cause.__traceback__)
            if quits_debugger(cause) or self._interrupts.explain(cause):
                raise cause from None
            raise told.with_traceback(cause.__traceback__) from cause
        except RecordError as error:
            raise _task_error(UserCodeError(function), error, task, None) from error
        except SourceError as error:
            raise _task_error(UserCodeError("source"), error, task, None) from error.__cause__

    @contextmanager
    def _running(self, task: str, source: str) -> Iterator[None]:
        """Count, seed and place as a worker does it for this task."""
        seed = f"{self._seed}.{task}"
        random.seed(seed)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed(crc32(seed.encode()))
        here = Here("inline", task_stage(task), task, source)
        with running(TaskContext(here, self._params)) as context:
            yield
        self.counters.update(context.counters)


def _copy_of(frame: bytes, source: str) -> Split:
    """What a worker would get: what functions do to it does not reach the caller's own objects."""
    try:
        return pickle.loads(frame)  # type: ignore[no-any-return]  # noqa: S301 - made here
    except Exception as error:  # noqa: BLE001 - whatever the user's classes raise
        raise UserCodeError("source") from unmade(f"{source} of the source", error)


def _block_of(frame: bytes) -> Block:
    """What a reducer would get of what mapfn emitted."""
    try:
        return decode_block(frame)
    except Exception as error:  # noqa: BLE001 - as above
        bad = unmade("what mapfn emitted", error, "Emit what is in it instead")
        raise UserCodeError("") from bad


def _task_error(
    error: UserCodeError, cause: BaseException, task: str, split: Split | None
) -> TaskError | LibraryMismatch:
    where = "" if split is None or error.ordinal < 0 else split.where(error.ordinal)
    failure = failure_of(
        cause,
        stage=task_stage(task),
        task=task,
        function=error.function,
        where=where,
        key=error.key,
        value=error.value,
        python=platform.python_version(),
        retryable=not isinstance(cause, FATAL),
    )
    return error_of(failure)


@contextmanager
def _random_restored() -> Iterator[None]:
    state, numpy = random.getstate(), sys.modules.get("numpy")
    numpy_state = numpy.random.get_state() if numpy else None
    try:
        yield
    finally:
        random.setstate(state)
        if numpy:
            numpy.random.set_state(numpy_state)
