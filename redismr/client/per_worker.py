"""``each_worker=True``: one map task for each worker, and none for anybody else.

The submitter sees from the rows of the workers who is there, and gives each of them one split of
the source, which no other may claim. Who joins before all of them are done gets one too. The input
is closed when every worker that got a task has finished it, or is gone: then the submitter commits
an empty output in its name, so that nothing is done twice and nobody waits for the dead.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from redismr.client.submitter import InputRolledBack, Submitter, close_input, input_lost_error
from redismr.core.model import PROTOCOL, MapManifest, token_of
from redismr.errors import ConfigError
from redismr.sources import Source, Split, as_source
from redismr.store import HEARTBEAT_SECONDS, Commit

WORKER_SILENT_SECONDS = 12.0
"""A worker that was not heard of for so long, two beats and more, is gone."""

ROW_MISSING_SECONDS = 6.0
"""One that has no row any more has left, unless it says within a beat that the row was lost."""

MAX_BEAT_SLOWDOWN = 5.0
"""In a large crowd workers beat more seldom, each says how often: so many times as long to wait."""

PER_WORKER_POLL_SECONDS = 0.05
_WORKER_ID = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


def as_per_worker_source(source: Any, chunk: int | None) -> Source:
    """The source with one item, or ``chunk``, in each split; or as it cuts itself into splits.

    Raises:
        ConfigError: it is no source.
    """
    try:
        return as_source(source, chunk=chunk or 1)
    except ConfigError:
        if chunk:
            raise
        return as_source(source)


@dataclass(frozen=True, slots=True)
class FirstSplitOnly:
    """The first split of a source: what the one worker of an inline run gets."""

    source: Source
    size: int | None = None

    @property
    def rereadable(self) -> bool:
        """As the source."""
        return self.source.rereadable

    def splits(self) -> Iterator[Split]:
        """One, if there is any."""
        return islice(self.source.splits(), 1)


class PerWorkerSubmitter(Submitter):
    """Adds one split of one source for each worker, and closes the input when all are done."""

    def _add_and_close(self, source: Source) -> int:
        try:
            n = self._run_on_each_worker(iter(source.splits()))
            close_input(self._store, self._sealer, self._spec.python, n)
        except InputRolledBack:
            why = "and its workers cannot be asked again"
            raise input_lost_error(self._sealer.job, why) from None
        return n

    def _run_on_each_worker(self, splits: Iterator[Split]) -> int:
        """Every worker has done its task, or is gone; how many tasks there are."""
        liveness, task_of = WorkerLiveness(), dict[str, int]()
        abandoned_count, has_splits = 0, True
        while True:
            now_ms, rows = self._store.worker_rows()
            beats = {w: int(row["beat"]) for w, row in rows.items() if self._can_run_job(w, row)}
            liveness.update(now_ms, beats, _beat_slowdown(rows))
            for worker, beat in beats.items():
                if (
                    has_splits
                    and worker not in task_of
                    and now_ms - beat < liveness.silent_seconds * 1000
                ):
                    has_splits = self._add_task_for(worker, len(task_of), splits, len(beats))
                    if has_splits:
                        task_of[worker] = len(task_of)
            self._add_range(len(task_of), len(task_of), {})
            if self._submitted.finished == len(task_of) and (
                len(task_of) > abandoned_count or not has_splits
            ):
                return len(task_of)
            for worker in liveness.silent_workers(task_of):
                abandoned_count += self._finish_for_lost_worker(worker)
            self._on_step()
            time.sleep(PER_WORKER_POLL_SECONDS)

    def _can_run_job(self, worker: str, row: dict[str, Any]) -> bool:
        """Whether it can run the job; rows are clear text, and ids go into keys and scripts."""
        job_identity = self._sealer.keyring.key_id, self._spec.python, PROTOCOL
        worker_identity = row.get("key_id"), row.get("python"), row.get("protocol")
        return worker_identity == job_identity and bool(_WORKER_ID.fullmatch(worker))

    def _add_task_for(self, worker: str, index: int, splits: Iterator[Split], workers: int) -> bool:
        """The next split is the worker's; False if there is none."""
        split = next(splits, None)
        if split is None:
            return False
        # Any worker may take a wake-up: one for each, so that it comes to the right one as well.
        waking = workers, self._spec.python, self._sealer.keyring.key_id
        self._add_range(
            index, index + 1, {index: self._sealed_split(index, split)}, [worker], waking
        )
        return True

    def _finish_for_lost_worker(self, worker: str) -> int:
        """Count the task of a worker that is gone as done, without output; 1 if that was needed."""
        job, executor, nonce = self._sealer.job, f"{worker}:gone", secrets.token_urlsafe(8)
        self._store.reclaim(job)  # its lease must have run out: nobody else may be there to look
        claim = self._store.claim(job, executor, nonce, 1)
        for task in claim.tasks if claim else ():
            token = token_of(task, nonce)
            record = self._sealer.seal_map_manifest(MapManifest(task=task, token=token))
            counted = self._store.commit(job, executor, [Commit(task, token, record)], "", 0)
            return int(counted is not None and counted.statuses[0] in ("OK", "DUP_OK"))
        return 0


def _beat_slowdown(rows: Mapping[str, Mapping[str, Any]]) -> float:
    """How many times as long as usual the slowest worker waits between two beats."""
    slowest_beat_ms = max((int(row.get("every_ms", 0)) for row in rows.values()), default=0)
    return min(MAX_BEAT_SLOWDOWN, max(1.0, slowest_beat_ms / (1000 * HEARTBEAT_SECONDS)))


class WorkerLiveness:
    """How long to wait for each worker, on our clock: it says only when to look closer.

    A wrong guess harms nobody: who runs its task holds it, and cannot have it taken away.
    """

    def __init__(self) -> None:
        self._beats: dict[str, int | None] = {}
        self._silent_from: dict[str, float] = {}
        self._updated_at = time.monotonic()
        self.silent_seconds = WORKER_SILENT_SECONDS

    def update(self, now_ms: int, beats: Mapping[str, int], slowdown: float = 1.0) -> None:
        """Take note of the beats of those who are there, on the server's clock as ``now_ms``."""
        now = time.monotonic()
        self.silent_seconds = WORKER_SILENT_SECONDS * slowdown
        server_was_away = (
            now - self._updated_at > WORKER_SILENT_SECONDS / 4
        )  # Redis was, and nobody could be heard
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
        """Those of the workers that are silent for long; each is named once in a second."""
        now = time.monotonic()
        silent = [worker for worker in workers if now > self._silent_from[worker]]
        self._silent_from |= dict.fromkeys(silent, now + 1.0)
        return silent
