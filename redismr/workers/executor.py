"""One executor: claims tasks, runs user code, commits, over a connection of its own.

It is a process that may die at any instruction. What it holds is in its slot before Redis is asked,
so that its supervisor can give back or fail exactly that. It ends when its supervisor does.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import select
import time
from dataclasses import replace

from redismr.config import Connection
from redismr.core.model import PROTOCOL, PYTHON, Claim, token_of
from redismr.core.seal import Keyring
from redismr.errors import JobLost, KeysAltered, RedismrError, StoreError, StoreUnavailable
from redismr.store import Commit, Committed, Store
from redismr.workers.pace import Pace
from redismr.workers.process import end_if_forked, settle_in
from redismr.workers.report import Reporter
from redismr.workers.session import Altered, Brief, Session
from redismr.workers.slots import Holding, Post
from redismr.workers.tasks import Attempt, Missing, Withdrawn, run_map, run_reduce

log = logging.getLogger("redismr.worker")

CUT_SECONDS, CUT_FIRST_SECONDS = 0.5, 0.05
"""No task of a batch is begun later than this, as the batch was sized for quicker ones; the second
is for the first batch of a turn or a stage, which was sized by what came before it."""

LOOK_HARD = b"b"
"""What the supervisor says when all that is left may be what others are slow at."""

FAILED_PAUSE = 0.02
"""How long an executor lets others go first after a task failed in its hands."""

TURN_SECONDS = 0.1
"""After this long on one job an executor looks whether another one has waited longer."""

SESSIONS = 8
LOADS_PER_TURN = 10
FORK_SECONDS = 0.02
"""A turn lasts ten times what changing jobs may cost: a process, the code, initfn. Measured with
an initfn of 0.4 s and two jobs that alone take 1.1 s: without this they took 47 s together."""

_TASK = re.compile(r"[mr][0-9]{1,9}")

STOP_SECONDS = 3.0
"""How long an executor that is to stop waits for a server that is away, to hand in what it has."""

RECYCLE = 75
"""Exit status: the next job has other code, which gets a fresh process."""

REFUSED = 76
"""Exit status: the server refuses what an executor needs; its supervisor was told what."""

_REMEMBER_SECONDS = 10.0


class Executor:
    """The loop of one executor process."""

    def __init__(self, post: Post, connection: Connection, keyring: Keyring) -> None:
        self.post, self.slot = post, post.slot
        self.store = Store(
            connection, patience=None, name=f"redismr-{post.name}", on_wait=self._on_wait
        )
        self._stop_seen = 0.0
        self.keyring = keyring
        self.report = Reporter(self.store, keyring, post.name)
        self._digest, self._paces = "", {"m": Pace(), "r": Pace()}
        self._session: Session | None = None
        self._sessions: dict[str, Session] = {}
        self._briefs: dict[str, Brief] = {}
        self._passed: dict[str, float] = {}
        self._look_hard = False

    def run(self) -> int:
        """Work until told to stop; the exit status says why it ended."""
        while not self.slot.stopping:
            self.slot.set_busy(busy=True)
            outcome = self._serve_next()
            if outcome is None and self._look_hard:
                outcome = self._serve_next(backup=True)
            if outcome == RECYCLE:
                return RECYCLE
            if outcome is None and not self._idle():
                break
        return 0

    def _on_wait(self, text: str, _waited: float) -> None:
        """Redis is away: wait for ever, but not when we are to stop."""
        if self.slot.stopping:
            now = time.monotonic()
            self._stop_seen = self._stop_seen or now
            if now - self._stop_seen > STOP_SECONDS:
                raise StoreUnavailable(text)

    def _idle(self) -> bool:
        """Wait until the supervisor wakes us; False when it is gone or wants us to stop."""
        self.slot.set_busy(busy=False)
        try:
            self.post.control.sendall(b"idle\n")
            ready, _, _ = select.select([self.post.control], [], [], 30.0)
            if ready:
                said = self.post.control.recv(4096)
                self._look_hard = LOOK_HARD in said
                if not said:
                    return False
        except OSError:
            return False
        return not self.slot.stopping

    def _serve_next(self, *, backup: bool = False) -> int | None:
        """Serve one job for a turn. None: nothing to do; RECYCLE: only for another process.

        With ``backup``, what others are slow at counts as well: for when nothing else is left.
        """
        now = time.monotonic()
        for job in self.store.runnable():
            if self._passed.get(job, 0.0) > now:
                continue
            try:
                outcome = self._serve_one(job, backup=backup)
            except KeysAltered as exc:  # of this job: others must not suffer for it
                self._passed[job] = now + _REMEMBER_SECONDS
                self.report.altered(job, str(exc))
                continue
            if outcome is not None:
                return outcome
        if len(self._passed) > 1000 or len(self._briefs) > 1000:
            self._passed.clear()
            self._briefs.clear()
        return None

    def _serve_one(self, job: str, *, backup: bool) -> int | None:
        brief = self._briefs.get(job) or Brief.read(self.store, job)
        if brief is None:
            return None  # announced and not created yet, or gone: supervisors tidy the index
        if not self._can_take(brief):
            self._passed[job] = time.monotonic() + _REMEMBER_SECONDS
            return None
        self._briefs[job] = brief
        if self._digest and brief.digest != self._digest:
            waits = self.store.link.one("LLEN", self.store.keys.control(job, "ready"))
            if backup and not waits:
                waits = self.store.steal(job, self.post.name.rpartition(":")[0]).slow
            return RECYCLE if waits else None
        return 0 if self._serve(brief, backup=backup) else None

    def _can_take(self, brief: Brief) -> bool:
        tell = self.post.tell
        if brief.key_id != self.keyring.key_id:
            tell(
                f"job {brief.job} is signed with secret {brief.key_id}, and this worker's is "
                f"{self.keyring.key_id} (fingerprints). Set the same REDISMR_SECRET on both sides"
            )
        elif brief.python != PYTHON:
            tell(f"job {brief.job} needs Python {brief.python}; this worker runs {PYTHON}")
        elif brief.protocol != PROTOCOL:
            newer = "upgrade this worker" if brief.protocol > PROTOCOL else "upgrade its submitter"
            tell(
                f"job {brief.job} is of another version of redismr (protocol {brief.protocol}, "
                f"here {PROTOCOL}): {newer}"
            )
        else:
            return True
        return False

    def _serve(self, brief: Brief, *, backup: bool) -> bool:
        """Claim and run tasks of one job for a turn; False if it had none for us."""
        nonce = self._begin(brief)
        few = [1 if backup else max(1, self.slot.wanted(self._paces[s].few())) for s in "mr"]
        new = brief.job not in self._sessions
        claim = self.store.claim(brief.job, self.post.name, nonce, *few, backup=backup, opening=new)
        if claim is None or not claim.tasks:
            self.slot.hold(Holding())
            if claim is None or claim.state not in ("submitting", "mapping", "reducing"):
                self._briefs.pop(brief.job, None)
                self._passed[brief.job] = time.monotonic() + _REMEMBER_SECONDS
            return False
        self._digest = brief.digest
        self.report.wake(claim.wakes)
        try:
            self._work(self._open(brief, claim), replace(claim, opening=()))
        except Altered as exc:
            self.report.altered(brief.job, str(exc))
        except JobLost:
            self._passed[brief.job] = time.monotonic() + _REMEMBER_SECONDS
        finally:
            self.slot.hold(Holding())
        return True

    def _work(self, session: Session, claim: Claim) -> None:
        turn_began, stage = time.monotonic(), ""
        while claim.tasks:
            claim = replace(claim, tasks=_known(session, claim.tasks))
            before, stage = stage, claim.tasks[0][0]
            pace, cut = self._paces[stage], CUT_SECONDS if stage == before else CUT_FIRST_SECONDS
            started, loaded = time.monotonic(), session.load_seconds
            claim, attempts = self._run_batch(session, claim, cut)
            now = time.monotonic()
            took = now - started - (session.load_seconds - loaded)
            pace.note(took, len(claim.tasks))
            if len(attempts) < len(claim.tasks):
                self._commit(session, claim, attempts)
                # Whoever is idle has been woken and takes the failed task: another executor's
                # word tells whether it is the record's fault.
                time.sleep(FAILED_PAUSE)
                return
            turn = max(TURN_SECONDS, LOADS_PER_TURN * (session.load_seconds + FORK_SECONDS))
            if now - turn_began >= turn:
                turn_began = now
                if self._others_wait(session.brief, claim):
                    self._commit(session, claim, attempts)
                    return
            # Those of this batch are not counted yet.
            want = self.slot.wanted(pace.want() + len(attempts)) - len(attempts)
            nonce = "" if self.slot.stopping or want <= 0 else secrets.token_urlsafe(8)
            committed = self._commit(session, claim, attempts, nonce, want)
            if committed is None or not nonce:
                return
            claim = committed.claim

    def _run_batch(
        self, session: Session, claim: Claim, cut: float
    ) -> tuple[Claim, list[tuple[Attempt, Commit]]]:
        """Run the claimed tasks one after another; those that failed are reported at once.

        Returns the claim without what was given back unstarted, and the attempts that succeeded.
        """
        self._hold(session.brief, claim.nonce, claim.tasks)
        maps = [task for task in claim.tasks if task[0] == "m"]
        inputs = dict(zip(maps, self.store.get_inputs(session.job, maps), strict=True))
        finished: list[tuple[Attempt, Commit]] = []
        until, loaded = time.monotonic() + cut, session.load_seconds
        for index, task in enumerate(claim.tasks):
            late = time.monotonic() - until > session.load_seconds - loaded
            if self.slot.stopping or (index and late):
                left = claim.tasks[index:]
                self.store.release(session.job, self.post.name, claim.nonce, left)
                self.report.wake(len(left))
                claim = replace(claim, tasks=claim.tasks[:index])
                break
            token = token_of(task, claim.nonce)
            attempt = Attempt(session, task, token, claim.basis, self.slot.cursor)
            self.slot.run(index)
            commit = self._attempt(attempt, inputs.get(task))
            if commit:
                finished.append((attempt, commit))
        # Nothing is in user code any more: a lease lost from here on is no reason to be killed.
        self.slot.run(-1)
        return claim, finished

    def _attempt(self, attempt: Attempt, first_piece: bytes | None) -> Commit | None:
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
        except Altered:
            if self._holds(attempt):
                raise
            attempt.undo()
        except Withdrawn:
            return None
        except Missing as missing:
            self.slot.run(-1)  # what follows takes our own token away
            attempt.undo()
            self.report.missing(attempt, missing.maps)
        except BaseException as exc:  # noqa: BLE001  user code may raise anything; we survive it
            self.slot.run(-1)
            attempt.undo()
            self.report.failed(attempt, exc)
        return None

    def _holds(self, attempt: Attempt) -> bool:
        """Whether the server knows our claim.

        If a failover took it back, it may have taken what the claim was for: nobody altered that.
        """
        _, lost = self.store.renew(attempt.session.job, [(attempt.task, attempt.token, True)])
        return attempt.task not in lost

    def _commit(
        self,
        session: Session,
        claim: Claim,
        attempts: list[tuple[Attempt, Commit]],
        nonce: str = "",
        want: int = 0,
    ) -> Committed | None:
        self._hold(session.brief, claim.nonce, claim.tasks, nonce)
        commits = [commit for _, commit in attempts]
        reducers = self.slot.wanted(self._paces["r"].few() + len(commits)) - len(commits)
        committed = self.store.commit(
            session.job, self.post.name, commits, nonce, want, session.moves,
            few=self._paces["m"].few(), reducers=max(0, reducers),
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
                self.store.release(session.job, self.post.name, claim.nonce, [attempt.task])
            elif status == "FENCED":
                attempt.undo()
            else:
                self.slot.count_task()
                counted.append(attempt)
        session.named = committed.claim.basis, committed.named
        self.report.moved(session, committed, counted)
        return committed

    def _open(self, brief: Brief, claim: Claim) -> Session:
        session = self._sessions.pop(brief.job, None)
        if session is None:
            session = Session(self.store, self.keyring, brief, claim, self._session)
            shortest = min(brief.lease_ms, session.spec.task_timeout_ms or brief.lease_ms)
            with contextlib.suppress(OSError):
                self.post.control.sendall(b"lease %d\n" % shortest)
        # Jobs that take turns are opened once: initfn runs before a job's first task only.
        self._sessions[brief.job] = self._session = session
        if len(self._sessions) > SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return session

    def _others_wait(self, brief: Brief, claim: Claim) -> bool:
        """Whether another job should have the next turn; ours goes behind it then."""
        now = time.monotonic()
        others = [
            job
            for job in self.store.runnable(8)
            if job != brief.job and self._passed.get(job, 0.0) <= now
        ]
        if others:
            self.store.take_turn(brief.job, brief.priority, claim.now_ms)
        return bool(others)

    def _begin(self, brief: Brief) -> str:
        """A nonce that is in our slot before the server hears of it."""
        nonce = secrets.token_urlsafe(8)
        self._hold(brief, "", (), nonce)
        return nonce

    def _hold(self, brief: Brief, nonce: str, tasks: tuple[str, ...], next_nonce: str = "") -> None:
        timeout = 0
        if self._session and self._session.job == brief.job:
            timeout = self._session.spec.task_timeout_ms or 0
        self.slot.hold(Holding(brief.job, nonce, next_nonce, tasks, brief.lease_ms, timeout))


def main(post: Post, connection: Connection, keyring: Keyring) -> int:
    """Run one executor in this freshly forked process; returns its exit status."""
    settle_in(post.cores)
    os.register_at_fork(after_in_child=post.slot.let_go)
    try:
        return Executor(post, connection, keyring).run()
    except RedismrError as exc:
        if isinstance(exc, StoreError) and not isinstance(exc, StoreUnavailable):
            post.tell(str(exc))
            return REFUSED
        log.critical("executor %s ends: %s", post.name, exc)
        return 1


def _known(session: Session, tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The claimed tasks, each once: one token must never stand for two runs.

    Raises:
        Altered: one of them is no task of the job.
    """
    for task in tasks:
        if not _TASK.fullmatch(task) or (
            task[0] == "r" and int(task[1:]) >= session.spec.partitions
        ):
            raise Altered(
                f"the queue of job {session.job} in Redis names {task[:40]!r}, no task of it"
            )
    return tuple(dict.fromkeys(tasks))
