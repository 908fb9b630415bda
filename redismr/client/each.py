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

from redismr.client.submitter import Rewound, Submitter, close_input, input_lost
from redismr.core.model import PROTOCOL, MapManifest, token_of
from redismr.errors import ConfigError
from redismr.sources import Source, Split, as_source
from redismr.store import BEAT_SECONDS, Commit

SILENT_SECONDS = 12.0
"""A worker that was not heard of for so long, two beats and more, is gone."""

LEFT_SECONDS = 6.0
"""One that has no row any more has left, unless it says within a beat that the row was lost."""

MOST_LEISURE = 5.0
"""In a large crowd workers beat more seldom, each says how often: so many times as long to wait."""

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
        try:
            n = self._ask(iter(source.splits()))
            close_input(self._store, self._vault, self._spec.python, n)
        except Rewound:
            why = "and its workers cannot be asked again"
            raise input_lost(self._vault.job, why) from None
        return n

    def _ask(self, splits: Iterator[Split]) -> int:
        """Every worker has done its task, or is gone; how many tasks there are."""
        crowd, got = Crowd(), dict[str, int]()
        abandoned, left = 0, True
        while True:
            now_ms, rows = self._store.worker_rows()
            beats = {w: int(row["beat"]) for w, row in rows.items() if self._may(w, row)}
            crowd.heard(now_ms, beats, _leisure(rows))
            for worker, beat in beats.items():
                if left and worker not in got and now_ms - beat < crowd.silent_seconds * 1000:
                    left = self._give(worker, len(got), splits, len(beats))
                    if left:
                        got[worker] = len(got)
            self._add(len(got), len(got), {})
            if self._handed.finished == len(got) and (len(got) > abandoned or not left):
                return len(got)
            for worker in crowd.gone(got):
                abandoned += self._abandon(worker)
            self._on_step()
            time.sleep(POLL_SECONDS)

    def _may(self, worker: str, row: dict[str, Any]) -> bool:
        """Whether it can run the job; rows are clear text, and ids go into keys and scripts."""
        ours = self._vault.keyring.key_id, self._spec.python, PROTOCOL
        its = row.get("key_id"), row.get("python"), row.get("protocol")
        return its == ours and bool(_WORKER.fullmatch(worker))

    def _give(self, worker: str, index: int, splits: Iterator[Split], workers: int) -> bool:
        """The next split is the worker's; False if there is none."""
        split = next(splits, None)
        if split is None:
            return False
        # Any worker may take a wake-up: one for each, so that it comes to the right one as well.
        waking = workers, self._spec.python, self._vault.keyring.key_id
        self._add(index, index + 1, {index: self._sealed(index, split)}, [worker], waking)
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


def _leisure(rows: Mapping[str, Mapping[str, Any]]) -> float:
    """How many times as long as usual the slowest worker waits between two beats."""
    every = max((int(row.get("every_ms", 0)) for row in rows.values()), default=0)
    return min(MOST_LEISURE, max(1.0, every / (1000 * BEAT_SECONDS)))


class Crowd:
    """How long to wait for each worker, on our clock: it says only when to look closer.

    A wrong guess harms nobody: who runs its task holds it, and cannot have it taken away.
    """

    def __init__(self) -> None:
        self._beats: dict[str, int | None] = {}
        self._until: dict[str, float] = {}
        self._looked = time.monotonic()
        self.silent_seconds = SILENT_SECONDS

    def heard(self, now_ms: int, beats: Mapping[str, int], leisure: float = 1.0) -> None:
        """Take note of the beats of those who are there, on the server's clock as ``now_ms``."""
        now = time.monotonic()
        self.silent_seconds = SILENT_SECONDS * leisure
        away = now - self._looked > SILENT_SECONDS / 4  # Redis was, and nobody could be heard
        self._looked = now
        for worker in beats.keys() | self._beats.keys():
            beat = beats.get(worker)
            if away or beat != self._beats.get(worker, -1):
                silent = 0.0 if away else max(0, now_ms - (beat or 0)) / 1000
                self._beats[worker] = beat
                self._until[worker] = now + max(
                    LEFT_SECONDS * leisure, self.silent_seconds - silent
                )

    def gone(self, workers: Iterable[str]) -> list[str]:
        """Those of the workers that are silent for long; each is named once in a second."""
        now = time.monotonic()
        silent = [worker for worker in workers if now > self._until[worker]]
        self._until |= dict.fromkeys(silent, now + 1.0)
        return silent
