"""One executor: chooses a job, claims its tasks, runs and commits them, over its own connection.

The executor is a process that may die at any instruction. It writes into its slot what it will hold
before it asks Redis, so that its supervisor can give back or fail exactly that. It ends when its
supervisor does.
"""

import logging
import os
import secrets
import time
from dataclasses import replace
from enum import Enum, auto

from redismr.config import Connection
from redismr.core.model import PROTOCOL, PYTHON, RUNNING_STATES, Claim, task_stage
from redismr.core.seal import Keyring
from redismr.errors import JobLost, KeysAltered, RedismrError, StoreError, StoreUnavailable
from redismr.store import Store
from redismr.workers.batch_runner import BatchRunner, checked_tasks
from redismr.workers.committer import Committer
from redismr.workers.control_channel import LOOK_FOR_BACKUPS, ExecutorSetup
from redismr.workers.process_setup import prepare_process
from redismr.workers.reporter import Reporter
from redismr.workers.session import JobAltered, JobHeader, Session
from redismr.workers.shared_slots import Holding

log = logging.getLogger("redismr.worker")

START_LIMIT_SECONDS, FIRST_BATCH_START_LIMIT_SECONDS = 0.5, 0.05
"""No task of a batch is begun later than this, because the batch was sized for quicker tasks. The
second value is for the first batch of a turn or a stage, whose size is judged by other tasks."""

AFTER_FAILURE_SECONDS = 0.02  # pause after a failed task: another executor may take the task
TURN_SECONDS = 0.1  # on one job, before a check whether another job has waited longer
MAX_SESSIONS = 8  # jobs that an executor keeps open while they take turns

LOADS_PER_TURN, FORK_SECONDS = 10, 0.02
"""A turn lasts at least 10 times what a change of jobs may cost: a process, the code, initfn. Else
two jobs with an initfn of 0.4 s took 47 s together, and 1.1 s each when alone."""

STOP_WAIT_SECONDS = 3.0
"""How long an executor that is to stop waits for an absent server, to commit its results."""

SKIP_JOB_SECONDS = 10.0  # time for which an executor passes over a job that it cannot serve
MAX_KEPT_HEADERS = 1000

# Exit statuses.
EXIT_RECYCLE = 75  # the next job has other code, and needs a fresh process
EXIT_SERVER_REFUSED = 76  # the server refused a command, and the supervisor was told which one


class Served(Enum):
    """The outcome of an attempt to serve a job for a turn."""

    WORKED = auto()
    NEEDS_NEW_PROCESS = auto()
    NOTHING = auto()  #: No task could be claimed.


class Executor:
    """The loop of one executor process."""

    def __init__(self, setup: ExecutorSetup, connection: Connection, keyring: Keyring) -> None:
        self.setup, self.slot, self.keyring = setup, setup.slot, keyring
        self.store = Store(
            connection, patience=None, name=f"redismr-{setup.name}", on_wait=self._on_wait
        )
        self._stop_seen_at = 0.0  #: When it saw that it is to stop while Redis is away.
        self.reporter = Reporter(self.store, keyring, setup.name)
        self._runner = BatchRunner(self.store, self.slot, self.reporter)
        self._committer = Committer(self.store, self.slot, self.reporter)
        self._code_digest = ""  #: Of the code that this process has loaded.
        self._current_session: Session | None = None
        self._sessions: dict[str, Session] = {}  #: Open ones by job, the last one used at the end.
        self._headers: dict[str, JobHeader] = {}
        self._skip_until: dict[str, float] = {}
        self._look_for_backups = False

    def run(self) -> int:
        """Work until told to stop; return the exit status, which tells why the loop ended."""
        while not self.slot.should_stop:
            self.slot.set_busy(busy=True)
            # 1. A job with tasks that nobody runs.
            outcome = self._serve_next()
            # 2. A job with tasks that other executors are slow at.
            if outcome is Served.NOTHING and self._look_for_backups:
                outcome = self._serve_next(backup=True)
            # 3. Only a job that needs a fresh process.
            if outcome is Served.NEEDS_NEW_PROCESS:
                return EXIT_RECYCLE
            # 4. Nothing to do.
            if outcome is Served.NOTHING and not self._wait_for_work():
                break
        return 0

    def _on_wait(self, text: str, _waited: float) -> None:
        if self.slot.should_stop:
            now = time.monotonic()
            self._stop_seen_at = self._stop_seen_at or now
            if now - self._stop_seen_at > STOP_WAIT_SECONDS:
                raise StoreUnavailable(text)

    def _wait_for_work(self) -> bool:
        """Wait until the supervisor wakes this executor; False: it is gone, or says stop."""
        self.slot.set_busy(busy=False)
        message = self.setup.wait_for_wakeup()
        if message:
            self._look_for_backups = LOOK_FOR_BACKUPS in message
        return message is not None and not self.slot.should_stop

    def _serve_next(self, *, backup: bool = False) -> Served:
        """Serve one job for a turn; ``backup``: by second attempts of slow tasks."""
        now = time.monotonic()
        for job in self.store.runnable():
            if self._skip_until.get(job, 0.0) > now:
                continue
            try:
                outcome = self._serve_job(job, backup=backup)
            except KeysAltered as exc:  # other jobs must not suffer for this one
                self._skip(job)
                self.reporter.fail_altered_job(job, str(exc))
                continue
            if outcome is not Served.NOTHING:
                return outcome
        if max(len(self._skip_until), len(self._headers)) > MAX_KEPT_HEADERS:
            self._skip_until.clear()
            self._headers.clear()
        return Served.NOTHING

    def _serve_job(self, job: str, *, backup: bool) -> Served:
        header = self._headers.get(job) or JobHeader.read(self.store, job)
        # 1. The job is announced and not created yet, or is gone: supervisors tidy the index.
        if header is None:
            return Served.NOTHING
        # 2. This worker cannot take the job.
        if problem := self._problem_with(header):
            self.setup.report_problem(problem)
            self._skip(job)
            return Served.NOTHING
        self._headers[job] = header
        # 3. The job has other code than this process has loaded.
        if self._code_digest and header.code_digest != self._code_digest:
            waiting = self.store.ready_count(job)
            if backup and not waiting:
                waiting = self.store.steal(job, self.setup.name.rpartition(":")[0]).slow
            return Served.NEEDS_NEW_PROCESS if waiting else Served.NOTHING
        # 4. This process can serve the job.
        return Served.WORKED if self._serve_turn(header, backup=backup) else Served.NOTHING

    def _skip(self, job: str) -> None:
        self._skip_until[job] = time.monotonic() + SKIP_JOB_SECONDS

    def _problem_with(self, header: JobHeader) -> str:
        """Return why this worker cannot take a job; "" if it can."""
        if header.key_id != self.keyring.key_id:
            return (
                f"job {header.job} is signed with secret {header.key_id}, and this worker's is "
                f"{self.keyring.key_id} (fingerprints). Set the same REDISMR_SECRET on both sides"
            )
        if header.python != PYTHON:
            return f"job {header.job} needs Python {header.python}; this worker runs {PYTHON}"
        if header.protocol != PROTOCOL:
            older = "this worker" if header.protocol > PROTOCOL else "its submitter"
            return (
                f"job {header.job} is of another version of redismr (protocol {header.protocol}, "
                f"here {PROTOCOL}): upgrade {older}"
            )
        return ""

    def _serve_turn(self, header: JobHeader, *, backup: bool) -> bool:
        """Claim and run tasks of one job for a turn; False if no task could be claimed."""
        job, nonce = header.job, secrets.token_urlsafe(8)
        session = self._sessions.get(job)
        # The slot has the nonce before the server knows it.
        empty = session.holding() if session else Holding(job, lease_ms=header.lease_ms)
        self.slot.set_holding(empty._replace(next_nonce=nonce))
        wanted = [
            1 if backup else max(1, self.slot.limit_tasks(sizer.small_batch()))
            for sizer in self._committer.sizers.values()
        ]
        claim = self.store.claim(
            job, self.setup.name, nonce, *wanted, backup=backup, include_spec=session is None
        )
        if claim is None or not claim.tasks:
            self.slot.set_holding(Holding())
            if claim is None or claim.state not in RUNNING_STATES:
                self._headers.pop(job, None)
                self._skip(job)
            return False
        self._code_digest = header.code_digest
        self.reporter.wake(claim.wake_count)
        try:
            self._run_batches(self._open_session(header, claim), replace(claim, sealed_job=()))
        except JobAltered as exc:
            self.reporter.fail_altered_job(job, str(exc))
        except JobLost:
            self._skip(job)
        finally:
            self.slot.set_holding(Holding())
        return True

    def _run_batches(self, session: Session, claim: Claim) -> None:
        """Run batch after batch of one job, until the turn is over or nothing is left to claim."""
        turn_began, stage = time.monotonic(), ""
        while claim.tasks:
            claim = replace(claim, tasks=checked_tasks(session, claim.tasks))
            before, stage = stage, task_stage(claim.tasks[0])
            sizer = self._committer.sizers[stage]
            started, load_seconds_before = time.monotonic(), session.load_seconds
            is_first = stage != before
            start_limit = FIRST_BATCH_START_LIMIT_SECONDS if is_first else START_LIMIT_SECONDS
            claim, finished = self._runner.run(session, claim, start_limit)
            now = time.monotonic()
            run_seconds = now - started - (session.load_seconds - load_seconds_before)
            sizer.add_batch(run_seconds, len(claim.tasks))
            # 1. A task failed. Idle executors were woken for it; a second failure on another
            # executor tells that the record is to blame.
            if len(finished) < len(claim.tasks):
                self._committer.commit(session, claim, finished)
                time.sleep(AFTER_FAILURE_SECONDS)
                return
            # 2. The turn is over, and another job waits.
            turn = max(TURN_SECONDS, LOADS_PER_TURN * (session.load_seconds + FORK_SECONDS))
            if now - turn_began >= turn:
                turn_began = now
                if self._give_turn_to_others(session.header, claim):
                    self._committer.commit(session, claim, finished)
                    return
            # 3. Go on: claim the next batch with the commit. ``finished`` is not counted yet.
            want = self.slot.limit_tasks(sizer.batch_size() + len(finished)) - len(finished)
            nonce = "" if self.slot.should_stop or want <= 0 else secrets.token_urlsafe(8)
            committed = self._committer.commit(session, claim, finished, nonce, want)
            if committed is None or not nonce:
                return
            claim = committed.claim

    def _open_session(self, header: JobHeader, claim: Claim) -> Session:
        """Return the job's session. Jobs that take turns are opened once, so initfn runs once."""
        session = self._sessions.pop(header.job, None)
        if session is None:
            session = Session(self.store, self.keyring, header, claim, self._current_session)
            timeout_ms = session.spec.task_timeout_ms or header.lease_ms
            self.setup.report_lease(min(header.lease_ms, timeout_ms))
        self._sessions[header.job] = self._current_session = session
        if len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    def _give_turn_to_others(self, header: JobHeader, claim: Claim) -> bool:
        """Put the job behind others that this executor can serve; True if there are any."""
        now = time.monotonic()
        for job in self.store.runnable(8):
            if job != header.job and self._skip_until.get(job, 0.0) <= now:
                self.store.take_turn(header.job, header.priority, claim.now_ms)
                return True
        return False


def main(setup: ExecutorSetup, connection: Connection, keyring: Keyring) -> int:
    """Run one executor in this freshly forked process; return its exit status."""
    prepare_process(setup.cores)
    os.register_at_fork(after_in_child=setup.slot.release_cursor)
    try:
        return Executor(setup, connection, keyring).run()
    except RedismrError as exc:
        if isinstance(exc, StoreError) and not isinstance(exc, StoreUnavailable):
            setup.report_problem(str(exc))
            return EXIT_SERVER_REFUSED
        log.critical("executor %s ends: %s", setup.name, exc)
        return 1
