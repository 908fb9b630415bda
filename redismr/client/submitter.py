"""Hands a job in: lazily, idempotently, and alive while it does.

Map tasks run while the source is still read. The submitter holds a lease of its own, kept by a
thread, because a source may take its time between two records; when it dies, the job fails.
"""

from __future__ import annotations

import contextlib
import pickle
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cloudpickle

from redismr.core.codec import chunks_of
from redismr.core.model import JobSpec
from redismr.core.vault import Vault
from redismr.errors import BadValue, JobError, JobFailed, JobLost, NoWorkers, RedismrError
from redismr.sources import Source, Split
from redismr.store import Store, number

MAX_UNFINISHED = 10_000
"""Tasks handed in but not done at which the submitter waits for the workers."""

MAX_UNFINISHED_BYTES = 256 << 20
FLUSH_BYTES = 1 << 20
FLUSH_TASKS = 500
SUBMIT_LEASE_MS = 15_000
_TRIES_AFTER_REWIND = 5


@dataclass(slots=True)
class Handed:
    """Where the hand-in stands."""

    tasks: int = 0
    finished: int = 0
    bytes: int = 0


class Submitter:
    """Adds one source's splits to one job and closes its input."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        expire_at: int,
        spec: JobSpec,
        *,
        on_step: Callable[[], None],
        cancel: Callable[[], object],
    ) -> None:
        self._store, self._vault, self._expire_at = store, vault, expire_at
        self._spec = spec
        self._on_step, self._cancel = on_step, cancel
        self._handed = Handed()
        self._stop = threading.Event()
        self._gone = False

    def submit(self, source: Source) -> int:
        """Every split is a task and the input is closed; returns how many there are.

        Raises:
            JobCancelled, JobFailed, JobLost: what became of the job meanwhile.
            Exception: what the source raised; the job has failed with that cause.
        """
        keeper = threading.Thread(target=self._keep_alive, name="submitter", daemon=True)
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
                close_input(self._store, self._vault, self._spec.python, n)
            except Rewound:
                if not source.rereadable:
                    why = "and its source can be read only once"
                    raise _input_lost(spec.job_id, why) from None
                self._handed = Handed()
            else:
                return n
        raise _input_lost(spec.job_id, f"{_TRIES_AFTER_REWIND} times, one after another")

    def _add_all(self, source: Source) -> int:
        pending: dict[int, dict[str, bytes]] = {}
        size = index = 0
        for split in source.splits():
            if self._gone:
                raise _lost(self._vault.job)
            fields = self._sealed(f"m{index}", split)
            pending[index] = fields
            index += 1
            size += sum(map(len, fields.values()))
            # The first tasks go at once: workers should not wait for a full buffer.
            if size >= FLUSH_BYTES or len(pending) >= min(FLUSH_TASKS, 1 + index // 8):
                self._flush(pending, size)
                pending, size = {}, 0
                self._on_step()
                self._hold_back()
        self._flush(pending, size)
        return index

    def _sealed(self, task: str, split: Split) -> dict[str, bytes]:
        try:
            frame = pickle.dumps(split, 5)
        except Exception:  # noqa: BLE001  whatever the user's classes raise
            try:
                frame = cloudpickle.dumps(split, 5)
            except Exception as exc:
                raise BadValue(
                    f"an item of {split.source} cannot be sent to a worker: {exc}. Send what it is "
                    "made from (a path, a row) and build it in mapfn or initfn"
                ) from exc
        seal = self._vault.seal_input
        return {
            f"{task}.{piece}": seal(task, piece, data)
            for piece, data in enumerate(chunks_of(frame))
        }

    def _flush(self, pending: dict[int, dict[str, bytes]], size: int) -> None:
        if not pending:
            return
        first, last, before = min(pending), max(pending) + 1, self._handed.tasks
        self._add(first, last, pending)
        self._handed.tasks = last
        self._handed.bytes += size
        self._store.wake(last - before, self._spec.python, self._vault.keyring.key_id)

    def _add(
        self, first: int, last: int, splits: Mapping[int, Mapping[str, bytes]],
        workers: Sequence[str] = (),
    ) -> None:  # fmt: skip
        job, until = self._vault.job, self._expire_at
        added = self._store.add(job, first, last, splits, until, workers)
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

    def _keep_alive(self) -> None:
        while not self._stop.wait(SUBMIT_LEASE_MS / 6000):
            try:
                # A source may be slow: what we see here the main thread hears with its next split.
                self._gone = self._store.add(self._vault.job, 0, 0).status == "GONE"
                meta = self._store.meta(self._vault.job, "expire_at")
                self._expire_at = number(meta.get("expire_at")) or self._expire_at
            except RedismrError:
                continue  # the main thread meets the same trouble and says it

    def _give_up(self, exc: BaseException) -> None:
        """Nobody else can complete this input: end the job, so that no worker toils in vain."""
        if isinstance(exc, Ended | JobError) and not isinstance(exc, NoWorkers | InputLost):
            return
        with contextlib.suppress(RedismrError):
            self._cancel()


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
        raise _input_lost(vault.job, "after all of it had been handed in") from None


def _lost(job: str) -> JobLost:
    return JobLost(f"job {job} vanished from Redis while it was submitted", job_id=job)


def _input_lost(job: str, why: str) -> InputLost:
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
