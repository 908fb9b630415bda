"""Runs the claimed tasks of one batch, one after another, and reports what fails."""

import re
import time
from dataclasses import replace

from redismr.core.model import Claim, is_map_task, task_index, token_of
from redismr.errors import KeysAltered
from redismr.store import Commit, Store
from redismr.workers.process_setup import end_if_forked
from redismr.workers.reporter import Reporter
from redismr.workers.session import JobAltered, Session
from redismr.workers.shared_slots import Slot
from redismr.workers.task_inputs import SegmentsMissing
from redismr.workers.tasks import Attempt, StageClosed, run_map, run_reduce

_TASK_ID = re.compile(r"[mr][0-9]{1,9}")

Finished = list[tuple[Attempt, Commit]]
"""The attempts of a batch that succeeded, each with its commit."""


class BatchRunner:
    """Runs batches in one executor."""

    def __init__(self, store: Store, slot: Slot, reporter: Reporter) -> None:
        self._store, self._slot, self._reporter = store, slot, reporter

    def run(self, session: Session, claim: Claim, start_limit: float) -> tuple[Claim, Finished]:
        """Run a batch; return the claim without the tasks given back, and what succeeded.

        Tasks that are not begun after ``start_limit`` seconds, or when the executor is to stop, are
        given back. The time of loading the job's functions does not count.
        """
        self._slot.set_holding(session.holding(claim.nonce, claim.tasks))
        maps = [task for task in claim.tasks if is_map_task(task)]
        inputs = dict(zip(maps, self._store.get_inputs(session.job, maps), strict=True))
        finished: Finished = []
        start_deadline, load_seconds_before = time.monotonic() + start_limit, session.load_seconds
        for index, task in enumerate(claim.tasks):
            is_late = time.monotonic() - start_deadline > session.load_seconds - load_seconds_before
            # 1. The executor is to stop, or the batch takes too long: give back the rest.
            if self._slot.should_stop or (index and is_late):
                unstarted = claim.tasks[index:]
                self._store.release(session.job, self._reporter.name, claim.nonce, unstarted)
                self._reporter.wake(len(unstarted))
                claim = replace(claim, tasks=claim.tasks[:index])
                break
            # 2. Run the task.
            token = token_of(task, claim.nonce)
            attempt = Attempt(session, task, token, claim.basis, self._slot.cursor)
            self._slot.set_running(index)
            commit = self._run_attempt(attempt, inputs.get(task))
            if commit:
                finished.append((attempt, commit))
        # No task is in user code now, so a lost lease is no reason to kill this executor.
        self._slot.set_running(-1)
        return claim, finished

    def _run_attempt(self, attempt: Attempt, first_piece: bytes | None) -> Commit | None:
        """Return the attempt's commit; None if it failed and the failure was reported."""
        try:
            try:
                if is_map_task(attempt.task):
                    return run_map(attempt, first_piece)
                return run_reduce(attempt)
            finally:
                end_if_forked()
        # 1. A key of the job has another type in Redis: the executor fails the job.
        except KeysAltered:
            raise
        # 2. Sealed data is missing or altered: fail the job, unless a failover lost the claim.
        except JobAltered:
            if self._has_lease(attempt):
                raise
            attempt.undo()
        # 3. The reduce stage closed: the attempt has staged nothing, and nobody is charged.
        except StageClosed:
            return None
        # 4. Segments are gone: have their maps run again. That also invalidates this token.
        except SegmentsMissing as missing:
            self._slot.set_running(-1)
            attempt.undo()
            self._reporter.report_missing(attempt, missing.maps)
        # 5. User code raised.
        except BaseException as exc:  # noqa: BLE001  user code may raise anything, and the executor survives
            self._slot.set_running(-1)
            attempt.undo()
            self._reporter.report_failure(attempt, exc)
        return None

    def _has_lease(self, attempt: Attempt) -> bool:
        """True if the server still knows the attempt's claim.

        A failover that lost the claim may also have lost data of the job: nobody altered that.
        """
        held = [(attempt.task, attempt.token, True)]
        return attempt.task not in self._store.renew(attempt.session.job, held).lost


def checked_tasks(session: Session, tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Return the claimed tasks, each once, because a token must never stand for two runs."""
    for task in tasks:
        if not _TASK_ID.fullmatch(task) or (
            not is_map_task(task) and task_index(task) >= session.spec.partitions
        ):
            raise JobAltered(
                f"the queue of job {session.job} in Redis names {task[:40]!r}, which is no task"
            )
    return tuple(dict.fromkeys(tasks))
