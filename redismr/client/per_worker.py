"""``each_worker=True``: the submitter gives each worker exactly one map task.

The submitter reads from the workers' rows which workers are there, and gives each of them one split
of the source, which no other worker may claim. A worker that joins before all tasks are done gets
one too. For a worker that is gone the submitter commits an empty output, so that no task runs twice
and nobody waits for a lost worker. When all tasks are done, the submitter closes the input.
"""

import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from redismr.client.listings import can_run_job
from redismr.client.submitter import InputRolledBack, Submitter, close_input, input_lost_error
from redismr.core.model import MapManifest, token_of
from redismr.errors import ConfigError
from redismr.sources import Source, Split, as_source
from redismr.store import HEARTBEAT_SECONDS, Commit

WORKER_SILENT_SECONDS = 12.0
"""A worker that has not beaten for so long (more than two beats) counts as gone."""

ROW_MISSING_SECONDS = 6.0
"""A worker without a row has left, unless its next beat, within this time, writes the row again."""

MAX_BEAT_SLOWDOWN = 5.0
"""Many workers beat less often, as their rows say; waits are at most this many times as long."""

PER_WORKER_POLL_SECONDS = 0.05
_WORKER_ID = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


def as_per_worker_source(source: Any, chunk: int | None) -> Source:
    """Return the source with one item, or ``chunk`` items, in each split.

    A source that cuts itself into splits, and so takes no ``chunk``, stays as it is without one.
    """
    try:
        return as_source(source, chunk=chunk or 1)
    except ConfigError:
        if chunk:
            raise
        return as_source(source)


@dataclass(frozen=True, slots=True)
class FirstSplitOnly:
    """The first split of a source, for the only worker of an inline run."""

    source: Source
    size: int | None = None
    rereadable: bool = False  #: An inline run reads it once.

    def splits(self) -> Iterator[Split]:
        """Yield the first split, if there is one."""
        return islice(self.source.splits(), 1)


class PerWorkerSubmitter(Submitter):
    """Adds one split of a source for each worker, and closes the input when all tasks are done."""

    def _add_and_close(self, source: Source) -> int:
        try:
            n = self._run_on_each_worker(iter(source.splits()))
            close_input(self._store, self._sealer, self._spec.python, n)
        except InputRolledBack:
            why = "and its workers cannot be asked again"
            raise input_lost_error(self._sealer.job, why) from None
        return n

    def _run_on_each_worker(self, splits: Iterator[Split]) -> int:
        """Give each worker a task, until all are done or gone; return the number of tasks."""
        liveness, task_of = WorkerLiveness(), dict[str, int]()
        abandoned_count, has_splits = 0, True
        while True:
            now_ms, rows = self._store.worker_rows()
            beats = {w: int(row["beat"]) for w, row in rows.items() if self._can_run_job(w, row)}
            liveness.update(now_ms, beats, _beat_slowdown(rows))
            # A worker is there and has no task yet: give it the next split.
            for worker, beat in beats.items():
                is_there = now_ms - beat < liveness.silent_seconds * 1000
                if has_splits and worker not in task_of and is_there:
                    has_splits = self._add_task_for(worker, len(task_of), splits, len(beats))
                    if has_splits:
                        task_of[worker] = len(task_of)
            # This adds nothing, and reads how many tasks are finished.
            self._add_range(len(task_of), len(task_of), {})
            # All tasks are finished, and at least one by its worker, unless no split is left.
            if self._submitted.finished == len(task_of) and (
                len(task_of) > abandoned_count or not has_splits
            ):
                return len(task_of)
            # A worker with a task may be gone: finish the task if its lease has run out.
            for worker in liveness.silent_workers(task_of):
                abandoned_count += self._finish_for_lost_worker(worker)
            self._on_step()
            time.sleep(PER_WORKER_POLL_SECONDS)

    def _can_run_job(self, worker: str, row: dict[str, Any]) -> bool:
        """True if the worker can run the job, and its id, clear text, is safe in a key's name."""
        key_id = self._sealer.keyring.key_id
        return can_run_job(row, self._spec, key_id) and bool(_WORKER_ID.fullmatch(worker))

    def _add_task_for(self, worker: str, index: int, splits: Iterator[Split], workers: int) -> bool:
        """Add the next split as a task for the worker; False if the source has no more."""
        split = next(splits, None)
        if split is None:
            return False
        # Any worker may take a wake-up: with one for each, the right worker wakes as well.
        waking = workers, self._spec.python, self._sealer.keyring.key_id
        self._add_range(
            index, index + 1, {index: self._sealed_split(index, split)}, [worker], waking
        )
        return True

    def _finish_for_lost_worker(self, worker: str) -> int:
        """Commit an empty output for the task of a lost worker; return 1 if it was counted, else 0.

        A worker that still holds the task keeps it: the claim here then gets no task.
        """
        job, executor, nonce = self._sealer.job, f"{worker}:gone", secrets.token_urlsafe(8)
        # Free the task if its lease is over: maybe no worker is left that would do so.
        self._store.reclaim(job)
        claim = self._store.claim(job, executor, nonce, 1)
        for task in claim.tasks if claim else ():
            token = token_of(task, nonce)
            record = self._sealer.seal_map_manifest(MapManifest(task=task, token=token))
            counted = self._store.commit(job, executor, [Commit(task, token, record)], "", 0)
            return int(counted is not None and counted.statuses[0] in ("OK", "DUP_OK"))
        return 0


def _beat_slowdown(rows: Mapping[str, Mapping[str, Any]]) -> float:
    """Return how many times as long as usual the slowest worker waits between two beats."""
    slowest_beat_ms = max((int(row.get("every_ms", 0)) for row in rows.values()), default=0)
    return min(MAX_BEAT_SLOWDOWN, max(1.0, slowest_beat_ms / (1000 * HEARTBEAT_SECONDS)))


class WorkerLiveness:
    """Guesses from beats, on this process's clock, which workers may be gone.

    A wrong guess harms nobody: a worker that runs its task holds the lease, and keeps the task.
    """

    def __init__(self) -> None:
        self._beats: dict[str, int | None] = {}
        self._silent_from: dict[str, float] = {}
        self._updated_at = time.monotonic()
        self.silent_seconds = WORKER_SILENT_SECONDS

    def update(self, now_ms: int, beats: Mapping[str, int], slowdown: float = 1.0) -> None:
        """Record the last beat of each worker, in ms of the server's clock, as ``now_ms``."""
        now = time.monotonic()
        self.silent_seconds = WORKER_SILENT_SECONDS * slowdown
        # While Redis is away no beat can be read: then every worker gets its full time again.
        server_was_away = now - self._updated_at > WORKER_SILENT_SECONDS / 4
        self._updated_at = now
        for worker in beats.keys() | self._beats.keys():
            beat = beats.get(worker)
            if server_was_away or beat != self._beats.get(worker, -1):
                silent = 0.0 if server_was_away else max(0, now_ms - (beat or 0)) / 1000
                self._beats[worker] = beat
                self._silent_from[worker] = now + max(
                    ROW_MISSING_SECONDS * slowdown, self.silent_seconds - silent
                )

    def silent_workers(self, workers: Iterable[str]) -> list[str]:
        """Return those of the workers that are silent too long; each at most once a second."""
        now = time.monotonic()
        silent = [worker for worker in workers if now > self._silent_from[worker]]
        self._silent_from |= dict.fromkeys(silent, now + 1.0)
        return silent
