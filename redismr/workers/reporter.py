"""What an executor says about its attempts: counted, failed, missing data, the job moved on."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import secrets
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from redismr.core.events import Event, encode_event
from redismr.core.failure_capture import NOT_GIVEN, make_failure
from redismr.core.job_payloads import JobSealer
from redismr.core.model import (
    PYTHON,
    AttemptRef,
    Crash,
    FailStatus,
    Failure,
    is_map_task,
    task_stage,
)
from redismr.core.user_frames import is_debugger_exit
from redismr.engine.bad_records import SkipLimitExceeded
from redismr.engine.kernel import UserCodeError
from redismr.errors import (
    NOT_RETRYABLE,
    KeysAltered,
    LibraryMismatch,
    SealError,
    SourceError,
    StoreFull,
)
from redismr.shipping.libraries import describe_library_error
from redismr.store import number
from redismr.workers.process_setup import debugger_error, process_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redismr.core.seal import Keyring
    from redismr.store import CommitReply, Store
    from redismr.workers.session import Session
    from redismr.workers.tasks import Attempt


def new_worker_name(host: str) -> str:
    """A name for a worker of this process, of characters without a meaning in the scripts."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in host) or "host"
    return f"{plain}:{os.getpid()}:{secrets.token_hex(3)}"


class Reporter:
    """Speaks to Redis for one executor or supervisor."""

    def __init__(self, store: Store, keyring: Keyring, name: str) -> None:
        self.store, self.keyring, self.name = store, keyring, name
        self._host, self._pid, self._python = (
            socket.gethostname(),
            os.getpid(),
            platform.python_version(),
        )

    def wake(self, count: int) -> None:
        """Wake up to so many workers that can do what we had: ours is the Python of its job."""
        self.store.wake(count, PYTHON, self.keyring.key_id)

    def announce_commit(
        self, session: Session, committed: CommitReply, counted: Sequence[Attempt]
    ) -> None:
        """Wake who can go on after a commit, and free what is not needed any more.

        ``counted`` are the attempts that count.
        """
        job, state = session.job, committed.claim.state
        if committed.opened:
            self.wake(committed.opened - len(committed.claim.tasks))  # the others have us
        if not self.store.server.may_fail_over():  # else a failover could forget this commit
            for attempt in counted:
                attempt.free_input()
        if state == "succeeded":
            with contextlib.suppress(SealError):  # who collects the result meets it, and says so
                n_map = session.sealer.open_end(self.store.get_sealed(job, "end"))
                self.store.free_bulk(job, n_map, session.spec.partitions)
            self.store.move_last(job, committed.claim.now_ms)

    def report_failure(self, attempt: Attempt, exc: BaseException) -> None:
        """The attempt raised: charge it, and end the job if a budget is used up."""
        raised = exc.__cause__ if isinstance(exc, UserCodeError) else exc
        if isinstance(raised, SkipLimitExceeded):
            self._fail_too_many_skipped(attempt, raised.failure)
            return
        cause, function, where = exc, "", ""
        key = value = NOT_GIVEN
        if isinstance(exc, UserCodeError):
            cause = exc.__cause__ or exc
            function, key, value = exc.function, exc.key, exc.value
            where = _describe_record(attempt, exc.ordinal)
        elif isinstance(exc, SourceError):
            function = "source"  # its message names the place
        elif attempt.session.program is None:
            function = "code"
        if is_debugger_exit(cause):
            cause = debugger_error("a debugger").with_traceback(cause.__traceback__)
        spec = attempt.session.spec
        mismatch = self._library_mismatch(attempt, cause)
        fatal = _is_fatal(exc, cause)
        failure = make_failure(
            mismatch or cause,
            kind="library" if mismatch else "error",
            stage=task_stage(attempt.task),
            task=attempt.task,
            function=function,
            where=where,
            key=key,
            value=value,
            host=self._host,
            pid=self._pid,
            python=self._python,
            attempt=self.store.budget_used(attempt.session.job, attempt.task, "error") + 1,
            attempts=spec.retries + 1,
            retryable=not fatal,
        )
        cause.__traceback__ = None  # one that user code raises again would show these frames again
        self.hand_in_failure(
            attempt.ref,
            spec.txn,
            failure,
            kind="fatal" if fatal else "error",
            signature=_signature(failure, attempt),
        )

    def _library_mismatch(self, attempt: Attempt, cause: BaseException) -> LibraryMismatch | None:
        """The error for a library that this machine lacks, also where user code imports it."""
        if isinstance(cause, LibraryMismatch):
            return cause
        if not isinstance(cause, ModuleNotFoundError):
            return None
        provenance = attempt.session.provenance
        text = describe_library_error(
            cause, f"task {attempt.task}", provenance, worker=process_name()
        )
        return LibraryMismatch(text) if text else None

    def _fail_too_many_skipped(self, attempt: Attempt, failure: Failure) -> None:
        """More was skipped than is allowed: that is so for every attempt, the job has failed."""
        failure = replace(failure, host=self._host, pid=self._pid, python=self._python)
        txn = attempt.session.spec.txn
        self.hand_in_failure(attempt.ref, txn, failure, kind="fatal", signature="")

    def hand_in_failure(
        self,
        attempt: AttemptRef,
        txn: str,
        failure: Failure,
        *,
        kind: str,
        signature: str,
        crash: Crash | None = None,
    ) -> FailStatus:
        """Hand a failure in; returns what became of the task."""
        job, task = attempt.job, attempt.task
        blob = JobSealer(self.keyring, job).seal_failure(failure, task)
        cause = f"task {task}: {failure.error_name}"
        place, note = "", b""
        if crash is not None and crash.ordinal >= 0 and is_map_task(task):
            note = JobSealer(self.keyring, job).seal_crash(task, attempt.token, crash)
            place = str(crash.ordinal)
        outcome = self.store.fail(
            attempt, self.name, kind=kind, signature=signature, cause=cause, failure=blob,
            ordinal=place, note=note,
        ).status  # fmt: skip
        if outcome == "DEAD":
            self.publish_event(txn, job, "failed", {"task": task})
            self.store.move_last(job, self.store.server_ms())
        elif outcome == "RETRY":
            self.wake(1)
        return outcome

    def report_missing(self, attempt: Attempt, maps: dict[int, str]) -> None:
        """Segments are gone: have those maps run again."""
        session = attempt.session
        invalidated = self.store.invalidate(attempt.ref, attempt.basis, maps)
        if invalidated.status == "OK":
            self.wake(invalidated.rerun)
        elif invalidated.status == "DEAD":
            self.publish_event(session.spec.txn, session.job, "failed", {})

    def fail_altered_job(self, job: str, text: str) -> None:
        """What decides the whole job was altered in Redis: end it, now, with that cause."""
        failure = Failure(
            kind="error",
            stage="map",
            task="",
            function="",
            error_module="redismr.errors",
            error_name="SealError",
            message=text,
            host=self._host,
            pid=self._pid,
            python=self._python,
            retryable=False,
        )
        blob = JobSealer(self.keyring, job).seal_failure(failure, "job")
        try:
            if self.store.fail_job(job, "altered in Redis", blob).status == "OK":
                self.publish_event(self.store.meta(job, "txn").get("txn") or job, job, "failed", {})
        except KeysAltered:  # so much so that it cannot even be ended: let nobody try again
            self.store.drop_jobs(job)

    def report_crash(
        self, attempt: AttemptRef, what: str, *, kind: str, where: str, ordinal: int, pid: int
    ) -> FailStatus:
        """The process of an attempt, ``pid``, is no more: fail it with what ended it.

        ``ordinal`` is the record that is to blame for it, -1 if it is not known.
        """
        job, task = attempt.job, attempt.task
        meta = self.store.meta(job, "txn", "python", "lost_leases")
        failure = Failure(
            kind=kind,
            stage=task_stage(task),
            task=task,
            function="",
            error_module="redismr",
            error_name="WorkerDied" if kind == "crash" else "TaskTimeout",
            message=what,
            where=where,
            host=self._host,
            pid=pid,
            python=self._python,
            attempt=self.store.budget_used(job, task, "lost") + 1,
            attempts=number(meta.get("lost_leases")) + 1,
        )
        txn = meta.get("txn") or job
        crash = Crash(ordinal, failure.error_name, what)
        return self.hand_in_failure(
            attempt, txn, failure, kind="lost", signature=kind, crash=crash
        )

    def publish_event(self, txn: str, job: str, kind: str, data: dict[str, object]) -> None:
        """Publish a hint on the transaction's channel."""
        self.store.publish(txn, encode_event(Event(job, txn, 0, kind, data), self.keyring))


def _is_fatal(exc: BaseException, cause: BaseException) -> bool:
    """Whether each further try would fail in the same way.

    A full store was waited for long enough: they would wait as long again.
    """
    return isinstance(cause, NOT_RETRYABLE) or isinstance(exc, StoreFull)


def _signature(failure: Failure, attempt: Attempt) -> str:
    """What failed on which record: the same from two executors is no accident, and ends the job."""
    parts = [f"{failure.error_module}.{failure.error_name}", failure.message, failure.where]
    # What this worker lacks, all its executors lack, and others may have it.
    parts.append(attempt.token if failure.kind == "library" else failure.key)
    return hashlib.sha256("|".join(parts).encode("utf-8", "replace")).hexdigest()[:16]


def _describe_record(attempt: Attempt, ordinal: int) -> str:
    """The record in words; computing it re-reads the input, so it must never add an error."""
    if attempt.split is None or ordinal < 0:
        return ""
    try:
        return attempt.split.where(ordinal)
    except Exception as exc:  # noqa: BLE001  the file may have vanished since
        return f"record {ordinal + 1} of {attempt.split.source} ({exc})"
