"""``Job``: a handle on one submitted MapReduce, from this process or another."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from redismr.client.collect import (
    ComputedAgain,
    Forgotten,
    collect,
    read_partition,
    skipped_so_far,
)
from redismr.client.honesty import Honesty
from redismr.client.outcome import (
    error_of_end,
    failures,
    lost_sight,
    not_found,
    vanished,
)
from redismr.client.results import Results
from redismr.client.specs import Mine
from redismr.client.submitter import InputLost
from redismr.client.waiting import Waiting, deadline_of, progress_of, until_end
from redismr.confidential import Confined
from redismr.core.events import Event, encode
from redismr.core.model import (
    ENDED_STATES,
    Failure,
    JobSpec,
    Made,
    Progress,
    ResultManifest,
    Skipped,
)
from redismr.core.trace import imported_class
from redismr.core.vault import Vault
from redismr.errors import (
    JobTimeout,
    KeysAltered,
    NoWorkers,
    RedismrError,
    SealError,
    StoreUnavailable,
)
from redismr.shipping import Foreign, Loaded, loaded_from
from redismr.shipping.libraries import SUBMITTER, told_apart
from redismr.store import Look, Outcome, Store, number

if TYPE_CHECKING:
    from redismr.core.seal import Keyring

POLL_SECONDS = 1.0
"""A waiter looks this often whatever the channel says: pub/sub is only a hint."""

DRAW_SECONDS = 0.2


class Job(Confined):
    """A submitted job. Thread-safe. Costs nothing until something is asked of it.

    Attributes:
        id: the job's id, unique for ever.
        txn: the caller's label; the id if none was given.
    """

    def __init__(
        self,
        store: Store,
        keyring: Keyring,
        spec: JobSpec,
        mine: Mine | None = None,
        handed_in: int | None = None,
    ) -> None:
        self.id, self.txn = spec.job_id, spec.txn
        self._store, self._keyring, self._spec = store, keyring, spec
        self._vault, self._mine = Vault(keyring, spec.job_id), mine
        self._loaded: Loaded | Foreign | None = None
        self._results: Results | None = None
        self._waiting = Waiting(store, keyring, spec)
        self._draw = mine.draw if mine else None
        self._drawn_at = 0.0
        self._honesty = Honesty(store, self._vault, spec)
        self._told_at = time.monotonic()
        self._handed_in = handed_in  # map tasks, lest Redis forgets that they were all

    def __repr__(self) -> str:
        """The id."""
        return f"<Job {self.id}>"

    @property
    def state(self) -> str:
        """submitting, mapping, reducing, succeeded, failed or cancelled."""
        return self._look().state

    @property
    def counters(self) -> dict[str, int]:
        """What user functions counted, each task once. Complete when the job has succeeded."""
        if self._results is not None:
            return dict(self._results.counters)
        if self.state == "succeeded":
            return self._collect()[1]
        return {}

    def progress(self) -> Progress:
        """How far the job is; a hint for people.

        ``wait`` prints why a job waits, but not to callers who ask for the progress each second:
        they are taken to show its ``waiting``.
        """
        return progress_of(self._look(), self._spec, self._waiting)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended, however it did; False if ``timeout`` seconds ran out.

        Redis must answer to tell: while it is away that may take ``wait_for_server`` seconds
        longer, as everything does.

        Raises:
            JobLost: the job vanished from Redis. StoreUnavailable: Redis did, for so long.
        """
        return self._wait(deadline_of(timeout)) is not None

    def result(self, timeout: float | None = None, *, finish: bool = True) -> Any:
        """The results, when the job has succeeded; what finishfn returns, if there is one.

        Without ``finish`` it is always the results.

        Raises:
            MapError, ReduceError: user code raised; also of the original exception's class.
            JobFailed, JobCancelled, JobLost: what else became of the job.
            JobTimeout: ``timeout`` seconds ran out; the job goes on.
            SealError: what is in Redis is not what the workers put there.
            StoreUnavailable: Redis is away for ``wait_for_server`` seconds, during which no timeout
                is noticed.
            Exception: what finishfn raised; the results are there all the same.
        """
        results = self._result(timeout)
        return self.finished(results) if finish else results

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """(key, value) pairs, partition by partition as their reduce tasks finish.

        Each partition is delivered once. Raises, after what it has yielded, if the job then fails,
        or if data that was lost has a partition computed again that was given out already.
        """
        for pairs in self._columns():
            yield from pairs  # not by itertools.chain, which two threads at once cut short

    def _columns(self) -> Iterator[Iterable[tuple[Any, Any]]]:
        given: dict[int, ResultManifest] = {}
        with self._store.subscribed(self.txn) as channel:
            while True:
                look = self._look(lost=True)
                self._tell(look)
                missing = [p for p in range(self._spec.partitions) if p not in given]
                for partition, record in self._store.results(self.id, missing).items():
                    manifest = self._vault.open_result_manifest(partition, record)
                    given[partition] = manifest
                    yield from self._read_now(partition, manifest)
                if look.state in ENDED_STATES:
                    self._raise_unless_succeeded(look)
                    with contextlib.suppress(Forgotten):  # then it runs again
                        self._confirm(given)
                        return
                channel.get(POLL_SECONDS)

    def _confirm(self, given: Mapping[int, ResultManifest]) -> None:
        """What was handed out while the job ran is its result."""
        shelf, *_ = self._collect_shelf()
        for partition, manifest in given.items():
            if shelf.manifests[partition].token != manifest.token:
                raise ComputedAgain(self.id, partition)

    def _read_now(
        self, partition: int, manifest: ResultManifest
    ) -> Iterator[Iterable[tuple[Any, Any]]]:
        """A partition of a job that may still run: what is gone may have gone rightly."""
        find_class = self._find_class()
        try:
            for keys, values in read_partition(self._store, self._vault, manifest, find_class):
                yield zip(keys, values, strict=True)
        except SealError:
            look = self._look(lost=True)
            if look.state in ENDED_STATES:
                self._raise_unless_succeeded(look)
            record = self._store.results(self.id, [partition]).get(partition, b"")
            if not record.startswith(f"{manifest.token} ".encode()):
                raise ComputedAgain(self.id, partition) from None
            raise

    def cancel(self) -> bool:
        """Stop the job and free its data; False if it had ended before."""
        outcome = self._store.cancel(self.id)
        if outcome == "GONE":
            raise not_found(self.id)
        if outcome != "OK":
            return False
        self._publish("cancelled")
        self._store.free(self.id, self._inputs(), self._spec.partitions)
        self._store.retire(self.id, self._store.server_ms())
        return True

    def delete(self) -> None:
        """Nothing of the job is left in Redis, its results included; stops it if it runs."""
        if self._handed_in is None:  # who submits it must not add what nobody deletes
            with contextlib.suppress(KeysAltered):
                self._store.cancel(self.id)
        self._store.delete(self.id, self._inputs(), self._spec.partitions)

    def errors(self) -> list[Failure]:
        """Failed attempts that workers reported: of each task the last one."""
        return list(failures(self._vault, self._store.dead(self.id)).values())

    def skipped(self) -> Skipped:
        """The records, and keys of reducefn, that were left out: ``on_error``.

        A sequence of failures of kind "skipped" that say where, on what and why: the first 1000 of
        ``.total``. Of a job that has not succeeded, those of its finished tasks.

        Raises:
            SealError: what is in Redis is not what the workers put there.
        """
        if self._results is not None:
            return self._results.skipped
        if self._spec.on_error == "fail":
            return Skipped()
        if self._look().state != "succeeded":
            skipped = skipped_so_far(self._store, self._vault)
            if self._look().state != "succeeded":  # else the map records went meanwhile
                return skipped
        return self._collect_shelf()[2]

    def over(self, store: Store) -> Job:
        """The same job, asked after over another connection."""
        return Job(store, self._keyring, self._spec, self._mine, self._handed_in)

    # -- for the client -------------------------------------------------------

    def finished(self, results: Results) -> Any:
        """What the job's finishfn makes of its results."""
        finishfn = self._mine.finishfn if self._mine else self._functions().get("finishfn")
        return finishfn(results) if finishfn else results

    def lost_sight(self, away: StoreUnavailable) -> StoreUnavailable:
        """The error for a server that was away for too long: how to come back to the job."""
        if self._mine and self._mine.revive:  # it was our own, and nobody else can ask it
            return away
        whole = self._mine is None or self._handed_in is not None
        return lost_sight(away, self.id, handed_in=whole)

    def _wait(self, deadline: float | None, *, outcome: bool = False) -> Look | None:
        """The look that saw the job ended; None if it had not by then (of time.monotonic())."""
        try:
            return self._ended_by(deadline, outcome=outcome)
        except StoreUnavailable as away:
            raise self.lost_sight(away) from away.__cause__

    def _ended_by(self, deadline: float | None, *, outcome: bool) -> Look | None:
        with self._store.subscribed(self.txn) as channel:
            if self._handed_in is not None and deadline is None:  # a look before would be in vain
                channel.get(POLL_SECONDS)
            while True:
                look = self._look(lost=True, outcome=outcome)
                self._tell(look)
                if look.state in ENDED_STATES:
                    return look
                left = POLL_SECONDS
                if deadline is not None:
                    left = min(left, deadline - time.monotonic())
                if left <= 0:
                    return None
                left = min(left, DRAW_SECONDS) if self._draw else left
                until_end(channel, self._keyring, self.id, left)

    def _while_submitting(self) -> None:
        """Called often while the input is handed in: tell how far the job is, now and then."""
        now = time.monotonic()
        if now - self._told_at >= DRAW_SECONDS:
            self._told_at = now
            self._tell(self._look(lost=True))

    def _tell(self, look: Look) -> None:
        """Draw the progress, or explain on stderr why there is none.

        Raises:
            NoWorkers: nobody has worked on the job for ``wait_for_workers`` seconds.
        """
        draw, within = self._draw, self._mine.workers_within if self._mine else None
        now, ended = time.monotonic(), look.state in ENDED_STATES
        if draw and (ended or now - self._drawn_at >= DRAW_SECONDS):
            self._drawn_at = now
            draw(progress_of(look, self._spec, self._waiting))
        if ended:
            return
        if self._mine and self._mine.revive:
            self._mine.revive()
        self._waiting.watch(look, silent=draw is not None)
        if within is not None and self._waiting.idle_seconds > within:
            raise NoWorkers(
                f"no worker took job {self.id} within {within:g} s: "
                f"{self._waiting.reason() or 'they are busy with other jobs'}",
                job_id=self.id,
            )

    def _result(self, timeout: float | None) -> Results:
        deadline = deadline_of(timeout)
        while self._results is None:
            look = self._wait(deadline, outcome=True)
            if look is None:
                after = f" after {timeout:g} s" if timeout else ""
                raise JobTimeout(
                    f"job {self.id} is still {self.state}{after}, and goes on",
                    job_id=self.id,
                )
            self._raise_unless_succeeded(look)
            with contextlib.suppress(Forgotten):  # then it runs again, and its end is waited for
                self._results = self._collect(look.outcome)[0]
            if self._draw and self._results is not None and self._results.skipped:
                drawn = progress_of(look, self._spec, self._waiting)
                self._draw(replace(drawn, skipped=self._results.skipped))
        return self._results

    def _collect(self, outcome: Outcome | None = None) -> tuple[Results, dict[str, int]]:
        shelf, counters, skipped = self._collect_shelf(outcome)
        results = Results(
            shelf, sort=self._spec.sort, counters=counters, skipped=skipped, job_id=self.id
        )
        if self._mine and self._mine.delete is not None:
            # Results of ``run`` own the job: it goes when they are closed, or nobody has them.
            shelf.on_close = weakref.finalize(results, self._mine.delete, self._inputs())
            shelf.on_close.atexit = self._mine.delete_at_exit
        return results, counters

    def _collect_shelf(self, outcome: Outcome | None = None) -> tuple[Any, dict[str, int], Skipped]:
        return collect(
            self._store,
            self._vault,
            self._spec,
            outcome,
            partitionfn=self._mine.partitionfn if self._mine else None,
            find_class=self._find_class(),
        )

    def _functions(self) -> Any:
        return self._load().functions if self._spec.finish else {}

    def _find_class(self) -> Callable[[str, str], Any] | None:
        """How to resolve classes in results: by this process if it submitted, else by the job."""
        return None if self._mine is not None else self._resolve

    def _resolve(self, module: str, name: str) -> Any:
        """A class by name: most are imported here; the job's code is loaded for the others."""
        return imported_class(module, name) or self._load().find_class(module, name)

    def _load(self) -> Loaded | Foreign:
        if self._loaded is None:
            code = self._vault.open_code(self._store.blob(self.id, "code"))
            with told_apart("the job's code", Made(SUBMITTER, self._spec.libraries)):
                self._loaded = loaded_from(code, self.id, self._spec.python)
        return self._loaded

    def _look(self, *, lost: bool = False, outcome: bool = False) -> Look:
        look = self._store.look(self.id, outcome=outcome)
        if look is None:
            raise vanished(self.id) if lost else not_found(self.id)
        if lost:
            try:
                self._honesty.keep(look, self._handed_in)
            except InputLost:
                with contextlib.suppress(RedismrError):
                    self.cancel()
                raise
        return look

    def _raise_unless_succeeded(self, look: Look) -> None:
        if look.state != "succeeded":
            raise error_of_end(self._vault, look, self._store.dead(self.id))

    def _inputs(self) -> int:
        """How many map tasks may have input; where no end was sealed, what Redis says in clear."""
        if self._handed_in is not None:
            return self._handed_in
        with contextlib.suppress(SealError, KeysAltered):
            return self._vault.open_end(self._store.blob(self.id, "end"))
        with contextlib.suppress(KeysAltered):
            added = self._store.meta(self.id, "added").get("added")
            return min(max(0, number(added)), 100_000_000)
        return 0

    def _publish(self, kind: str) -> None:
        self._store.publish(self.txn, encode(Event(self.id, self.txn, 0, kind, {}), self._keyring))
