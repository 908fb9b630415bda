"""``Job``: a handle on one submitted MapReduce, from this process or another."""

from __future__ import annotations

import contextlib
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from redismr.client.collector import (
    ComputedAgain,
    EndRolledBack,
    collect,
    read_partition,
    skipped_so_far,
)
from redismr.client.end_errors import (
    end_error,
    failures_by_task,
    job_not_found_error,
    job_vanished_error,
    unreachable_error,
)
from redismr.client.job_options import SubmitterState
from redismr.client.job_watch import JobWatch
from redismr.client.results import Results
from redismr.client.submitter import InputLost
from redismr.client.waiting import IdleExplainer, deadline_of, progress_of, wait_until_end
from redismr.confidential import Unpicklable
from redismr.core.events import Event, encode_event
from redismr.core.job_payloads import JobSealer
from redismr.core.model import ENDED_STATES, Failure, JobSpec, Provenance, ResultManifest, Skipped
from redismr.core.status_rows import Progress
from redismr.core.task_errors import imported_class
from redismr.errors import (
    JobTimeout,
    KeysAltered,
    NoWorkers,
    RedismrError,
    SealError,
    StoreUnavailable,
)
from redismr.shipping import LoadedCode, OtherPythonCode, load_for_reader
from redismr.shipping.libraries import SUBMITTER, explain_library_errors
from redismr.store import EndAndRecords, JobStatus, Store, number

if TYPE_CHECKING:
    from redismr.core.seal import Keyring

JOB_POLL_SECONDS = 1.0
"""A waiter looks this often whatever the channel says: pub/sub is only a hint."""

PROGRESS_SECONDS = 0.2


class Job(Unpicklable):
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
        submitter_state: SubmitterState | None = None,
        n_map: int | None = None,
    ) -> None:
        self.id, self.txn = spec.job_id, spec.txn
        self._store, self._keyring, self._spec = store, keyring, spec
        self._sealer, self._submitter_state = JobSealer(keyring, spec.job_id), submitter_state
        self._loaded_code: LoadedCode | OtherPythonCode | None = None
        self._results: Results | None = None
        self._idle_explainer = IdleExplainer(store, keyring, spec)
        self._show_progress = submitter_state.show_progress if submitter_state else None
        self._progress_shown_at = 0.0
        self._job_watch = JobWatch(store, self._sealer, spec)
        self._reported_at = time.monotonic()
        self._n_map = n_map  # map tasks, lest Redis forgets that they were all

    def __repr__(self) -> str:
        """The id."""
        return f"<Job {self.id}>"

    @property
    def state(self) -> str:
        """submitting, mapping, reducing, succeeded, failed or cancelled."""
        return self._read_status().state

    @property
    def counters(self) -> dict[str, int]:
        """What user functions counted, each task once. Complete when the job has succeeded."""
        if self._results is not None:
            return dict(self._results.counters)
        if self.state == "succeeded":
            return self._collect_results()[1]
        return {}

    def progress(self) -> Progress:
        """How far the job is; a hint for people.

        ``wait`` prints why a job waits, but not to callers who ask for the progress each second:
        they are taken to show its ``waiting``.
        """
        return progress_of(self._read_status(), self._spec, self._idle_explainer)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended, however it did; False if ``timeout`` seconds ran out.

        Redis must answer to tell: while it is away that may take ``wait_for_server`` seconds
        longer, as everything does.

        Raises:
            JobLost: the job vanished from Redis. StoreUnavailable: Redis did, for so long.
        """
        return self._wait_for_end(deadline_of(timeout)) is not None

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
        results = self._wait_for_results(timeout)
        return self.apply_finishfn(results) if finish else results

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """(key, value) pairs, partition by partition as their reduce tasks finish.

        Each partition is delivered once. Raises, after what it has yielded, if the job then fails,
        or if data that was lost has a partition computed again that was given out already.
        """
        for pairs in self._iterate_columns():
            yield from pairs  # not by itertools.chain, which two threads at once cut short

    def _iterate_columns(self) -> Iterator[Iterable[tuple[Any, Any]]]:
        delivered: dict[int, ResultManifest] = {}
        with self._store.subscribe(self.txn) as channel:
            while True:
                status = self._read_status(existed=True)
                self._report(status)
                missing = [p for p in range(self._spec.partitions) if p not in delivered]
                for partition, record in self._store.result_records(self.id, missing).items():
                    manifest = self._sealer.open_result_manifest(partition, record)
                    delivered[partition] = manifest
                    yield from self._read_while_running(partition, manifest)
                if status.state in ENDED_STATES:
                    self._raise_unless_succeeded(status)
                    with contextlib.suppress(EndRolledBack):  # then it runs again
                        self._check_delivered(delivered)
                        return
                channel.get(JOB_POLL_SECONDS)

    def _check_delivered(self, delivered: Mapping[int, ResultManifest]) -> None:
        """What was handed out while the job ran is its result."""
        partitions, *_ = self._collect_partitions()
        for partition, manifest in delivered.items():
            if partitions.manifests[partition].token != manifest.token:
                raise ComputedAgain(self.id, partition)

    def _read_while_running(
        self, partition: int, manifest: ResultManifest
    ) -> Iterator[Iterable[tuple[Any, Any]]]:
        """A partition of a job that may still run: what is gone may have gone rightly."""
        find_class = self._find_class()
        try:
            for keys, values in read_partition(self._store, self._sealer, manifest, find_class):
                yield zip(keys, values, strict=True)
        except SealError:
            status = self._read_status(existed=True)
            if status.state in ENDED_STATES:
                self._raise_unless_succeeded(status)
            record = self._store.result_records(self.id, [partition]).get(partition, b"")
            if not record.startswith(f"{manifest.token} ".encode()):
                raise ComputedAgain(self.id, partition) from None
            raise

    def cancel(self) -> bool:
        """Stop the job and free its data; False if it had ended before."""
        outcome = self._store.cancel(self.id)
        if outcome == "GONE":
            raise job_not_found_error(self.id)
        if outcome != "OK":
            return False
        self._publish("cancelled")
        self._store.free_bulk(self.id, self._input_count(), self._spec.partitions)
        self._store.move_last(self.id, self._store.server_ms())
        return True

    def delete(self) -> None:
        """Nothing of the job is left in Redis, its results included; stops it if it runs."""
        if self._n_map is None:  # who submits it must not add what nobody deletes
            with contextlib.suppress(KeysAltered):
                self._store.cancel(self.id)
        self._store.delete(self.id, self._input_count(), self._spec.partitions)

    def errors(self) -> list[Failure]:
        """Failed attempts that workers reported: of each task the last one."""
        return list(failures_by_task(self._sealer, self._store.failures(self.id)).values())

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
        if self._read_status().state != "succeeded":
            skipped = skipped_so_far(self._store, self._sealer)
            if self._read_status().state != "succeeded":  # else the map records went meanwhile
                return skipped
        return self._collect_partitions()[2]

    def with_store(self, store: Store) -> Job:
        """The same job, asked after over another connection."""
        return Job(store, self._keyring, self._spec, self._submitter_state, self._n_map)

    # -- for the client -------------------------------------------------------

    def apply_finishfn(self, results: Results) -> Any:
        """What the job's finishfn makes of its results."""
        finishfn = (
            self._submitter_state.finishfn
            if self._submitter_state
            else self._load_functions().get("finishfn")
        )
        return finishfn(results) if finishfn else results

    def unreachable_error(self, unavailable: StoreUnavailable) -> StoreUnavailable:
        """The error for a server that was away for too long: how to come back to the job."""
        if (
            self._submitter_state and self._submitter_state.restart_worker
        ):  # it was our own, and nobody else can ask it
            return unavailable
        input_complete = self._submitter_state is None or self._n_map is not None
        return unreachable_error(unavailable, self.id, input_complete=input_complete)

    def _wait_for_end(self, deadline: float | None, *, outcome: bool = False) -> JobStatus | None:
        """The look that saw the job ended; None if it had not by then (of time.monotonic())."""
        try:
            return self._poll_until_end(deadline, outcome=outcome)
        except StoreUnavailable as unavailable:
            raise self.unreachable_error(unavailable) from unavailable.__cause__

    def _poll_until_end(self, deadline: float | None, *, outcome: bool) -> JobStatus | None:
        with self._store.subscribe(self.txn) as channel:
            if self._n_map is not None and deadline is None:  # a look before would be in vain
                channel.get(JOB_POLL_SECONDS)
            while True:
                status = self._read_status(existed=True, outcome=outcome)
                self._report(status)
                if status.state in ENDED_STATES:
                    return status
                remaining = JOB_POLL_SECONDS
                if deadline is not None:
                    remaining = min(remaining, deadline - time.monotonic())
                if remaining <= 0:
                    return None
                remaining = min(remaining, PROGRESS_SECONDS) if self._show_progress else remaining
                wait_until_end(channel, self._keyring, self.id, remaining)

    def _on_submit_step(self) -> None:
        """Called often while the input is handed in: tell how far the job is, now and then."""
        now = time.monotonic()
        if now - self._reported_at >= PROGRESS_SECONDS:
            self._reported_at = now
            self._report(self._read_status(existed=True))

    def _report(self, status: JobStatus) -> None:
        """Draw the progress, or explain on stderr why there is none.

        Raises:
            NoWorkers: nobody has worked on the job for ``wait_for_workers`` seconds.
        """
        show_progress, wait_limit = (
            self._show_progress,
            self._submitter_state.wait_for_workers if self._submitter_state else None,
        )
        now, ended = time.monotonic(), status.state in ENDED_STATES
        if show_progress and (ended or now - self._progress_shown_at >= PROGRESS_SECONDS):
            self._progress_shown_at = now
            show_progress(progress_of(status, self._spec, self._idle_explainer))
        if ended:
            return
        if self._submitter_state and self._submitter_state.restart_worker:
            self._submitter_state.restart_worker()
        self._idle_explainer.observe(status, silent=show_progress is not None)
        if wait_limit is not None and self._idle_explainer.idle_seconds > wait_limit:
            raise NoWorkers(
                f"no worker took job {self.id} within {wait_limit:g} s: "
                f"{self._idle_explainer.reason() or 'they are busy with other jobs'}",
                job_id=self.id,
            )

    def _wait_for_results(self, timeout: float | None) -> Results:
        deadline = deadline_of(timeout)
        while self._results is None:
            status = self._wait_for_end(deadline, outcome=True)
            if status is None:
                after = f" after {timeout:g} s" if timeout else ""
                raise JobTimeout(
                    f"job {self.id} is still {self.state}{after}, and goes on",
                    job_id=self.id,
                )
            self._raise_unless_succeeded(status)
            with contextlib.suppress(
                EndRolledBack
            ):  # then it runs again, and its end is waited for
                self._results = self._collect_results(status.results)[0]
            if self._show_progress and self._results is not None and self._results.skipped:
                last_progress = progress_of(status, self._spec, self._idle_explainer)
                self._show_progress(replace(last_progress, skipped=self._results.skipped))
        return self._results

    def _collect_results(
        self, outcome: EndAndRecords | None = None
    ) -> tuple[Results, dict[str, int]]:
        partitions, counters, skipped = self._collect_partitions(outcome)
        results = Results(
            partitions, sort=self._spec.sort, counters=counters, skipped=skipped, job_id=self.id
        )
        if self._submitter_state and self._submitter_state.delete is not None:
            # Results of ``run`` own the job: it goes when they are closed, or nobody has them.
            partitions.on_close = weakref.finalize(
                results, self._submitter_state.delete, self._input_count()
            )
            partitions.on_close.atexit = self._submitter_state.delete_at_exit
        return results, counters

    def _collect_partitions(
        self, outcome: EndAndRecords | None = None
    ) -> tuple[Any, dict[str, int], Skipped]:
        return collect(
            self._store,
            self._sealer,
            self._spec,
            outcome,
            partitionfn=self._submitter_state.partitionfn if self._submitter_state else None,
            find_class=self._find_class(),
        )

    def _load_functions(self) -> Any:
        return self._load_code().functions if self._spec.finish else {}

    def _find_class(self) -> Callable[[str, str], Any] | None:
        """How to resolve classes in results: by this process if it submitted, else by the job."""
        return None if self._submitter_state is not None else self._find_shipped_class

    def _find_shipped_class(self, module: str, name: str) -> Any:
        """A class by name: most are imported here; the job's code is loaded for the others."""
        return imported_class(module, name) or self._load_code().find_class(module, name)

    def _load_code(self) -> LoadedCode | OtherPythonCode:
        if self._loaded_code is None:
            code = self._sealer.open_code(self._store.get_sealed(self.id, "code"))
            with explain_library_errors(
                "the job's code", Provenance(SUBMITTER, self._spec.libraries)
            ):
                self._loaded_code = load_for_reader(code, self.id, self._spec.python)
        return self._loaded_code

    def _read_status(self, *, existed: bool = False, outcome: bool = False) -> JobStatus:
        status = self._store.status(self.id, with_results=outcome)
        if status is None:
            raise job_vanished_error(self.id) if existed else job_not_found_error(self.id)
        if existed:
            try:
                self._job_watch.check(status, self._n_map)
            except InputLost:
                with contextlib.suppress(RedismrError):
                    self.cancel()
                raise
        return status

    def _raise_unless_succeeded(self, status: JobStatus) -> None:
        if status.state != "succeeded":
            raise end_error(self._sealer, status, self._store.failures(self.id))

    def _input_count(self) -> int:
        """How many map tasks may have input; where no end was sealed, what Redis says in clear."""
        if self._n_map is not None:
            return self._n_map
        with contextlib.suppress(SealError, KeysAltered):
            return self._sealer.open_end(self._store.get_sealed(self.id, "end"))
        with contextlib.suppress(KeysAltered):
            added = self._store.meta(self.id, "added").get("added")
            return min(max(0, number(added)), 100_000_000)
        return 0

    def _publish(self, kind: str) -> None:
        self._store.publish(
            self.txn, encode_event(Event(self.id, self.txn, 0, kind, {}), self._keyring)
        )
