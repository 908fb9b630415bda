"""Reading of one job's results: all of them at the end, or partitions while the job runs."""

import contextlib
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from redismr.client.collector import (
    ComputedAgain,
    EndRolledBack,
    RedisPartitions,
    collect,
    read_partition,
    skipped_so_far,
)
from redismr.client.job_waiting import JOB_POLL_SECONDS, AwaitableJob, deadline_of
from redismr.client.results import Results
from redismr.core.model import ENDED_STATES, CollectedResult, Provenance, ResultManifest, Skipped
from redismr.core.pickled_snapshots import FindClass
from redismr.core.task_errors import imported_class
from redismr.errors import JobTimeout, SealError
from redismr.shipping import LoadedCode, OtherPythonCode, load_for_reader
from redismr.shipping.libraries import SUBMITTER, explain_library_errors
from redismr.store import EndAndRecords


class ReadableJob(AwaitableJob):
    """A job whose results can be read."""

    _loaded_code: LoadedCode | OtherPythonCode | None = None
    _results: Results | None = None

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
            with contextlib.suppress(EndRolledBack):
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
                    with contextlib.suppress(EndRolledBack):  # then it runs again
                        self._check_delivered(delivered)
                        return
                channel.get(JOB_POLL_SECONDS)

    def _check_delivered(self, delivered: Mapping[int, ResultManifest]) -> None:
        """Check that what was delivered while the job ran is part of its result."""
        partitions = self._collect().partitions
        for partition, manifest in delivered.items():
            if partitions.manifests[partition].token != manifest.token:
                raise ComputedAgain(self.id, partition)

    def _read_while_running(
        self, partition: int, manifest: ResultManifest
    ) -> Iterator[Iterable[tuple[Any, Any]]]:
        """Read a partition of a job that may still run and replace the partition's data meanwhile.

        Raises:
            ComputedAgain: the partition is being computed again. JobError: the job has failed.
            SealError: the data was altered, or lost for another reason.
        """
        find_class = self._find_class()
        try:
            for keys, values in read_partition(self._store, self._sealer, manifest, find_class):
                yield zip(keys, values, strict=True)
        except SealError:
            status = self._watch_status()
            if status.state in ENDED_STATES:
                self._raise_unless_succeeded(status)
            record = self._store.committed_results(self.id, [partition]).get(partition, b"")
            if not record.startswith(f"{manifest.token} ".encode()):
                raise ComputedAgain(self.id, partition) from None
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
            partitions.on_close.atexit = self._submitter_state.delete_at_exit
        return results

    def _collect(
        self, end_and_records: EndAndRecords | None = None
    ) -> CollectedResult[RedisPartitions]:
        return collect(
            self._store,
            self._sealer,
            self._spec,
            end_and_records,
            partitionfn=self._submitter_state.partitionfn if self._submitter_state else None,
            find_class=self._find_class(),
        )

    def _collect_skipped(self) -> Skipped:
        """Return the records that were left out; before the end, those of finished tasks."""
        if self._results is not None:
            return self._results.skipped
        if self._spec.on_error == "fail":
            return Skipped()
        if self._read_status().state != "succeeded":
            skipped = skipped_so_far(self._store, self._sealer)
            # If the job has succeeded meanwhile, its map records were deleted: read the result.
            if self._read_status().state != "succeeded":
                return skipped
        return self._collect().skipped

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
