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
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from redismr.client.submitter import Submitter, close_input
from redismr.core.model import PROTOCOL, MapManifest, token_of
from redismr.errors import ConfigError
from redismr.sources import Source, Split, as_source
from redismr.store import Commit

SILENT_SECONDS = 12.0
"""A worker that was not heard of for so long, two beats and more, is gone."""

POLL_SECONDS = 0.05
_WORKER = re.compile(r"[A-Za-z0-9_.:-]{1,200}")


def one_by_one(source: Any, chunk: int | None) -> Source:
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
class First:
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


class EachWorker(Submitter):
    """Adds one split of one source for each worker, and closes the input when all are done."""

    def _submit(self, source: Source) -> int:
        splits = iter(source.splits())
        crowd, got = Crowd(), dict[str, int]()
        abandoned, left = 0, True
        while True:
            _, rows = self._store.worker_rows()
            here = [worker for worker, row in rows.items() if self._may(worker, row)]
            crowd.heard(here, rows)
            for worker in here:
                if left and worker not in got:
                    left = self._give(worker, len(got), splits)
                    if left:
                        got[worker] = len(got)
            self._add(len(got), len(got), {})
            if self._handed.finished == len(got) and (len(got) > abandoned or not left):
                break
            for worker in crowd.gone(got):
                abandoned += self._abandon(worker)
            self._on_step()
            time.sleep(POLL_SECONDS)
        close_input(self._store, self._vault, self._spec.python, len(got))
        return len(got)

    def _may(self, worker: str, row: dict[str, Any]) -> bool:
        """Whether it can run the job; rows are clear text, and ids go into keys and scripts."""
        ours = self._vault.keyring.key_id, self._spec.python, PROTOCOL
        its = row.get("key_id"), row.get("python"), row.get("protocol")
        return its == ours and bool(_WORKER.fullmatch(worker))

    def _give(self, worker: str, index: int, splits: Iterator[Split]) -> bool:
        """The next split is the worker's; False if there is none."""
        split = next(splits, None)
        if split is None:
            return False
        self._add(index, index + 1, {index: self._sealed(f"m{index}", split)}, [worker])
        # Any worker may take a wake-up: one for each, so that it comes to the right one as well.
        self._store.wake(index + 1, self._spec.python, self._vault.keyring.key_id)
        return True

    def _abandon(self, worker: str) -> int:
        """Count the task of a worker that is gone as done, without output; 1 if that was needed."""
        job, executor, nonce = self._vault.job, f"{worker}:gone", secrets.token_urlsafe(8)
        self._store.reclaim(job)  # its lease must have run out: nobody else may be there to look
        claim = self._store.claim(job, executor, nonce, 1)
        for task in claim.tasks if claim else ():
            token = token_of(task, nonce)
            record = self._vault.seal_map_manifest(MapManifest(task=task, token=token))
            counted = self._store.commit(job, executor, [Commit(task, token, record)], "", 0)
            return int(counted is not None and counted.statuses[0] in ("OK", "DUP_OK"))
        return 0


class Crowd:
    """Since when each worker was not heard of, on our clock: it says only when to look closer."""

    def __init__(self) -> None:
        self._heard: dict[str, tuple[int, float]] = {}
        self._looked = time.monotonic()

    def heard(self, here: list[str], rows: dict[str, dict[str, Any]]) -> None:
        """Take note of the beats of those who are there."""
        now = time.monotonic()
        if now - self._looked > SILENT_SECONDS / 4:  # Redis was away, and nobody could be heard
            self._heard = {worker: (beat, now) for worker, (beat, _) in self._heard.items()}
        self._looked = now
        for worker in here:
            beat = rows[worker]["beat"]
            if self._heard.get(worker, (None, 0.0))[0] != beat:
                self._heard[worker] = beat, now

    def gone(self, workers: dict[str, int]) -> list[str]:
        """Those of the workers that are silent for long; each is named once in a second."""
        now = time.monotonic()
        silent = [w for w in workers if now - self._heard[w][1] > SILENT_SECONDS]
        for worker in silent:
            beat, _ = self._heard[worker]
            self._heard[worker] = beat, now - SILENT_SECONDS + 1.0
        return silent
