"""Reports to Redis what became of attempts: counted, failed, without data, or lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
import socket
from collections.abc import Sequence
from dataclasses import replace

from redismr import errors
from redismr.core.events import Event, encode_event
from redismr.core.failure_capture import NOT_GIVEN, is_debugger_exit, make_failure
from redismr.core.job_payloads import JobSealer
from redismr.core.model import PYTHON, AttemptRef, Crash, Failure, is_map_task, task_stage
from redismr.core.seal import Keyring
from redismr.engine.bad_records import SkipLimitExceeded
from redismr.engine.kernel import UserCodeError
from redismr.shipping.libraries import describe_library_error
from redismr.store import CommitReply, Store, clear_int
from redismr.workers.process_setup import debugger_error, process_name
from redismr.workers.session import Session
from redismr.workers.tasks import Attempt


def new_worker_name(host: str) -> str:
    """Return a name for this worker, of characters that have no meaning in the scripts."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in host) or "host"
    return f"{plain}:{os.getpid()}:{secrets.token_hex(3)}"


class Reporter:
    """Reports for one executor or supervisor."""

    def __init__(self, store: Store, keyring: Keyring, name: str) -> None:
        self.store, self.keyring, self.name = store, keyring, name
        self._host, self._pid = socket.gethostname(), os.getpid()

    def wake(self, count: int) -> None:
        """Wake up to ``count`` workers with the same Python and secret."""
        self.store.wake(count, PYTHON, self.keyring.key_id)

    def announce_commit(
        self, session: Session, committed: CommitReply, counted: Sequence[Attempt]
    ) -> None:
        """Wake workers for the tasks that a commit opened, and free data that is not needed."""
        job, claim = session.job, committed.claim
        # 1. Tasks were opened, and this executor has claimed only some of them.
        if committed.opened:
            self.wake(committed.opened - len(claim.tasks))
        # 2. Segments were read to their end. A failover could forget this commit, and need them.
        if not self.store.redis_client.may_fail_over():
            for attempt in counted:
                attempt.free_input()
        # 3. The job has succeeded.
        if claim.state == "succeeded":
            with contextlib.suppress(errors.SealError):  # the collector meets it, and reports it
                n_map = session.sealer.open_end(self.store.get_sealed(job, "end"))
                self.store.free_bulk(job, n_map, session.spec.partitions)
            self.store.move_last(job, claim.now_ms)

    def report_failure(self, attempt: Attempt, exc: BaseException) -> None:
        """Charge an attempt that raised. The server fails the job if a budget is used up."""
        spec = attempt.session.spec
        raised = exc.__cause__ if isinstance(exc, UserCodeError) else exc
        if isinstance(raised, SkipLimitExceeded):
            # Every attempt would skip as many.
            self._hand_in_failure(attempt.ref, spec.txn, raised.failure, kind="fatal", signature="")
            return
        cause, function, where, key, value = exc, "", "", NOT_GIVEN, NOT_GIVEN
        if isinstance(exc, UserCodeError):
            cause = exc.__cause__ or exc
            function, key, value = exc.function, exc.key, exc.value
            where = _describe_record(attempt, exc.ordinal)
        elif isinstance(exc, errors.SourceError):
            function = "source"  # the message names the place
        elif attempt.session.program is None:
            function = "code"
        if is_debugger_exit(cause):
            cause = debugger_error("a debugger").with_traceback(cause.__traceback__)
        mismatch = _library_mismatch(attempt, cause)
        # A full store counts: this attempt waited for space, and others would wait as long again.
        fatal = isinstance(cause, errors.NOT_RETRYABLE) or isinstance(exc, errors.StoreFull)
        failure = make_failure(
            mismatch or cause,
            kind="library" if mismatch else "error",
            stage=task_stage(attempt.task),
            task=attempt.task,
            function=function,
            where=where,
            key=key,
            value=value,
            attempt=self.store.budget_used(attempt.session.job, attempt.task, "error") + 1,
            attempts=spec.retries + 1,
            retryable=not fatal,
        )
        cause.__traceback__ = None  # user code may raise the same object again, with new frames
        kind, signature = "fatal" if fatal else "error", _signature(failure, attempt)
        self._hand_in_failure(attempt.ref, spec.txn, failure, kind=kind, signature=signature)

    def _seal_failure(self, job: str, task: str, failure: Failure) -> bytes:
        pid = failure.pid or self._pid
        failure = replace(failure, host=self._host, pid=pid, python=platform.python_version())
        return JobSealer(self.keyring, job).seal_failure(failure, task)

    def _hand_in_failure(
        self,
        attempt: AttemptRef,
        txn: str,
        failure: Failure,
        *,
        kind: str,
        signature: str,
        crash: Crash | None = None,
    ) -> None:
        """Charge an attempt with a failure; wake a worker if the task runs again.

        ``signature`` tells on which record the attempt failed, and how. ``crash`` is the record in
        which its process died.
        """
        job, task, ordinal, note = attempt.job, attempt.task, "", b""
        if crash is not None and crash.ordinal >= 0 and is_map_task(task):
            note = JobSealer(self.keyring, job).seal_crash(task, attempt.token, crash)
            ordinal = str(crash.ordinal)
        status = self.store.fail(
            attempt, self.name, kind=kind, signature=signature, ordinal=ordinal, note=note,
            cause=f"task {task}: {failure.error_name}",
            failure=self._seal_failure(job, task, failure),
        )  # fmt: skip
        if status == "DEAD":
            self._publish_failed(txn, job, {"task": task})
            self.store.move_last(job, self.store.server_ms())
        elif status == "RETRY":
            self.wake(1)

    def report_missing(self, attempt: Attempt, maps: dict[int, str]) -> None:
        """Have the maps run again whose segments are missing: map index -> token."""
        session = attempt.session
        invalidated = self.store.invalidate(attempt.ref, attempt.basis, maps)
        if invalidated.status == "OK":
            self.wake(invalidated.rerun)
        elif invalidated.status == "DEAD":
            self._publish_failed(session.spec.txn, session.job, {})

    def fail_altered_job(self, job: str, text: str) -> None:
        """Fail a job whose deciding data was altered in Redis; ``text`` says which data."""
        failure = Failure(
            kind="error", stage="map", task="", function="", error_module="redismr.errors",
            error_name="SealError", message=text, retryable=False,
        )  # fmt: skip
        blob = self._seal_failure(job, "job", failure)
        try:
            if self.store.fail_job(job, "altered in Redis", blob) == "OK":
                self._publish_failed(self.store.meta(job, "txn").get("txn") or job, job, {})
        except errors.KeysAltered:  # the job cannot even be failed: take it from the index
            self.store.drop_jobs(job)

    def report_crash(
        self, attempt: AttemptRef, what: str, *, kind: str, where: str, ordinal: int, pid: int
    ) -> None:
        """Charge an attempt whose process has died of ``what``; ``ordinal`` -1: no record known."""
        job, task = attempt.job, attempt.task
        meta = self.store.meta(job, "txn", "lost_leases")
        failure = Failure(
            kind=kind, stage=task_stage(task), task=task, function="", error_module="redismr",
            error_name="WorkerDied" if kind == "crash" else "TaskTimeout",
            message=what, where=where, pid=pid,
            attempt=self.store.budget_used(job, task, "lost") + 1,
            attempts=clear_int(meta.get("lost_leases")) + 1,
        )  # fmt: skip
        txn = meta.get("txn") or job
        crash = Crash(ordinal, failure.error_name, what)
        self._hand_in_failure(attempt, txn, failure, kind="lost", signature=kind, crash=crash)

    def _publish_failed(self, txn: str, job: str, data: dict[str, object]) -> None:
        self.store.publish(txn, encode_event(Event(job, txn, 0, "failed", data), self.keyring))


def _library_mismatch(attempt: Attempt, cause: BaseException) -> errors.LibraryMismatch | None:
    """Return the error for a library that is missing here; None if the cause is another one."""
    if isinstance(cause, errors.LibraryMismatch):
        return cause
    if not isinstance(cause, ModuleNotFoundError):
        return None
    what, provenance = f"task {attempt.task}", attempt.session.provenance
    text = describe_library_error(cause, what, provenance, worker=process_name())
    return errors.LibraryMismatch(text) if text else None


def _signature(failure: Failure, attempt: Attempt) -> str:
    """Return a digest of the error and its record. The same from two executors ends the job."""
    parts = [f"{failure.error_module}.{failure.error_name}", failure.message, failure.where]
    # A library that this worker lacks says nothing about the record: other workers may have it.
    parts.append(attempt.token if failure.kind == "library" else failure.key)
    return hashlib.sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def _describe_record(attempt: Attempt, ordinal: int) -> str:
    """Return the record in words. That re-reads the input, and must never raise."""
    if attempt.split is None or ordinal < 0:
        return ""
    try:
        return attempt.split.where(ordinal)
    except Exception as exc:  # noqa: BLE001  the file may have vanished since
        return f"record {ordinal + 1} of {attempt.split.source} ({exc})"
