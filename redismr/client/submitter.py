"""The submitter: reads a source lazily, adds its splits as map tasks, and closes the input.

Map tasks run while the source is still being read. A source may be slow between two records: a
background thread adds the splits that were read before, and renews the submitter's own lease. If
the submitter is lost, that lease ends, and the job fails.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from redismr import errors
from redismr.core.codec import split_frame
from redismr.core.job_payloads import JobSealer
from redismr.core.model import ENDED_STATES, JobSpec
from redismr.core.status_rows import InputAmount
from redismr.sources import Source, Split
from redismr.sources.protocol import amount_of
from redismr.sources.record_snapshots import pickle_split
from redismr.store import SMALL_JOB_TASKS, Store, WakeTarget, clear_int

MAX_UNFINISHED = 10_000
MAX_UNFINISHED_BYTES = 256 << 20
"""Unfinished tasks, and bytes of them, at which the submitter waits for the workers."""

SUBMIT_FLUSH_BYTES = 1 << 20
SUBMIT_FLUSH_TASKS = 500
SUBMIT_FLUSH_SECONDS = 0.005
"""A quick source fills the buffer for this long: the 90 tasks of a job of 200 items are added in 5
round trips instead of 25. A hundred such jobs took 3.5 s instead of 8.2 s."""

LINGER_SECONDS = 0.05
"""The background thread adds buffered splits after this long, if the source gives no more."""

BACKGROUND_PATIENCE_SECONDS = 1.0
"""How long the background thread waits for a server that is away. The caller's own patience would
make the caller wait twice: for the thread, and then for the server."""

SUBMIT_LEASE_MS = 15_000
_MAX_SUBMIT_ATTEMPTS = 5


@dataclass(slots=True)
class Submitted:
    """How much of the input is in Redis."""

    tasks: int = 0  #: Map tasks.
    finished: int = 0  #: Of these tasks, how many workers have finished.
    bytes: int = 0  #: Sealed bytes of all tasks.
    input_amount: InputAmount = field(default_factory=InputAmount)  #: With the buffered splits.


@dataclass(slots=True)
class SplitBuffer:
    """Sealed splits that are not in Redis yet. Times are those of ``time.monotonic()``."""

    #: By the index of the map task, the fields that hold its input.
    splits: dict[int, dict[str, bytes]] = field(default_factory=dict)
    size: int = 0  #: Bytes of all fields.
    filled_since: float = 0.0  #: When the first of the splits was put in.
    flush_at: float = 0.0  #: The first split that is put in from this time on makes a flush due.

    def put(self, index: int, fields: dict[str, bytes]) -> bool:
        """Add a split; return True if it is time to flush.

        The very first split is flushed at once, unless ``flush_at`` was set.
        """
        now = time.monotonic()
        if not self.splits:
            self.filled_since = now
        self.splits[index] = fields
        self.size += sum(map(len, fields.values()))
        is_full = self.size >= SUBMIT_FLUSH_BYTES or len(self.splits) >= SUBMIT_FLUSH_TASKS
        return is_full or now >= self.flush_at

    def is_overdue(self) -> bool:
        """True if the first split has waited ``LINGER_SECONDS`` for more splits."""
        return bool(self.splits) and time.monotonic() >= self.filled_since + LINGER_SECONDS

    def clear(self) -> None:
        """Forget the splits, which are in Redis now."""
        self.splits, self.size = {}, 0
        self.flush_at = time.monotonic() + SUBMIT_FLUSH_SECONDS


class Submitter:
    """Adds the splits of one source to one job, and closes the job's input.

    ``on_step`` is called often, to report progress; ``cancel`` cancels the job; ``check_frame``
    looks at the pickled first split. ``executors`` is how many there are, 0 if that is not known.
    """

    def __init__(
        self,
        store: Store,
        sealer: JobSealer,
        expire_at: int,
        spec: JobSpec,
        *,
        executors: int,
        on_step: Callable[[], None],
        cancel: Callable[[], object],
        check_frame: Callable[[bytes], object],
    ) -> None:
        self._store, self._sealer, self._expire_at = store, sealer, expire_at
        self._background_store = store.with_patience(BACKGROUND_PATIENCE_SECONDS)
        self._spec = spec
        #: In one flush; more of them than executors would make executors look in vain.
        self._max_wakeups = executors or SUBMIT_FLUSH_TASKS
        self._on_step, self._cancel, self._check_frame = on_step, cancel, check_frame
        self._submitted, self._buffer = Submitted(), SplitBuffer()
        self._buffer_lock = threading.Lock()
        self._stop = threading.Event()
        self._job_is_gone = False

    def submit(self, source: Source) -> int:
        """Add every split as a task, and close the input; return the number of tasks.

        Raises:
            JobEnded: the job has ended meanwhile. JobLost: it vanished from Redis.
            InputLost: a failover took back a part of the input, which cannot be added again.
            Exception: what the source raised; the job is cancelled.
        """
        background = _background_thread(self._flush_and_renew)
        background.start()
        try:
            return self._add_and_close(source)
        except BaseException as exc:
            self._cancel_after_error(exc)
            raise
        finally:
            self._stop.set()
            background.join()

    def _add_and_close(self, source: Source) -> int:
        spec = self._spec
        for _ in range(_MAX_SUBMIT_ATTEMPTS):
            try:
                n = self._add_splits(source)
                # A full server may have dropped what ``create`` announced, and nobody else may
                # announce the job later.
                self._store.announce(
                    spec.job_id, spec.priority, spec.submitted_ms, wait_for_room=True
                )
                self._close_input(n)
            # A failover took back tasks: add all of them again, if the source can be read again.
            except InputRolledBack:
                if not source.rereadable:
                    why = "and its source can be read only once"
                    raise input_lost_error(spec.job_id, why) from None
                with self._buffer_lock:
                    self._submitted, self._buffer = Submitted(), SplitBuffer()
            else:
                return n
        raise input_lost_error(spec.job_id, f"{_MAX_SUBMIT_ATTEMPTS} times, one after another")

    def _close_input(self, n: int) -> None:
        try:
            close_input(self._store, self._sealer, self._spec.python, n)
        except JobEnded as ended:
            # A job that had all of its input, and failed quickly, is no error here.
            if ended.state not in ENDED_STATES:
                raise

    def _add_splits(self, source: Source) -> int:
        index = 0
        # A source that can be read again is quick, as a rule: then its first splits go together.
        if source.rereadable:
            self._buffer.flush_at = time.monotonic() + SUBMIT_FLUSH_SECONDS
        for split in source.splits():
            if self._job_is_gone:
                raise _job_lost_error(self._sealer.job)
            fields = self._sealed_split(index, split)
            with self._buffer_lock:
                if must_hand_in := self._buffer.put(index, fields):
                    self._flush()
            index += 1
            if must_hand_in:
                self._on_step()
                self._apply_backpressure()
        with self._buffer_lock:
            self._flush()
        return index

    def _sealed_split(self, index: int, split: Split) -> dict[str, bytes]:
        task, frame, seal = f"m{index}", pickle_split(split), self._sealer.seal_input
        self._submitted.input_amount.add(index, amount_of(split))
        if index == 0:  # the other splits are mostly like the first
            self._check_frame(frame)
        try:
            pieces = enumerate(split_frame(frame))
            return {f"{task}.{piece}": seal(task, piece, data) for piece, data in pieces}
        except errors.BadValue as exc:
            raise errors.BadValue(f"{split.source}: {exc}") from None

    def _flush(self, store: Store | None = None) -> None:
        """Add the buffered splits as tasks; they stay in the buffer if that fails."""
        buffer, submitted = self._buffer, self._submitted
        if not buffer.splits:
            return
        first, last = min(buffer.splits), max(buffer.splits) + 1
        wakeups = min(last - submitted.tasks, self._max_wakeups)
        if last <= SMALL_JOB_TASKS and not submitted.tasks:
            wakeups = 1  # the executor that claims first wakes the others
        waking = wakeups, self._spec.python, self._sealer.keyring.key_id
        self._add_range(first, last, buffer.splits, waking=waking, store=store)
        submitted.tasks = last
        submitted.bytes += buffer.size
        buffer.clear()

    def _add_range(
        self, first: int, last: int, splits: Mapping[int, Mapping[str, bytes]],
        workers: Sequence[str] = (), waking: WakeTarget | None = None, store: Store | None = None,
    ) -> None:  # fmt: skip
        job, until, store = self._sealer.job, self._expire_at, store or self._store
        added = store.add(
            job, first, last, splits, until, workers=workers, waking=waking,
            input_so_far=str(self._submitted.input_amount),
        )  # fmt: skip
        self._submitted.finished = added.finished
        if added.status == "GONE":
            raise _job_lost_error(self._sealer.job)
        if added.status == "ENDED":
            raise JobEnded(added.state)
        if added.status == "SHORT" or added.added < last:
            raise InputRolledBack

    def _apply_backpressure(self) -> None:
        submitted = self._submitted
        while submitted.tasks:
            unfinished = submitted.tasks - submitted.finished
            unfinished_bytes = unfinished * submitted.bytes // submitted.tasks
            if unfinished < MAX_UNFINISHED and unfinished_bytes < MAX_UNFINISHED_BYTES:
                return
            self._on_step()
            time.sleep(0.02)
            self._add_range(submitted.tasks, submitted.tasks, {})

    def _flush_and_renew(self) -> None:
        """Flush overdue splits and renew the submitter's lease, until the submitter stops."""
        renew_seconds = SUBMIT_LEASE_MS / 6000
        renew_at, is_healthy = time.monotonic() + renew_seconds, True
        while not self._stop.wait(LINGER_SECONDS):
            try:
                # The source is slow: add the splits that it has given.
                if is_healthy and self._buffer.is_overdue():
                    with self._buffer_lock:
                        self._flush(self._background_store)
                # Six times in each lease: renew it.
                if time.monotonic() >= renew_at:
                    renew_at, is_healthy = time.monotonic() + renew_seconds, True
                    self._renew_lease()
            except errors.RedismrError:
                # The main thread meets the same error with its next split, and raises it.
                is_healthy = False

    def _renew_lease(self) -> None:
        self._job_is_gone = self._background_store.add(self._sealer.job, 0, 0).status == "GONE"
        meta = self._background_store.meta(self._sealer.job, "expire_at")
        self._expire_at = clear_int(meta.get("expire_at")) or self._expire_at

    def _cancel_after_error(self, exc: BaseException) -> None:
        """Cancel the job: nobody else can complete its input, and workers would work in vain."""
        has_ended = isinstance(exc, JobEnded | errors.JobError)
        if has_ended and not isinstance(exc, errors.NoWorkers | InputLost):
            return
        if isinstance(exc, errors.StoreUnavailable):
            return  # the server cannot be told; the job fails when the submitter's lease is over
        with contextlib.suppress(errors.RedismrError):
            self._cancel()


def _background_thread(target: Callable[[], None]) -> threading.Thread:
    """Make a daemon thread; in a sub-interpreter, which has none, a thread that is joined."""
    try:
        return threading.Thread(target=target, name="submitter", daemon=True)
    except RuntimeError:
        return threading.Thread(target=target, name="submitter")


def close_input(store: Store, sealer: JobSealer, python: str, n: int) -> None:
    """Close the input of a job: seal that all of its ``n`` map tasks are there.

    Raises:
        JobEnded: the job has ended. InputRolledBack: the server has fewer tasks.
        JobLost: the server does not know the job.
    """
    nonce = secrets.token_urlsafe(8)
    closed = store.close(sealer.job, n, nonce, sealer.seal_end(n))
    if closed.status == "GONE":
        raise _job_lost_error(sealer.job)
    if closed.status == "ENDED" and closed.state != "succeeded":
        raise JobEnded(closed.state)
    if closed.status == "SHORT":
        raise InputRolledBack
    store.wake(closed.opened, python, sealer.keyring.key_id)


def _job_lost_error(job: str) -> errors.JobLost:
    return errors.JobLost(f"job {job} vanished from Redis while it was submitted", job_id=job)


def input_lost_error(job: str, why: str) -> InputLost:
    """Return the error for input that a failover took back; ``why`` it cannot be added again."""
    return InputLost(
        f"Redis lost a part of the input of job {job} (a failover), {why}: submit the job anew",
        job_id=job,
    )


class InputRolledBack(errors.RedismrError):
    """A failover took back tasks that had been added: all tasks must be added again."""


class InputLost(errors.JobFailed):
    """A failover took back tasks that had been added, and that cannot be added again."""


class JobEnded(errors.RedismrError):
    """The job ended before its input was complete; the job's handle tells why."""

    def __init__(self, state: str) -> None:
        super().__init__(f"the job is {state}")
        self.state = state
