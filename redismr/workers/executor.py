"""One executor: claims tasks, runs user code, commits, over a connection of its own.

It is a process that may die at any instruction. What it holds is in its slot before Redis is asked,
so that its supervisor can give back or fail exactly that. It ends when its supervisor does.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import time
from dataclasses import replace

from redismr.config import Connection
from redismr.core.model import PROTOCOL, PYTHON, Claim, token_of
from redismr.core.seal import Keyring
from redismr.errors import JobLost, KeysAltered, RedismrError, StoreError, StoreUnavailable
from redismr.store import Commit, CommitReply, Store
from redismr.workers.batch_sizing import BatchSizer
from redismr.workers.control_channel import LOOK_FOR_BACKUPS, ExecutorSetup
from redismr.workers.job_header import JobAltered, JobHeader
from redismr.workers.process_setup import end_if_forked, prepare_process
from redismr.workers.reporter import Reporter
from redismr.workers.session import Session
from redismr.workers.shared_slots import Holding
from redismr.workers.task_inputs import SegmentsMissing
from redismr.workers.tasks import Attempt, StageClosed, run_map, run_reduce

log = logging.getLogger("redismr.worker")

START_LIMIT_SECONDS, FIRST_BATCH_START_LIMIT_SECONDS = 0.5, 0.05
"""No task of a batch is begun later than this, as the batch was sized for quicker ones; the second
is for the first batch of a turn or a stage, which was sized by what came before it."""

AFTER_FAILURE_SECONDS = 0.02
"""How long an executor lets others go first after a task failed in its hands."""

TURN_SECONDS = 0.1
"""After this long on one job an executor looks whether another one has waited longer."""

MAX_SESSIONS = 8
LOADS_PER_TURN = 10
FORK_SECONDS = 0.02
"""A turn lasts ten times what changing jobs may cost: a process, the code, initfn. Measured with
an initfn of 0.4 s and two jobs that alone take 1.1 s: without this they took 47 s together."""

_TASK_ID = re.compile(r"[mr][0-9]{1,9}")

STOP_WAIT_SECONDS = 3.0
"""How long an executor that is to stop waits for a server that is away, to hand in what it has."""

EXIT_RECYCLE = 75
"""Exit status: the next job has other code, which gets a fresh process."""

EXIT_SERVER_REFUSED = 76
"""Exit status: the server refuses a command of the executor, which has told its supervisor."""

_SKIP_SECONDS = 10.0


class Executor:
    """The loop of one executor process."""

    def __init__(self, setup: ExecutorSetup, connection: Connection, keyring: Keyring) -> None:
        self.setup, self.slot = setup, setup.slot
        self.store = Store(
            connection, patience=None, name=f"redismr-{setup.name}", on_wait=self._on_wait
        )
        self._stop_seen_at = 0.0
        self.keyring = keyring
        self.reporter = Reporter(self.store, keyring, setup.name)
        self._code_digest, self._batch_sizers = "", {"m": BatchSizer(), "r": BatchSizer()}
        self._current_session: Session | None = None
        self._sessions: dict[str, Session] = {}
        self._headers: dict[str, JobHeader] = {}
        self._skip_until: dict[str, float] = {}
        self._look_for_backups = False

    def run(self) -> int:
        """Work until told to stop; the exit status says why it ended."""
        while not self.slot.should_stop:
            self.slot.set_busy(busy=True)
            outcome = self._serve_next()
            if outcome is None and self._look_for_backups:
                outcome = self._serve_next(backup=True)
            if outcome == EXIT_RECYCLE:
                return EXIT_RECYCLE
            if outcome is None and not self._wait_for_work():
                break
        return 0

    def _on_wait(self, text: str, _waited: float) -> None:
        """Redis is away: wait for ever, but not when we are to stop."""
        if self.slot.should_stop:
            now = time.monotonic()
            self._stop_seen_at = self._stop_seen_at or now
            if now - self._stop_seen_at > STOP_WAIT_SECONDS:
                raise StoreUnavailable(text)

    def _wait_for_work(self) -> bool:
        """Wait until the supervisor wakes us; False when it is gone or wants us to stop."""
        self.slot.set_busy(busy=False)
        message = self.setup.wait_for_wakeup()
        if message:
            self._look_for_backups = LOOK_FOR_BACKUPS in message
        return message is not None and not self.slot.should_stop

    def _serve_next(self, *, backup: bool = False) -> int | None:
        """Serve one job for a turn. None: nothing to do; EXIT_RECYCLE: only for another process.

        With ``backup``, what others are slow at counts as well: for when nothing else is left.
        """
        now = time.monotonic()
        for job in self.store.runnable():
            if self._skip_until.get(job, 0.0) > now:
                continue
            try:
                outcome = self._serve_job(job, backup=backup)
            except KeysAltered as exc:  # of this job: others must not suffer for it
                self._skip_until[job] = now + _SKIP_SECONDS
                self.reporter.fail_altered_job(job, str(exc))
                continue
            if outcome is not None:
                return outcome
        if len(self._skip_until) > 1000 or len(self._headers) > 1000:
            self._skip_until.clear()
            self._headers.clear()
        return None

    def _serve_job(self, job: str, *, backup: bool) -> int | None:
        header = self._headers.get(job) or JobHeader.read(self.store, job)
        if header is None:
            return None  # announced and not created yet, or gone: supervisors tidy the index
        if not self._can_take(header):
            self._skip_until[job] = time.monotonic() + _SKIP_SECONDS
            return None
        self._headers[job] = header
        if self._code_digest and header.digest != self._code_digest:
            waiting = self.store.ready_count(job)
            if backup and not waiting:
                waiting = self.store.steal(job, self.setup.name.rpartition(":")[0]).slow
            return EXIT_RECYCLE if waiting else None
        return 0 if self._serve_turn(header, backup=backup) else None

    def _can_take(self, header: JobHeader) -> bool:
        report_problem = self.setup.report_problem
        if header.key_id != self.keyring.key_id:
            report_problem(
                f"job {header.job} is signed with secret {header.key_id}, and this worker's is "
                f"{self.keyring.key_id} (fingerprints). Set the same REDISMR_SECRET on both sides"
            )
        elif header.python != PYTHON:
            report_problem(
                f"job {header.job} needs Python {header.python}; this worker runs {PYTHON}"
            )
        elif header.protocol != PROTOCOL:
            newer = "upgrade this worker" if header.protocol > PROTOCOL else "upgrade its submitter"
            report_problem(
                f"job {header.job} is of another version of redismr (protocol {header.protocol}, "
                f"here {PROTOCOL}): {newer}"
            )
        else:
            return True
        return False

    def _serve_turn(self, header: JobHeader, *, backup: bool) -> bool:
        """Claim and run tasks of one job for a turn; False if it had none for us."""
        nonce = self._new_nonce(header)
        wanted = [
            1 if backup else max(1, self.slot.limit_tasks(self._batch_sizers[s].small_batch()))
            for s in "mr"
        ]
        is_new = header.job not in self._sessions
        claim = self.store.claim(
            header.job, self.setup.name, nonce, *wanted, backup=backup, include_spec=is_new
        )
        if claim is None or not claim.tasks:
            self.slot.set_holding(Holding())
            if claim is None or claim.state not in ("submitting", "mapping", "reducing"):
                self._headers.pop(header.job, None)
                self._skip_until[header.job] = time.monotonic() + _SKIP_SECONDS
            return False
        self._code_digest = header.digest
        self.reporter.wake(claim.wake_count)
        try:
            self._run_batches(self._open_session(header, claim), replace(claim, sealed_job=()))
        except JobAltered as exc:
            self.reporter.fail_altered_job(header.job, str(exc))
        except JobLost:
            self._skip_until[header.job] = time.monotonic() + _SKIP_SECONDS
        finally:
            self.slot.set_holding(Holding())
        return True

    def _run_batches(self, session: Session, claim: Claim) -> None:
        turn_began, stage = time.monotonic(), ""
        while claim.tasks:
            claim = replace(claim, tasks=_checked_tasks(session, claim.tasks))
            before, stage = stage, claim.tasks[0][0]
            sizer, start_limit = (
                self._batch_sizers[stage],
                START_LIMIT_SECONDS if stage == before else FIRST_BATCH_START_LIMIT_SECONDS,
            )
            started, load_seconds_before = time.monotonic(), session.load_seconds
            claim, attempts = self._run_batch(session, claim, start_limit)
            now = time.monotonic()
            run_seconds = now - started - (session.load_seconds - load_seconds_before)
            sizer.add_batch(run_seconds, len(claim.tasks))
            if len(attempts) < len(claim.tasks):
                self._commit(session, claim, attempts)
                # Whoever is idle has been woken and takes the failed task: another executor's
                # word tells whether it is the record's fault.
                time.sleep(AFTER_FAILURE_SECONDS)
                return
            turn = max(TURN_SECONDS, LOADS_PER_TURN * (session.load_seconds + FORK_SECONDS))
            if now - turn_began >= turn:
                turn_began = now
                if self._give_turn_to_others(session.header, claim):
                    self._commit(session, claim, attempts)
                    return
            # Those of this batch are not counted yet.
            want = self.slot.limit_tasks(sizer.batch_size() + len(attempts)) - len(attempts)
            nonce = "" if self.slot.should_stop or want <= 0 else secrets.token_urlsafe(8)
            committed = self._commit(session, claim, attempts, nonce, want)
            if committed is None or not nonce:
                return
            claim = committed.claim

    def _run_batch(
        self, session: Session, claim: Claim, start_limit: float
    ) -> tuple[Claim, list[tuple[Attempt, Commit]]]:
        """Run the claimed tasks one after another; those that failed are reported at once.

        Returns the claim without what was given back unstarted, and the attempts that succeeded.
        """
        self._write_slot(session.header, claim.nonce, claim.tasks)
        maps = [task for task in claim.tasks if task[0] == "m"]
        inputs = dict(zip(maps, self.store.get_inputs(session.job, maps), strict=True))
        finished: list[tuple[Attempt, Commit]] = []
        start_deadline, load_seconds_before = time.monotonic() + start_limit, session.load_seconds
        for index, task in enumerate(claim.tasks):
            is_late = time.monotonic() - start_deadline > session.load_seconds - load_seconds_before
            if self.slot.should_stop or (index and is_late):
                unstarted = claim.tasks[index:]
                self.store.release(session.job, self.setup.name, claim.nonce, unstarted)
                self.reporter.wake(len(unstarted))
                claim = replace(claim, tasks=claim.tasks[:index])
                break
            token = token_of(task, claim.nonce)
            attempt = Attempt(session, task, token, claim.basis, self.slot.cursor)
            self.slot.set_running(index)
            commit = self._run_attempt(attempt, inputs.get(task))
            if commit:
                finished.append((attempt, commit))
        # Nothing is in user code any more: a lease lost from here on is no reason to be killed.
        self.slot.set_running(-1)
        return claim, finished

    def _run_attempt(self, attempt: Attempt, first_piece: bytes | None) -> Commit | None:
        """The attempt's commit, or None when it failed and that has been reported."""
        try:
            try:
                if attempt.task[0] == "m":
                    return run_map(attempt, first_piece)
                return run_reduce(attempt)
            finally:
                end_if_forked()
        except KeysAltered:
            raise
        except JobAltered:
            if self._has_lease(attempt):
                raise
            attempt.undo()
        except StageClosed:
            return None
        except SegmentsMissing as missing:
            self.slot.set_running(-1)  # what follows takes our own token away
            attempt.undo()
            self.reporter.report_missing(attempt, missing.maps)
        except BaseException as exc:  # noqa: BLE001  user code may raise anything; we survive it
            self.slot.set_running(-1)
            attempt.undo()
            self.reporter.report_failure(attempt, exc)
        return None

    def _has_lease(self, attempt: Attempt) -> bool:
        """Whether the server knows our claim.

        If a failover took it back, it may have taken what the claim was for: nobody altered that.
        """
        held = [(attempt.task, attempt.token, True)]
        return attempt.task not in self.store.renew(attempt.session.job, held).lost

    def _commit(
        self,
        session: Session,
        claim: Claim,
        attempts: list[tuple[Attempt, Commit]],
        nonce: str = "",
        want: int = 0,
    ) -> CommitReply | None:
        self._write_slot(session.header, claim.nonce, claim.tasks, nonce)
        commits = [commit for _, commit in attempts]
        reducers = self.slot.limit_tasks(
            self._batch_sizers["r"].small_batch() + len(commits)
        ) - len(commits)
        committed = self.store.commit(
            session.job, self.setup.name, commits, nonce, want, session.stage_events,
            min_want=self._batch_sizers["m"].small_batch(), want_reduces=max(0, reducers),
        )  # fmt: skip
        if committed is None:
            for attempt, _ in attempts:
                attempt.undo()
            return None
        counted: list[Attempt] = []
        for (attempt, _), status in zip(attempts, committed.statuses, strict=True):
            if status == "RESTAGE":
                # A failover took staged chunks back. Not under the same token: a second run may
                # differ, and nothing could tell its chunks from those of the first.
                attempt.undo()
                self.store.release(session.job, self.setup.name, claim.nonce, [attempt.task])
            elif status == "FENCED":
                attempt.undo()
            else:
                self.slot.count_task()
                counted.append(attempt)
        session.outputs_from_commit = committed.claim.basis, committed.map_outputs
        self.reporter.announce_commit(session, committed, counted)
        return committed

    def _open_session(self, header: JobHeader, claim: Claim) -> Session:
        session = self._sessions.pop(header.job, None)
        if session is None:
            session = Session(self.store, self.keyring, header, claim, self._current_session)
            shortest = min(header.lease_ms, session.spec.task_timeout_ms or header.lease_ms)
            self.setup.report_lease(shortest)
        # Jobs that take turns are opened once: initfn runs before a job's first task only.
        self._sessions[header.job] = self._current_session = session
        if len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    def _give_turn_to_others(self, header: JobHeader, claim: Claim) -> bool:
        """Whether another job should have the next turn; ours goes behind it then."""
        now = time.monotonic()
        others = [
            job
            for job in self.store.runnable(8)
            if job != header.job and self._skip_until.get(job, 0.0) <= now
        ]
        if others:
            self.store.take_turn(header.job, header.priority, claim.now_ms)
        return bool(others)

    def _new_nonce(self, header: JobHeader) -> str:
        """A nonce that is in our slot before the server hears of it."""
        nonce = secrets.token_urlsafe(8)
        self._write_slot(header, "", (), nonce)
        return nonce

    def _write_slot(
        self, header: JobHeader, nonce: str, tasks: tuple[str, ...], next_nonce: str = ""
    ) -> None:
        timeout = 0
        if self._current_session and self._current_session.job == header.job:
            timeout = self._current_session.spec.task_timeout_ms or 0
        self.slot.set_holding(
            Holding(header.job, nonce, next_nonce, tasks, header.lease_ms, timeout)
        )


def main(setup: ExecutorSetup, connection: Connection, keyring: Keyring) -> int:
    """Run one executor in this freshly forked process; returns its exit status."""
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


def _checked_tasks(session: Session, tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The claimed tasks, each once: one token must never stand for two runs.

    Raises:
        JobAltered: one of them is no task of the job.
    """
    for task in tasks:
        if not _TASK_ID.fullmatch(task) or (
            task[0] == "r" and int(task[1:]) >= session.spec.partitions
        ):
            raise JobAltered(
                f"the queue of job {session.job} in Redis names {task[:40]!r}, no task of it"
            )
    return tuple(dict.fromkeys(tasks))
