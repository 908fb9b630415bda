"""Hands a job in: lazily, idempotently, and alive while it does.

Map tasks run while the source is still read. A source may take its time between two records: a
thread hands in what was read before, and keeps the submitter's own lease; when that is lost, the
job fails.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from redismr.core.codec import chunks_of
from redismr.core.model import ENDED_STATES, JobSpec
from redismr.core.vault import Vault
from redismr.core.work import Extent
from redismr.errors import (
    BadValue,
    JobError,
    JobFailed,
    JobLost,
    NoWorkers,
    RedismrError,
    StoreUnavailable,
)
from redismr.sources import Source, Split
from redismr.sources.kept import frame_of
from redismr.sources.protocol import amount_of
from redismr.store import FEW_TASKS, Store, Waking, number

MAX_UNFINISHED = 10_000
"""Tasks handed in but not done at which the submitter waits for the workers."""

MAX_UNFINISHED_BYTES = 256 << 20
FLUSH_BYTES = 1 << 20
FLUSH_TASKS = 500
FLUSH_SECONDS = 0.005
"""A quick source fills a buffer for this long: the 90 tasks of a job of 200 items are handed in
with 5 round trips instead of 25. A hundred such jobs took 3.5 s instead of 8.2 s."""

LINGER_SECONDS = 0.05
"""What is in the buffer is handed in after this long, though the source gives nothing more."""

BESIDE_SECONDS = 1.0
"""How long the thread waits for a server that is away: the caller's patience is for the caller, who
would else wait for the thread and then once more."""

SUBMIT_LEASE_MS = 15_000
_TRIES_AFTER_REWIND = 5


@dataclass(slots=True)
class Handed:
    """Where the hand-in stands."""

    tasks: int = 0
    finished: int = 0
    bytes: int = 0
    extent: Extent = field(default_factory=Extent)


@dataclass(slots=True)
class Buffer:
    """Splits that were read and not handed in yet, sealed, and since when the first waits."""

    splits: dict[int, dict[str, bytes]] = field(default_factory=dict)
    size: int = 0
    since: float = 0.0
    due: float = 0.0

    def put(self, index: int, fields: dict[str, bytes]) -> bool:
        """One split more; whether it is time to hand in.

        The first of all goes at once, unless ``due`` says when.
        """
        now = time.monotonic()
        if not self.splits:
            self.since = now
        self.splits[index] = fields
        self.size += sum(map(len, fields.values()))
        return self.size >= FLUSH_BYTES or len(self.splits) >= FLUSH_TASKS or now >= self.due

    def lingers(self) -> bool:
        """Whether something waits for a source that gives nothing more."""
        return bool(self.splits) and time.monotonic() >= self.since + LINGER_SECONDS

    def clear(self) -> None:
        """What was in it is handed in."""
        self.splits, self.size = {}, 0
        self.due = time.monotonic() + FLUSH_SECONDS


class Submitter:
    """Adds one source's splits to one job and closes its input."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        expire_at: int,
        spec: JobSpec,
        *,
        slots: int,
        on_step: Callable[[], None],
        cancel: Callable[[], object],
        look: Callable[[bytes], object],
    ) -> None:
        self._store, self._vault, self._expire_at = store, vault, expire_at
        self._beside = store.patient(BESIDE_SECONDS)
        self._spec = spec
        #: More wake-ups than executors would only make them look in vain; 0: nobody knows.
        self._slots = slots or FLUSH_TASKS
        self._on_step, self._cancel, self._look = on_step, cancel, look
        self._handed, self._buffer = Handed(), Buffer()
        self._buffering = threading.Lock()
        self._stop = threading.Event()
        self._gone = False

    def submit(self, source: Source) -> int:
        """Every split is a task and the input is closed; returns how many there are.

        Raises:
            JobCancelled, JobFailed, JobLost: what became of the job meanwhile.
            Exception: what the source raised; the job has failed with that cause.
        """
        keeper = _beside(self._keep)
        keeper.start()
        try:
            return self._submit(source)
        except BaseException as exc:
            self._give_up(exc)
            raise
        finally:
            self._stop.set()
            keeper.join()

    def _submit(self, source: Source) -> int:
        spec = self._spec
        for _ in range(_TRIES_AFTER_REWIND):
            try:
                n = self._add_all(source)
                # Nobody may say it again: a full server may have dropped what said so before.
                self._store.announce(spec.job_id, spec.priority, spec.submitted_ms, surely=True)
                self._close(n)
            except Rewound:
                if not source.rereadable:
                    why = "and its source can be read only once"
                    raise input_lost(spec.job_id, why) from None
                with self._buffering:
                    self._handed, self._buffer = Handed(), Buffer()
            else:
                return n
        raise input_lost(spec.job_id, f"{_TRIES_AFTER_REWIND} times, one after another")

    def _close(self, n: int) -> None:
        try:
            close_input(self._store, self._vault, self._spec.python, n)
        except Ended as ended:  # it took all its input, and was quick to fail: its handle tells how
            if ended.state not in ENDED_STATES:
                raise

    def _add_all(self, source: Source) -> int:
        index = 0
        # What can be read again is at hand, as a rule; if it is slow, its first split lingers.
        if source.rereadable:
            self._buffer.due = time.monotonic() + FLUSH_SECONDS
        for split in source.splits():
            if self._gone:
                raise _lost(self._vault.job)
            fields = self._sealed(index, split)
            with self._buffering:
                if full := self._buffer.put(index, fields):
                    self._flush()
            index += 1
            if full:
                self._on_step()
                self._hold_back()
        with self._buffering:
            self._flush()
        return index

    def _sealed(self, index: int, split: Split) -> dict[str, bytes]:
        task, frame, seal = f"m{index}", frame_of(split), self._vault.seal_input
        self._handed.extent.add(index, amount_of(split))
        if index == 0:  # the others are mostly like it
            self._look(frame)
        try:
            return {
                f"{task}.{piece}": seal(task, piece, data)
                for piece, data in enumerate(chunks_of(frame))
            }
        except BadValue as exc:
            raise BadValue(f"{split.source}: {exc}") from None

    def _flush(self, store: Store | None = None) -> None:
        """Hand in what is in the buffer; it stays there if that fails."""
        buffer, handed = self._buffer, self._handed
        if not buffer.splits:
            return
        first, last = min(buffer.splits), max(buffer.splits) + 1
        new = min(last - handed.tasks, self._slots)
        if last <= FEW_TASKS and not handed.tasks:
            new = 1  # who claims first wakes the others
        waking = new, self._spec.python, self._vault.keyring.key_id
        self._add(first, last, buffer.splits, waking=waking, store=store)
        handed.tasks = last
        handed.bytes += buffer.size
        buffer.clear()

    def _add(
        self, first: int, last: int, splits: Mapping[int, Mapping[str, bytes]],
        workers: Sequence[str] = (), waking: Waking | None = None, store: Store | None = None,
    ) -> None:  # fmt: skip
        job, until, store = self._vault.job, self._expire_at, store or self._store
        added = store.add(
            job, first, last, splits, until, workers=workers, waking=waking,
            input_so_far=str(self._handed.extent),
        )  # fmt: skip
        self._handed.finished = added.finished
        if added.status == "GONE":
            raise _lost(self._vault.job)
        if added.status == "ENDED":
            raise Ended(added.state)
        if added.status == "SHORT" or added.added < last:
            raise Rewound

    def _hold_back(self) -> None:
        """Wait while too much is unfinished; what is finished counts, never free memory."""
        handed = self._handed
        while handed.tasks:
            left = handed.tasks - handed.finished
            if left < MAX_UNFINISHED and left * handed.bytes // handed.tasks < MAX_UNFINISHED_BYTES:
                return
            self._on_step()
            time.sleep(0.02)
            self._add(handed.tasks, handed.tasks, {})

    def _keep(self) -> None:
        """A source may be slow: hand in what it gave, and say that we are alive."""
        every = SUBMIT_LEASE_MS / 6000
        due, sound = time.monotonic() + every, True
        while not self._stop.wait(LINGER_SECONDS):
            try:
                if sound and self._buffer.lingers():
                    with self._buffering:
                        self._flush(self._beside)
                if time.monotonic() >= due:
                    due, sound = time.monotonic() + every, True
                    self._keep_lease()
            except RedismrError:
                # The main thread meets the same trouble with its next split, and says it.
                sound = False

    def _keep_lease(self) -> None:
        self._gone = self._beside.add(self._vault.job, 0, 0).status == "GONE"
        meta = self._beside.meta(self._vault.job, "expire_at")
        self._expire_at = number(meta.get("expire_at")) or self._expire_at

    def _give_up(self, exc: BaseException) -> None:
        """Nobody else can complete this input: end the job, so that no worker toils in vain."""
        if isinstance(exc, Ended | JobError) and not isinstance(exc, NoWorkers | InputLost):
            return
        if isinstance(exc, StoreUnavailable):
            return  # it would not hear that either; the job fails when our lease is over
        with contextlib.suppress(RedismrError):
            self._cancel()


def _beside(target: Callable[[], None]) -> threading.Thread:
    """A thread that keeps no process alive; in a sub-interpreter, which has none, one it joins."""
    try:
        return threading.Thread(target=target, name="submitter", daemon=True)
    except RuntimeError:
        return threading.Thread(target=target, name="submitter")


def close_input(store: Store, vault: Vault, python: str, n: int) -> None:
    """All ``n`` map tasks are handed in.

    Raises:
        Ended: the job has. Rewound: the server has fewer. JobLost: it has no such job.
    """
    nonce = secrets.token_urlsafe(8)
    status, state, _, opened = store.close(vault.job, n, nonce, vault.seal_end(n))
    if status == "GONE":
        raise _lost(vault.job)
    if status == "ENDED" and state != "succeeded":
        raise Ended(state)
    if status == "SHORT":
        raise Rewound
    store.wake(opened, python, vault.keyring.key_id)


def close_again(store: Store, vault: Vault, python: str, n: int) -> None:
    """The server was taken back to before our close (a failover): close the job once more.

    The source is not read again: since ``submit`` returned, it may have changed.

    Raises:
        InputLost: input was lost as well. JobLost: the job is gone.
    """
    try:
        close_input(store, vault, python, n)
    except Ended:
        return  # its handle tells how
    except Rewound:
        raise input_lost(vault.job, "after all of it had been handed in") from None


def _lost(job: str) -> JobLost:
    return JobLost(f"job {job} vanished from Redis while it was submitted", job_id=job)


def input_lost(job: str, why: str) -> InputLost:
    """The error for input that a failover took back, and why it cannot be handed in again."""
    return InputLost(
        f"Redis lost a part of the input of job {job} (a failover), {why}: submit the job anew",
        job_id=job,
    )


class Rewound(RedismrError):
    """A failover took back tasks that were handed in: hand in everything again."""


class InputLost(JobFailed):
    """... and that is not possible any more."""


class Ended(RedismrError):
    """The job ended while its input was handed in; its handle tells why."""

    def __init__(self, state: str) -> None:
        super().__init__(f"the job is {state}")
        self.state = state
