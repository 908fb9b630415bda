"""``Job``: the handle of one submitted job, in the process that submitted it or in another."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from redismr.client import collector
from redismr.client.end_errors import failures_by_task
from redismr.client.job_waiting import JOB_POLL_SECONDS, AwaitableJob, deadline_of
from redismr.client.results import Results
from redismr.core.model import (
    ENDED_STATES,
    CollectedResult,
    Failure,
    Provenance,
    ResultManifest,
    Skipped,
)
from redismr.core.pickled_snapshots import FindClass
from redismr.core.status_rows import Progress
from redismr.core.task_errors import imported_class
from redismr.errors import JobTimeout, SealError
from redismr.shipping import LoadedCode, OtherPythonCode, load_for_reader
from redismr.shipping.libraries import SUBMITTER, explain_library_errors
from redismr.store import EndAndRecords


class Job(AwaitableJob):
    """The handle of a submitted job. Thread-safe.

    Making a handle costs nothing: the server is asked when a method is called. While Redis is away,
    each call waits up to ``wait_for_server`` seconds (a job option, 30 by default), and then raises
    ``StoreUnavailable``. For a job that Redis does not know any more, ``wait``, ``result`` and
    iteration raise ``JobLost``, and other calls ``JobNotFound``.

    >>> from redismr import Client
    >>> with Client(executors=1) as client:
    ...     job = client.submit(["b", "a", "b"], lambda item: [(item, 1)], "sum", txn="letters")
    ...     job.wait(), job.state, job.txn, dict(job.result())
    (True, 'succeeded', 'letters', {'b': 2, 'a': 1})

    Attributes:
        id: the id of the job, which no other job ever has.
        txn: the caller's label; the id if the caller gave none.
    """

    _loaded_code: LoadedCode | OtherPythonCode | None = None
    _results: Results | None = None

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    @property
    def state(self) -> str:
        """State of the job: submitting, mapping, reducing, succeeded, failed or cancelled.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([0], lambda item: [(item, 1 / item)], retries=0)
        ...     job.wait(), job.state
        (True, 'failed')

        Raises:
            JobNotFound: Redis does not know the job any more.
            StoreUnavailable: Redis was away for ``wait_for_server`` seconds.
        """
        return self._read_status().state

    @property
    def counters(self) -> dict[str, int]:
        """The counters of user functions, each task once; empty until the job has succeeded.

        >>> from redismr import Client, count
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["a", "b"], lambda item: count("items"))
        ...     job.wait(), job.counters
        (True, {'items': 2})
        """
        if self._results is not None:
            return dict(self._results.counters)
        if self.state == "succeeded":
            return self._collect().counters
        return {}

    def progress(self) -> Progress:
        """Return how far the job is: a hint for people, from clear text of the server.

        A caller that asks each second is expected to show ``Progress.waiting``, the reason why the
        job waits; ``wait`` does not print the reason then.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["a"], lambda item: [(item, 1)], partitions=2)
        ...     job.wait(), job.progress().reduces_done
        (True, 2)
        """
        return self._observer.progress(self._read_status())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the job has ended in any way; return False after ``timeout`` seconds.

        The timeout is checked only while Redis answers.

        >>> import time
        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([1], lambda item: time.sleep(item))
        ...     job.wait(0.1), job.wait()
        (False, True)

        Raises:
            JobLost: the job vanished from Redis.
            StoreUnavailable: Redis was away for ``wait_for_server`` seconds.
            NoWorkers: no worker took the job within ``wait_for_workers`` seconds.
            ConfigError: ``timeout`` is not a number of seconds.
        """
        return self._wait_for_end(deadline_of(timeout)) is not None

    def result(self, timeout: float | None = None, *, finish: bool = True) -> Any:
        """Wait for the job, and return its ``Results``, or what its finishfn makes of them.

        With ``finish=False`` finishfn is not called, and the return value is always ``Results``,
        which fetch a few MB at a time as they are read. A second call returns the same results.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["b", "a", "b"], lambda item: [(item, 1)], "sum", finishfn=len)
        ...     job.result(), job.result(finish=False)["b"]
        (2, 2)

        Raises:
            MapError, ReduceError: user code raised; the error is also an instance of the original
                class, if this process can import that.
            JobFailed, JobCancelled, JobLost: the job ended without a result.
            JobTimeout: ``timeout`` seconds are over; the job goes on.
            NoWorkers: no worker took the job within ``wait_for_workers`` seconds.
            SealError: what is in Redis is not what the workers put there.
            StoreUnavailable: Redis was away for ``wait_for_server`` seconds; the timeout is
                checked only while Redis answers.
            Exception: what finishfn raised; the results stay readable.
        """
        results = self._wait_for_results(timeout)
        return self._apply_finishfn(results) if finish else results

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        """Yield (key, value) pairs, partition by partition as the reduce tasks finish.

        Each partition is delivered once, in any order; up to 4 MB of it are in memory.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     sorted(client.submit(["b", "a", "b"], lambda item: [(item, 1)], "sum"))
        [('a', 1), ('b', 2)]

        Raises, after some pairs:
            JobError: the job fails later, or lost data has a partition that was delivered computed
                again.
        """
        for pairs in self._iterate_columns():
            # Not by itertools.chain: two threads that share it would skip pairs.
            yield from pairs

    def errors(self) -> list[Failure]:
        """Return the failed attempts that workers reported: the last one of each task.

        Failures are in the order of their tasks; those that are not sealed are left out.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([0], lambda item: [(item, 1 / item)], retries=0)
        ...     job.wait(), [failure.error_name for failure in job.errors()]
        (True, ['ZeroDivisionError'])
        """
        return list(failures_by_task(self._sealer, self._store.failures(self.id)).values())

    def skipped(self) -> Skipped:
        """Return the records, and keys of reducefn, that ``on_error`` left out.

        The return value is a sequence of failures of kind "skipped" that say where, on what and
        why: the first 1000 of ``.total``. Before the job has succeeded they are those of its
        finished tasks.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([0, 1], lambda item: [(item, 1 / item)], on_error="skip")
        ...     job.wait(), [(skip.where, skip.error_name) for skip in job.skipped()]
        (True, [('item 0 (key 0)', 'ZeroDivisionError')])

        Raises:
            SealError: what is in Redis is not what the workers put there.
        """
        if self._results is not None:
            return self._results.skipped
        if self._spec.on_error == "fail":
            return Skipped()
        if self._read_status().state != "succeeded":
            skipped = collector.skipped_so_far(self._store, self._sealer)
            # If the job has succeeded meanwhile, its map records were deleted: read the result.
            if self._read_status().state != "succeeded":
                return skipped
        return self._collect().skipped

    def _wait_for_results(self, timeout: float | None) -> Results:
        deadline = deadline_of(timeout)
        while self._results is None:
            status = self._wait_for_end(deadline, with_results=True)
            if status is None:
                after = f" after {timeout:g} s" if timeout else ""
                text = f"job {self.id} is still {self._read_status().state}{after}, and goes on"
                raise JobTimeout(text, job_id=self.id)
            self._raise_unless_succeeded(status)
            # After a failover that forgot the end, the job runs again: wait for the next end.
            with contextlib.suppress(collector.EndRolledBack):
                self._results = self._collect_results(status.results)
            if self._results is not None and self._results.skipped:
                self._show(status, self._results.skipped)
        return self._results

    def _iterate_columns(self) -> Iterator[Iterable[tuple[Any, Any]]]:
        """Yield the pairs of each block, of each partition when its reduce task has finished."""
        delivered: dict[int, ResultManifest] = {}
        with self._store.subscribe(self.txn) as channel:
            while True:
                status = self._watch_status()
                self._report(status)
                # Deliver the partitions that have finished since the last look.
                missing = [p for p in range(self._spec.partitions) if p not in delivered]
                for partition, record in self._store.committed_results(self.id, missing).items():
                    manifest = self._sealer.open_result_manifest(partition, record)
                    delivered[partition] = manifest
                    yield from self._read_while_running(partition, manifest)
                # The job has ended: what was delivered must be its result.
                if status.state in ENDED_STATES:
                    self._raise_unless_succeeded(status)
                    with contextlib.suppress(collector.EndRolledBack):  # then it runs again
                        self._check_delivered(delivered)
                        return
                channel.get(JOB_POLL_SECONDS)

    def _check_delivered(self, delivered: Mapping[int, ResultManifest]) -> None:
        """Check that what was delivered while the job ran is part of its result."""
        partitions = self._collect().partitions
        for partition, manifest in delivered.items():
            if partitions.manifests[partition].token != manifest.token:
                raise collector.ComputedAgain(self.id, partition)

    def _read_while_running(
        self, partition: int, manifest: ResultManifest
    ) -> Iterator[Iterable[tuple[Any, Any]]]:
        """Read a partition of a job that may still run and replace the partition's data meanwhile.

        Raises:
            ComputedAgain: the partition is being computed again. JobError: the job has failed.
            SealError: the data was altered, or lost for another reason.
        """
        blocks = collector.read_partition(self._store, self._sealer, manifest, self._find_class())
        try:
            for keys, values in blocks:
                yield zip(keys, values, strict=True)
        except SealError:
            status = self._watch_status()
            if status.state in ENDED_STATES:
                self._raise_unless_succeeded(status)
            record = self._store.committed_results(self.id, [partition]).get(partition, b"")
            if not record.startswith(f"{manifest.token} ".encode()):
                raise collector.ComputedAgain(self.id, partition) from None
            raise

    def _collect_results(self, end_and_records: EndAndRecords | None) -> Results:
        """Return the results of a job that has succeeded."""
        collected = self._collect(end_and_records)
        partitions = collected.partitions
        results = Results(
            partitions,
            sort=self._spec.sort,
            counters=collected.counters,
            skipped=collected.skipped,
            job_id=self.id,
        )
        if self._submitter_state and self._submitter_state.delete is not None:
            # Results of ``run`` own the job: it is deleted when they are closed or collected.
            partitions.on_close = weakref.finalize(
                results, self._submitter_state.delete, self._input_count()
            )
            # A private server ends with the process.
            partitions.on_close.atexit = self._submitter_state.restart_worker is None
        return results

    def _collect(
        self, end_and_records: EndAndRecords | None = None
    ) -> CollectedResult[collector.RedisPartitions]:
        return collector.collect(
            self._store,
            self._sealer,
            self._spec,
            end_and_records,
            partitionfn=self._submitter_state.partitionfn if self._submitter_state else None,
            find_class=self._find_class(),
        )

    def _apply_finishfn(self, results: Results) -> Any:
        if self._submitter_state:
            finishfn = self._submitter_state.finishfn
        else:
            finishfn = self._load_code().functions.get("finishfn") if self._spec.finish else None
        return finishfn(results) if finishfn else results

    def _find_class(self) -> FindClass | None:
        """Return how to find the classes in results; None: as pickle does, in this process."""
        return None if self._submitter_state is not None else self._find_shipped_class

    def _find_shipped_class(self, module: str, name: str) -> Any:
        """Import a class here; if that is impossible, load the job's code for it."""
        return imported_class(module, name) or self._load_code().find_class(module, name)

    def _load_code(self) -> LoadedCode | OtherPythonCode:
        if self._loaded_code is None:
            code = self._sealer.open_code(self._store.get_sealed(self.id, "code"))
            with explain_library_errors(
                "the job's code", Provenance(SUBMITTER, self._spec.libraries)
            ):
                self._loaded_code = load_for_reader(code, self.id, self._spec.python)
        return self._loaded_code
