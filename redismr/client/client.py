"""``Client``: submit jobs, find them again, see who works."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Self, Unpack

from redismr import settings, standard_streams
from redismr.client.embedded import EmbeddedBackend, embedded_backend
from redismr.client.end_errors import fail_as_altered, job_not_found_error, kept_result_note
from redismr.client.job import Job
from redismr.client.job_options import (
    ProgressFunction,
    SubmitOptionsDict,
    SubmitterState,
    clear_fields,
    new_spec,
    split_options,
)
from redismr.client.library_check import MissingLibraries
from redismr.client.listener import deliver_result, follow_events
from redismr.client.listings import deleted_row, deleted_rows, job_rows, worker_rows
from redismr.client.per_worker import PerWorkerSubmitter, as_per_worker_source
from redismr.client.results import Results
from redismr.client.submitter import SUBMIT_LEASE_MS, JobEnded, Submitter
from redismr.client.waiting import report_long_wait
from redismr.confidential import Unpicklable
from redismr.config import LABEL_RULE, OPTION_RULES, Connection, check_callable, checked_executors
from redismr.core.annotations import Function
from redismr.core.events import Event, encode_event
from redismr.core.job_payloads import JobSealer
from redismr.core.model import ENDED_STATES, RUNNING_STATES, JobSpec
from redismr.core.seal import Keyring
from redismr.core.status_rows import JobInfo, WorkerInfo
from redismr.engine.program import check_functions
from redismr.errors import (
    JobError,
    JobLost,
    JobNotFound,
    NoWorkers,
    SealError,
    StoreUnavailable,
)
from redismr.process_guards import only_in_this_process, refuse_while_loading
from redismr.shipping import PackedCode, pack
from redismr.sources import Source, as_source
from redismr.store import Store


class Client(Unpicklable):
    """A connection to a server that holds jobs. A context manager; thread-safe.

    Args:
        url: redis://, rediss://, unix:// or redis+sentinel://HOST:26379,HOST2:26379/SERVICE; None:
            REDISMR_URL, else a private server and one local executor per core, which live as long
            as this process.
        secret: at least 16 characters, the same on every machine; None: REDISMR_SECRET.
        namespace: prefix of every key.
        executors: number of local executors, where no server is named.

    Raises:
        ConfigError: URL, secret, namespace or executors cannot be used; says what to set.
        StoreUnavailable: no server answers. UnfitServer: none for jobs (too old, a replica, a
            Cluster node, evicting), or none that lets this user read what is there.
        RunawayJob: a worker is loading the module that makes it.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        secret: str | None = None,
        namespace: str | None = None,
        executors: int | None = None,
    ) -> None:
        refuse_while_loading()
        standard_streams.open_missing_descriptors()
        executors = checked_executors(executors)
        resolved = settings.resolve_connection(url, secret, namespace)
        self._embedded: EmbeddedBackend | None = None
        if resolved is None:
            self._embedded = embedded_backend(settings.resolve_namespace(namespace), executors)
            resolved = self._embedded.server.connection
        self.connection: Connection = resolved
        self._keyring = Keyring(resolved.secret, resolved.namespace)
        on_wait = (
            partial(_wait_for_own_server, self._embedded) if self._embedded else report_long_wait
        )
        self._store = Store(resolved, name="redismr-client", on_wait=on_wait)
        self._cleanup_store = Store(resolved, patience=1.0, timeout=2, name="redismr-cleanup")
        self._listener_store = Store(
            resolved, patience=None, name="redismr-listener", on_wait=on_wait
        )
        if self._embedded is None:
            self._store.server.check("monitor")

    def __enter__(self) -> Self:
        """For ``with``."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close the connections. Jobs go on; open results reconnect by themselves."""
        for store in (self._store, self._cleanup_store, self._listener_store):
            store.server.close()

    def run(
        self,
        source: Any,
        mapfn: Function | None = None,
        reducefn: Function | str | None = None,
        *,
        progress: ProgressFunction | None = None,
        resultfn: Callable[[str, Any], object] | None = None,
        finish: bool = True,
        **options: Unpack[SubmitOptionsDict],
    ) -> Any:
        """Submit a job, wait for it, and return its ``Results`` (or what finishfn makes of them).

        Takes what ``redismr.run`` takes. Ctrl-C and other exceptions cancel a job that runs. The
        job stays where the server is away for too long, and where finishfn or resultfn raises.
        """
        check_functions(resultfn=resultfn)
        check_callable("progress", progress)
        job: Job | None = None
        cancel = only_in_this_process(Job.cancel)
        try:
            job = self._submit_job(
                source, mapfn, reducefn, options, owns_job=True, show_progress=progress
            )
            results = job.result(finish=False)
        except BaseException as exc:
            job_has_ended = isinstance(exc, JobError | SealError) and not isinstance(exc, NoWorkers)
            if job is not None and not job_has_ended and not isinstance(exc, StoreUnavailable):
                self._clean_up_quietly(job, cancel)
            if isinstance(exc, KeyboardInterrupt):
                raise KeyboardInterrupt from None  # not a screen of frames about sockets
            raise
        return self._call_result_functions(job, results, resultfn) if finish else results

    def _call_result_functions(
        self, job: Job, results: Results, resultfn: Callable[[str, Any], object] | None
    ) -> Any:
        """What finishfn makes of the results; a result that was computed outlives its errors."""
        try:
            outcome = job.apply_finishfn(results)
            if resultfn:
                resultfn(job.txn, outcome)
        except BaseException as exc:
            if results.keep():
                exc.add_note(kept_result_note(job.id, own_server=self._embedded is not None))
            raise
        return outcome

    def submit(
        self,
        source: Any,
        mapfn: Function | None = None,
        reducefn: Function | str | None = None,
        *,
        resultfn: Callable[[str, Any], object] | None = None,
        **options: Unpack[SubmitOptionsDict],
    ) -> Job:
        """Hand a job in and return its handle once all its input is in Redis.

        From then on no process of ours is needed any more: whoever knows the id collects the
        result. ``resultfn(txn, results)`` is called once, in a thread of this process, which does
        not end before. With ``each_worker`` the input is complete, and this returns, only when
        every worker has run its map task, or is gone.

        Raises:
            ConfigError: an option, or a function that cannot be what it is given as.
            CodeError: functions or params that cannot be sent to a worker.
            SourceError: input that cannot be read. JobError: the job ended meanwhile.
            UnfitServer: the server does not let this user hand jobs in.
            StoreUnavailable: it does not answer, or takes no writes for now.
        """
        check_functions(resultfn=resultfn)
        job = self._submit_job(source, mapfn, reducefn, options, owns_job=False)
        if resultfn:
            threading.Thread(
                target=deliver_result, args=(job, resultfn), name=f"resultfn-{job.id}"
            ).start()
        return job

    def attach(self, job_id: str, *, wait_for_server: float | None = 30.0) -> Job:
        """The handle of a job that was submitted earlier, by any process with the same secret.

        ``wait_for_server`` is how many seconds it waits for a server that is away; None: as long as
        that takes.

        Raises:
            JobNotFound: Redis knows no such job: never submitted, deleted, or its ttl is over.
            WrongSecret: it was submitted with another secret.
            ConfigError: a ``wait_for_server`` that is no such time.
        """
        if wait_for_server is not None:
            wait_for_server = OPTION_RULES["wait_for_server"].check(
                "wait_for_server", wait_for_server
            )
        return self._attach(self._store.with_patience(wait_for_server), job_id)

    def _attach(self, store: Store, job_id: str) -> Job:
        LABEL_RULE.check("job_id", job_id)
        blob = store.get_sealed(job_id, "spec")
        if blob is None:
            raise job_not_found_error(job_id)
        return Job(store, self._keyring, JobSealer(self._keyring, job_id).open_spec(blob))

    def jobs(self, *, deleted: bool = False) -> list[JobInfo]:
        """Every job that still exists in this namespace, newest first. Clear text: for people.

        With ``deleted`` also those that ``run`` has deleted when their results were read: for their
        ttl, and the last 1000.
        """
        rows = job_rows(self._store)
        if deleted:
            rows += deleted_rows(self._store)
            rows.sort(key=lambda row: row.age)
        return rows

    def workers(self) -> list[WorkerInfo]:
        """Every worker that was heard of in the last minute. Clear text: for people.

        ``lost`` are those that have missed three beats, of 5 s as a rule: killed, or cut off.
        """
        return worker_rows(self._store)

    def listen(self, txn: str | None = None, job: str | None = None) -> Iterator[Event]:
        """Events of one transaction, one job, or all, from this call on; ends never.

        The end of each job comes once, also where its message was lost or the line was cut. The
        other events are hints: only what a holder of the secret published, and what was not lost.
        Redis is waited for as long as it is away.

        Raises:
            JobLost: ``job`` vanished from Redis.
        """
        if txn is not None:
            LABEL_RULE.check("txn", txn)
        if job is not None and txn is None:
            txn = self.attach(job).txn
        return follow_events(self._listener_store, self._keyring, txn, job)

    def each(
        self,
        fn: Callable[[str, Any], object],
        txn: str | None = None,
        *,
        errorfn: Callable[[str, Exception], object] | None = None,
    ) -> None:
        """Call ``fn(txn, results)`` once for each job that succeeds from this call on.

        Of one transaction, or of all, whoever submitted them, and whatever messages were lost.
        Ends when one of the functions returns False. What is deleted before it was read, as ``run``
        deletes its jobs, is left out: also when ``fn``, which has begun to read it, raises JobLost.
        Redis is waited for as long as it is away.

        Args:
            fn: called in this thread, one result after another.
            txn: a label, None for all.
            errorfn: ``errorfn(txn, error)`` is called once for each job that fails or is
                cancelled; without it the error is raised.

        Raises:
            JobError: a job failed. SealError: it was altered.
        """
        for name, function in (("fn", fn), ("errorfn", errorfn)):
            check_callable(name, function)

        def on_error(label: str, error: Exception) -> object:
            if errorfn is None or isinstance(error, JobLost):
                raise error
            return errorfn(label, error)

        for event in self.listen(txn):
            if event.kind not in ENDED_STATES:
                continue
            try:
                if (
                    deliver_result(self._attach(self._listener_store, event.job), fn, on_error)
                    is False
                ):
                    return
            except (JobNotFound, JobLost) as error:
                if error.job_id != event.job:
                    raise

    # -- submitting -------------------------------------------------------------

    def _submit_job(
        self,
        source: Any,
        mapfn: Function | None,
        reducefn: Function | str | None,
        options: SubmitOptionsDict,
        *,
        owns_job: bool,
        show_progress: ProgressFunction | None = None,
    ) -> Job:
        refuse_while_loading()
        self.connection.remember_secrets()
        functions, params, chosen_options = split_options(mapfn, reducefn, options)
        check_functions(**functions)
        packed_code = pack(functions, params)
        each_worker = chosen_options.each_worker
        input_source = (as_per_worker_source if each_worker else as_source)(
            source, chunk=chosen_options.chunk
        )
        now_ms, rows = self._server_time_and_workers()
        slots = sum(int(row.get("executors", 0)) for row in rows.values())
        spec = new_spec(
            chosen_options,
            input_source.size,
            packed_code.digest,
            functions,
            now_ms=now_ms,
            slots=slots,
        )
        missing_libraries = MissingLibraries.from_worker_rows(rows, spec, self._keyring.key_id)
        missing_libraries.warn(packed_code.module_names)
        sealer = JobSealer(self._keyring, spec.job_id)
        store = self._store.with_patience(chosen_options.wait_for_server)
        job = Job(
            store,
            self._keyring,
            spec,
            SubmitterState(
                functions["finishfn"],
                functions["partitionfn"],
                delete=only_in_this_process(partial(self._delete, spec, time.monotonic()))
                if owns_job
                else None,
                delete_at_exit=self._embedded is None,  # else the server ends as well
                show_progress=show_progress,
                wait_for_workers=chosen_options.wait_for_workers,
                restart_worker=self._embedded.restart_worker if self._embedded else None,
            ),
        )
        expire_at = self._create(
            store, spec, sealer, packed_code, input_source, each_worker=each_worker
        )
        submitter = (PerWorkerSubmitter if each_worker else Submitter)(
            store,
            sealer,
            expire_at,
            spec,
            slots=slots,
            on_step=job._on_submit_step,  # noqa: SLF001
            cancel=only_in_this_process(job.cancel),
            check_frame=missing_libraries.check_pickle,
        )
        try:
            job._n_map = submitter.submit(input_source)  # noqa: SLF001
        except JobEnded as ended:
            if ended.state in RUNNING_STATES:  # only we close the input, and we have not
                contradiction = "its state says that all of its input is there, which is not so"
                raise fail_as_altered(self._store, sealer, contradiction) from None
            job.result(0)  # raises what became of it
        except StoreUnavailable as unavailable:
            raise job.unreachable_error(unavailable) from unavailable.__cause__
        return job

    def _create(
        self, store: Store, spec: JobSpec, sealer: JobSealer, packed_code: PackedCode, source: Source, *,  # noqa: E501
        each_worker: bool,
    ) -> int:  # fmt: skip
        """The job exists and is listed; returns its deadline."""
        return store.create(
            spec.job_id,
            since_ms=spec.submitted_ms,
            spec=sealer.seal_spec(spec),
            code=sealer.seal_code(packed_code.code),
            params=sealer.seal_params(packed_code.params),
            ttl_ms=spec.ttl_ms,
            submit_ms=SUBMIT_LEASE_MS,
            fields=clear_fields(spec, self._keyring.key_id, source, each_worker=each_worker),
            event=encode_event(Event(spec.job_id, spec.txn, 0, "submitted"), self._keyring),
        )

    def _server_time_and_workers(self) -> tuple[int, Mapping[str, Mapping[str, Any]]]:
        """The server's time in ms; rows about the workers that are there, and not lost."""
        if self._embedded:  # our own server has our clock
            return time.time_ns() // 1_000_000, {"": {"executors": self._embedded.executors}}
        now_ms, rows = self._store.worker_rows()
        return now_ms, {worker: row for worker, row in rows.items() if not row["lost"]}

    def _delete(self, spec: JobSpec, submit_began: float, n_map: int) -> None:
        """Delete a job that nobody has the results of any more; its row stays for listings.

        It began at ``submit_began`` of ``time.monotonic()``.
        """
        now_ms = spec.submitted_ms + int((time.monotonic() - submit_began) * 1000)
        with contextlib.suppress(Exception):  # keys expire by themselves
            row = deleted_row(spec, n_map, now_ms)
            self._cleanup_store.delete(spec.job_id, n_map, spec.partitions, row)

    def _clean_up_quietly(self, job: Job, cleanup: Callable[[Job], object]) -> None:
        """Clean up, within a second or two; an error in it must not hide the one that led here."""
        with contextlib.suppress(Exception):  # keys expire by themselves
            cleanup(job.with_store(self._cleanup_store))


def _wait_for_own_server(backend: EmbeddedBackend, text: str, waited: float) -> None:
    """Wait for a server of our own that does not answer, as long as there is one.

    Raises:
        StoreUnavailable: there is none any more.
    """
    if not backend.server.alive:
        raise StoreUnavailable(
            "this process's own server has ended (killed, or out of memory?), and its jobs with "
            "it: run them again"
        )
    report_long_wait(text, waited)
