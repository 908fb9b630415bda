"""``Client``: submit jobs, find them again, list jobs and workers, listen to events."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Self, Unpack

from redismr import settings, standard_streams
from redismr.client.embedded import EmbeddedBackend, embedded_backend
from redismr.client.end_errors import job_not_found_error, kept_result_note
from redismr.client.job import Job
from redismr.client.job_options import ProgressFunction, SubmitOptionsDict
from redismr.client.job_progress import report_long_wait
from redismr.client.job_submission import JobSubmission
from redismr.client.listener import deliver_result, follow_events
from redismr.client.listings import deleted_rows, job_rows, worker_rows
from redismr.confidential import Unpicklable
from redismr.config import LABEL_RULE, OPTION_RULES, Connection, check_callable, checked_executors
from redismr.core.annotations import Function
from redismr.core.events import Event
from redismr.core.job_payloads import JobSealer
from redismr.core.model import ENDED_STATES
from redismr.core.seal import Keyring
from redismr.core.status_rows import JobInfo, WorkerInfo
from redismr.engine.program import check_functions
from redismr.errors import JobError, JobLost, JobNotFound, NoWorkers, SealError, StoreUnavailable
from redismr.process_guards import only_in_this_process, refuse_while_loading
from redismr.store import Store


class Client(Unpicklable):
    """A connection to a server that holds jobs. A context manager; thread-safe.

    >>> from redismr import Client
    >>> with Client(executors=1) as client:
    ...     results = client.run(["b", "a", "b"], lambda item: [(item, 1)], "sum")
    ...     dict(results)
    {'b': 2, 'a': 1}

    Args:
        url: redis://, rediss://, unix:// or redis+sentinel://HOST:26379,HOST2:26379/SERVICE. None:
            REDISMR_URL; if that is not set, a private server and one local executor per core,
            which end with this process.
        secret: at least 16 characters, the same on every machine. None: REDISMR_SECRET.
        namespace: the prefix of every key.
        executors: the number of local executors, if no server is named.

    Raises:
        ConfigError: URL, secret, namespace or executors cannot be used; the text says what to set.
        StoreUnavailable: no server answers.
        UnfitServer: the server cannot hold jobs (too old, a replica, a Cluster node, evicting), or
            does not let this user read what is there.
        RunawayJob: a worker is loading the module that makes the client.
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
        self._submission = JobSubmission(
            resolved, self._keyring, self._store, self._cleanup_store, self._embedded
        )
        if self._embedded is None:
            self._store.redis_client.check("monitor")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Jobs go on, and open results connect again when they are read."""
        for store in (self._store, self._cleanup_store, self._listener_store):
            store.redis_client.close()

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
        """Submit a job, wait for it, and return its ``Results`` or what finishfn makes of them.

        ``redismr.run`` explains functions, options and results. Ctrl-C and other exceptions cancel
        the job while it runs. The job stays on the server if the server is away too long, and if
        finishfn or resultfn raises.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     client.run(["a", "b"], lambda item: [(item, 1)], finishfn=len)
        2

        Raises:
            ConfigError, CodeError, SourceError, UnfitServer: as ``submit``.
            JobError, SealError, StoreUnavailable: as ``Job.result``.
            Exception: what the source, finishfn or resultfn raised.
        """
        check_functions(resultfn=resultfn)
        check_callable("progress", progress)
        job: Job | None = None
        cancel = only_in_this_process(self._cancel_quietly)
        try:
            job = self._submission.submit(
                source, mapfn, reducefn, options, owns_job=True, show_progress=progress
            )
            results = job.result(finish=False)
        except BaseException as exc:
            job_has_ended = isinstance(exc, JobError | SealError) and not isinstance(exc, NoWorkers)
            if job is not None and not job_has_ended and not isinstance(exc, StoreUnavailable):
                cancel(job)
            if isinstance(exc, KeyboardInterrupt):
                raise KeyboardInterrupt from None  # without redismr's frames
            raise
        if not finish:
            return results
        try:
            outcome = job._apply_finishfn(results)  # noqa: SLF001
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
        """Submit a job, and return its handle once all of its input is in Redis.

        From then on the job needs no process but workers: any process with the same secret can
        collect the result by the job's id. With ``each_worker`` the input is complete, and
        ``submit`` returns, only when every worker has run its map task or is gone.

        ``redismr.run`` explains functions and options. ``resultfn(txn, results)`` is called once,
        in a thread of this process; the process does not end before.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["b", "a", "b"], lambda item: [(item, 1)], "sum")
        ...     dict(job.result())
        {'b': 2, 'a': 1}

        Raises:
            ConfigError: an option or a function cannot be what it is given as.
            CodeError: a function or param cannot be sent to a worker.
            SourceError: the input cannot be read.
            JobError: the job ended before all of its input was in Redis.
            UnfitServer: the server does not let this user submit jobs.
            StoreUnavailable: the server does not answer, or takes no writes for now.
        """
        check_functions(resultfn=resultfn)
        job = self._submission.submit(source, mapfn, reducefn, options, owns_job=False)
        if resultfn:
            threading.Thread(
                target=deliver_result, args=(job, resultfn), name=f"resultfn-{job.id}"
            ).start()
        return job

    def attach(self, job_id: str, *, wait_for_server: float | None = 30.0) -> Job:
        """Return the handle of a job that any process with the same secret has submitted.

        The handle waits ``wait_for_server`` seconds for a server that is away; None waits for ever.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["a"], lambda item: [(item, 1)], txn="letters")
        ...     client.attach(job.id).txn
        'letters'

        Raises:
            JobNotFound: Redis does not know the job: it was never submitted, it was deleted, or its
                ttl is over.
            WrongSecret: the job was submitted with another secret.
            SealError: the job was altered in Redis.
            ConfigError: ``wait_for_server`` is not a number of seconds.
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
        """Return a row for every job in this namespace, newest first. Clear text: for people.

        With ``deleted`` also for the jobs that ``run`` deleted after their results were read: the
        last 1000, each until its ttl is over.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit(["a"], lambda item: [(item, 1)])
        ...     client.jobs()[0].job_id == job.id
        True
        """
        rows = job_rows(self._store)
        if deleted:
            rows += deleted_rows(self._store)
            rows.sort(key=lambda row: row.age)
        return rows

    def workers(self) -> list[WorkerInfo]:
        """Return a row for every worker that beat in the last minute. Clear text: for people.

        A worker is ``lost`` after three missed beats, of 5 s as a rule: it was killed or cut off.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     dict(client.run(["a"], lambda item: [(item, 1)], "sum"))
        ...     [worker.executors for worker in client.workers()]
        {'a': 1}
        [1]
        """
        return worker_rows(self._store)

    def listen(self, txn: str | None = None, job: str | None = None) -> Iterator[Event]:
        """Yield the events of one txn, one job or all jobs, from this call on, for ever.

        The end of each job comes exactly once, even if its message was lost or the connection was
        cut. The other events are hints: they come only if a holder of the secret published them and
        no message was lost. The iterator waits as long as Redis is away.

        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     events = client.listen(txn="letters")
        ...     job = client.submit(["a"], lambda item: [(item, 1)], txn="letters")
        ...     next(event.kind for event in events if event.kind == "succeeded")
        'succeeded'

        Raises:
            JobLost: ``job`` vanished from Redis.
            JobNotFound: Redis does not know ``job``.
            ConfigError: ``txn`` or ``job`` is not a text of at most 1000 characters.
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
        """Call ``fn(txn, results)`` exactly once for each job that succeeds from this call on.

        Any process may have submitted the jobs, and no lost message loses a job. ``each`` returns
        when ``fn`` or ``errorfn`` returns False, and waits as long as Redis is away. A job that is
        deleted before its result was read, as ``run`` deletes its jobs, is left out; so is a job
        that is deleted while ``fn`` reads it, which raises JobLost in ``fn``.

        >>> import time
        >>> from redismr import Client
        >>> with Client(executors=1) as client:
        ...     job = client.submit([1], lambda item: [(item, time.sleep(item))], "count")
        ...     client.each(lambda txn, results: print(dict(results)) or False, job.txn)
        {1: 1}

        Args:
            fn: called in this thread, with one result after another.
            txn: the label of the jobs; None for all jobs.
            errorfn: ``errorfn(txn, error)`` is called once for each job that fails or is cancelled;
                without errorfn the error is raised.

        Raises:
            JobError: a job failed. SealError: a job was altered.
        """
        for name, function in (("fn", fn), ("errorfn", errorfn)):
            check_callable(name, function)

        for event in self.listen(txn):
            if event.kind not in ENDED_STATES:
                continue
            try:
                job = self._attach(self._listener_store, event.job)
                if deliver_result(job, fn, errorfn) is False:
                    return
            # The job was deleted before its result was read: leave it out.
            except (JobNotFound, JobLost) as error:
                if error.job_id != event.job:
                    raise

    def _cancel_quietly(self, job: Job) -> None:
        """Cancel a job within two seconds, and hide an error: the caller has another to see."""
        with contextlib.suppress(Exception):  # the keys expire by themselves
            Job(self._cleanup_store, self._keyring, job._spec, n_map=job._n_map).cancel()  # noqa: SLF001


def _wait_for_own_server(backend: EmbeddedBackend, text: str, waited: float) -> None:
    """Report that a private server does not answer, as long as its process runs."""
    if not backend.server.alive:
        raise StoreUnavailable(
            "this process's own server has ended (killed, or out of memory?), and its jobs with "
            "it: run them again"
        )
    report_long_wait(text, waited)
