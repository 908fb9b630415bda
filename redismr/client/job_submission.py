"""Submission of a job: check and pack what the caller gave, create the job, add the input."""

import contextlib
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from redismr.client import job_options
from redismr.client.embedded import EmbeddedBackend
from redismr.client.end_errors import fail_as_altered
from redismr.client.job import Job
from redismr.client.library_check import MissingLibraries
from redismr.client.listings import deleted_row
from redismr.client.per_worker import PerWorkerSubmitter, as_per_worker_source
from redismr.client.submitter import SUBMIT_LEASE_MS, JobEnded, Submitter
from redismr.config import Connection
from redismr.core.annotations import Function
from redismr.core.events import Event, encode_event
from redismr.core.job_payloads import JobSealer
from redismr.core.model import RUNNING_STATES, JobSpec
from redismr.core.seal import Keyring
from redismr.engine.program import check_functions
from redismr.errors import StoreUnavailable
from redismr.process_guards import only_in_this_process, refuse_while_loading
from redismr.shipping import PackedCode, pack
from redismr.sources import as_source
from redismr.store import Store


class JobSubmission:
    """Submits the jobs of one client to the client's server."""

    def __init__(
        self,
        connection: Connection,
        keyring: Keyring,
        store: Store,
        cleanup_store: Store,
        embedded: EmbeddedBackend | None,
    ) -> None:
        self._connection, self._keyring, self._embedded = connection, keyring, embedded
        self._store, self._cleanup_store = store, cleanup_store

    def submit(
        self,
        source: Any,
        mapfn: Function | None,
        reducefn: Function | str | None,
        given_options: job_options.SubmitOptionsDict,
        *,
        owns_job: bool,
        show_progress: job_options.ProgressFunction | None = None,
    ) -> Job:
        """Check and pack a job, create it, and add all of its input; return the handle.

        With ``owns_job`` the job is deleted when its results are closed or collected.

        Raises:
            JobError: the job ended meanwhile.
            SourceError, or what the source raises: the job was cancelled.
            StoreUnavailable: the server does not answer, or takes no writes for now.
        """
        refuse_while_loading()
        self._connection.remember_secrets()
        functions, params, options = job_options.split_options(mapfn, reducefn, given_options)
        check_functions(**functions)
        code = pack(functions, params)
        as_job_source = as_per_worker_source if options.each_worker else as_source
        source = as_job_source(source, chunk=options.chunk)
        # All that was given is checked and packed. From here on the server is asked.
        now_ms, rows = self._server_time_and_workers()
        executors = sum(int(row.get("executors", 0)) for row in rows.values())
        spec = job_options.new_spec(
            options, source.size, code.digest, functions, now_ms=now_ms, executors=executors
        )
        key_id = self._keyring.key_id
        missing_libraries = MissingLibraries.from_worker_rows(rows, spec, key_id)
        missing_libraries.warn(code.module_names)
        sealer = JobSealer(self._keyring, spec.job_id)
        store = self._store.with_patience(options.wait_for_server)
        delete = only_in_this_process(partial(self._delete, spec, time.monotonic()))
        state = job_options.SubmitterState(
            functions["finishfn"],
            functions["partitionfn"],
            delete=delete if owns_job else None,
            show_progress=show_progress,
            wait_for_workers=options.wait_for_workers,
            restart_worker=self._embedded.restart_worker if self._embedded else None,
        )
        job = Job(store, self._keyring, spec, state)
        fields = job_options.clear_fields(spec, key_id, source, each_worker=options.each_worker)
        submitter = (PerWorkerSubmitter if options.each_worker else Submitter)(
            store,
            sealer,
            self._create(store, spec, sealer, code, fields),
            spec,
            executors=executors,
            on_step=job._on_submit_step,  # noqa: SLF001
            cancel=only_in_this_process(job.cancel),
            check_frame=missing_libraries.check_pickle,
        )
        try:
            job._n_map = submitter.submit(source)  # noqa: SLF001
        except JobEnded as ended:
            # Only this submitter closes the input, and it has not: the state was altered.
            if ended.state in RUNNING_STATES:
                contradiction = "its state says that the input is complete, but it is not"
                raise fail_as_altered(self._store, sealer, contradiction) from None
            job.result(0)  # raises the error that ended the job
        except StoreUnavailable as unavailable:
            raise job._unreachable_error(unavailable) from unavailable.__cause__  # noqa: SLF001
        return job

    def _create(
        self,
        store: Store,
        spec: JobSpec,
        sealer: JobSealer,
        code: PackedCode,
        fields: Mapping[str, str | int],
    ) -> int:
        """Create and list the job, still without input; return its deadline on the server."""
        return store.create(
            spec.job_id,
            since_ms=spec.submitted_ms,
            spec=sealer.seal_spec(spec),
            code=sealer.seal_code(code.code),
            params=sealer.seal_params(code.params),
            ttl_ms=spec.ttl_ms,
            submit_ms=SUBMIT_LEASE_MS,
            fields=fields,
            event=encode_event(Event(spec.job_id, spec.txn, 0, "submitted"), self._keyring),
        )

    def _server_time_and_workers(self) -> tuple[int, Mapping[str, Mapping[str, Any]]]:
        """Return the server's time in ms, and the rows of the workers that are not lost."""
        if self._embedded:  # a private server has the clock of this machine
            return time.time_ns() // 1_000_000, {"": {"executors": self._embedded.executors}}
        now_ms, rows = self._store.worker_rows()
        return now_ms, {worker: row for worker, row in rows.items() if not row["lost"]}

    def _delete(self, spec: JobSpec, submit_began: float, n_map: int) -> None:
        """Delete all but a row of a job; ``submit_began`` is a time of ``time.monotonic()``."""
        now_ms = spec.submitted_ms + int((time.monotonic() - submit_began) * 1000)
        with contextlib.suppress(Exception):  # the keys expire by themselves
            row = deleted_row(spec, n_map, now_ms)
            self._cleanup_store.delete(spec.job_id, n_map, spec.partitions, row)
