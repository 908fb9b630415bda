"""Runs a whole job in the calling process, so that debuggers, profilers and print work.

An inline job is as strict as one on workers: it has several partitions, encodes and decodes every
block, and seeds ``random`` in each task. Otherwise errors would show up only on workers.
"""

import pickle
import platform
import random
import signal
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, MutableSequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import FrameType
from typing import Any, Self
from zlib import crc32

from redismr.context import Here, TaskContext, active_task
from redismr.core.annotations import Pair
from redismr.core.codec import Block, decode_block, encode_block
from redismr.core.failure_capture import is_debugger_exit, make_failure, user_traceback
from redismr.core.model import CollectedResult, OnError, Skipped, Stage, task_stage
from redismr.core.task_errors import make_task_error
from redismr.engine.bad_records import (
    LocateRecords,
    SkipLimitExceeded,
    SkipRecorder,
    current_ordinal,
    with_skipping_mapfn,
    with_skipping_reducefn,
)
from redismr.engine.kernel import UserCodeError, map_task, reduce_task
from redismr.engine.program import Program
from redismr.errors import NOT_RETRYABLE, LibraryMismatch, RecordError, SourceError, TaskError
from redismr.sources.protocol import Source, Split, describe_records
from redismr.sources.record_snapshots import pickle_split, unpickle_error

MIN_PARTITIONS = 2  # with one, a key without a stable hash or a renamed key would go unnoticed


def run_inline(
    source: Source,
    program: Program,
    *,
    partitions: int,
    params: Mapping[str, Any],
    sort: bool = False,
    seed: int = 0,
    on_error: OnError = "fail",
) -> CollectedResult[list[list[Pair]]]:
    """Run a job; return the pairs of each partition, the counters, and the skipped records.

    With ``sort``, pairs are in key order within each partition. The state of ``random`` is restored
    at the end.

    Raises:
        MapError, ReduceError: as on workers. The user function's error is the ``__cause__``, and
            both tracebacks end where the user function raised.
    """
    program, partitions = replace(program, sort=sort), max(partitions, MIN_PARTITIONS)
    with _random_restored(), _CtrlCWatch() as ctrl_c:
        job = _InlineJob(program, partitions, params, seed, on_error, ctrl_c)
        job.call_initfn()
        for number, split in enumerate(source.splits()):
            job.map(f"m{number}", split)
        results = [job.reduce(number) for number in range(job.partitions)]
    return CollectedResult(results, dict(job.counters), job.skipped)


class _CtrlCWatch:
    """Tells Ctrl-C in its body from a KeyboardInterrupt that a user function raises itself."""

    def __init__(self) -> None:
        self._was_pressed = False
        self._previous_handler: Any = None

    def __enter__(self) -> Self:
        # Only the main thread gets signals.
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):  # SIGINT is neither ignored nor handled outside Python
                self._previous_handler = previous
                try:
                    signal.signal(signal.SIGINT, self._handle)
                except ValueError:  # the main thread of a sub-interpreter gets no signals
                    self._previous_handler = None
            else:
                self._was_pressed = previous is None
        return self

    def __exit__(self, *_: object) -> None:
        # If a user function has set another handler, it stays.
        if self._previous_handler is not None and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._previous_handler)

    def caused(self, error: BaseException) -> bool:
        """True if the error is a KeyboardInterrupt and Ctrl-C was pressed."""
        return isinstance(error, KeyboardInterrupt) and self._was_pressed

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._was_pressed = True
        self._previous_handler(number, frame)


@dataclass
class _InlineJob:
    """State that the tasks of one run share."""

    program: Program
    partitions: int
    params: Mapping[str, Any]
    seed: int
    on_error: OnError
    ctrl_c: _CtrlCWatch
    counters: Counter[str] = field(default_factory=Counter)  #: What ``count`` added, by name.
    skipped: Skipped = field(default_factory=Skipped)  #: Records and keys left out so far.
    records_in: int = 0  #: Number of records that the map tasks have read.
    #: Ordinal of the current record and pairs emitted: the kernel moves it.
    cursor: MutableSequence[int] = field(default_factory=lambda: [-1, 0])
    #: Encoded blocks of the map tasks, by partition.
    shuffle: defaultdict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))

    def call_initfn(self) -> None:
        """Call initfn as a worker does before its first task."""
        initfn = self.program.initfn
        if initfn is None:
            return
        task = TaskContext(Here("inline", "init"), self.params, countable=False)
        with active_task(task), self._as_task_error("m0", "initfn"):
            try:
                initfn()
            except BaseException as error:
                raise UserCodeError("initfn") from error

    def map(self, task: str, split: Split) -> None:
        """Run one map task and keep its output."""
        frame = pickle_split(split)
        with self._as_task_error(task, "mapfn", split):
            split = _worker_copy(frame, split.source)
        with self._task_context(task, split.source), self._as_task_error(task, "mapfn", split):
            program = self.program
            skip_recorder = self._skip_recorder("map", task, partial(describe_records, split))
            if skip_recorder:
                program = with_skipping_mapfn(
                    program, self.partitions, self.cursor, skip_recorder, {}
                )
            blocks = map_task(program, split.read(), self.partitions, self.cursor)
            for partition, block in blocks:
                self.shuffle[partition].append(encode_block(block))
            self.records_in += current_ordinal(self.cursor) + 1
            self._add_skipped(skip_recorder)

    def reduce(self, partition: int) -> list[Pair]:
        """Run one reduce task; return its results."""
        task = f"r{partition}"
        with (
            self._task_context(task, f"partition {partition}"),
            self._as_task_error(task, "reducefn"),
        ):
            program, skip_recorder = self.program, self._skip_recorder("reduce", task, list)
            if skip_recorder:
                program = with_skipping_reducefn(program, skip_recorder)
            blocks = map(_decoded_block, self.shuffle.pop(partition, ()))
            results = reduce_task(program, blocks, self.cursor, partition, self.partitions)
            encoded = [encode_block(block) for block, _ in results]
            self._add_skipped(skip_recorder)
        return [pair for data in encoded for pair in zip(*decode_block(data), strict=True)]

    def _skip_recorder(self, stage: Stage, task: str, places: LocateRecords) -> SkipRecorder | None:
        if self.on_error == "fail":
            return None
        records_in = self.records_in if stage == "reduce" else None
        return SkipRecorder(
            stage, task, self.on_error, places, skipped_before=self.skipped, records_in=records_in
        )

    def _add_skipped(self, skip_recorder: SkipRecorder | None) -> None:
        if skip_recorder:
            self.skipped = self.skipped.plus(skip_recorder.skipped())

    @contextmanager
    def _as_task_error(
        self, task: str, function: str, split: Split | None = None
    ) -> Iterator[None]:
        """Turn errors of user code into task errors; Ctrl-C and the debugger's end stay as is."""
        try:
            yield
        # 1. After the last record, more are skipped than the job allows.
        except SkipLimitExceeded as error:
            raise make_task_error(error.failure) from error
        # 2. User code raised; the cause may also be too many skips, Ctrl-C or the debugger's end.
        except UserCodeError as error:
            cause = error.__cause__ or error
            if isinstance(cause, SkipLimitExceeded):
                raise make_task_error(cause.failure) from cause.__context__
            task_error = _task_error(error, cause, task, split)
            # A debugger shows this traceback after the end: it must hold no frames of redismr.
            cause.__traceback__ = user_traceback(cause.__traceback__)
            if is_debugger_exit(cause) or self.ctrl_c.caused(cause):
                raise cause from None
            raise task_error.with_traceback(cause.__traceback__) from cause
        # 3. A record is unusable, or the source cannot be read.
        except RecordError as error:
            raise _task_error(UserCodeError(function), error, task, None) from error
        except SourceError as error:
            raise _task_error(UserCodeError("source"), error, task, None) from error.__cause__

    @contextmanager
    def _task_context(self, task: str, source: str) -> Iterator[None]:
        seed = f"{self.seed}.{task}"
        random.seed(seed)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed(crc32(seed.encode()))
        here = Here("inline", task_stage(task), task, source)
        with active_task(TaskContext(here, self.params)) as context:
            yield
        self.counters.update(context.counters)


def _worker_copy(frame: bytes, source: str) -> Split:
    """Return the split as a worker gets it: functions cannot change the caller's objects."""
    try:
        return pickle.loads(frame)  # type: ignore[no-any-return]  # noqa: S301 - made here
    except Exception as error:  # noqa: BLE001 - classes of the user may raise anything
        raise UserCodeError("source") from unpickle_error(f"{source} of the source", error)


def _decoded_block(frame: bytes) -> Block:
    try:
        return decode_block(frame)
    except Exception as error:  # noqa: BLE001 - as above
        unusable = unpickle_error("what mapfn emitted", error, "Emit what is in it instead")
        raise UserCodeError("") from unusable


def _task_error(
    error: UserCodeError, cause: BaseException, task: str, split: Split | None
) -> TaskError | LibraryMismatch:
    failure = make_failure(
        cause,
        stage=task_stage(task),
        task=task,
        function=error.function,
        where="" if split is None or error.ordinal < 0 else split.where(error.ordinal),
        key=error.key,
        value=error.value,
        python=platform.python_version(),
        retryable=not isinstance(cause, NOT_RETRYABLE),
    )
    return make_task_error(failure)


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
