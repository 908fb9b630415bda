"""Commits the finished attempts of a batch, and claims the next batch in the same round trip."""

from redismr.core.model import Claim, Stage
from redismr.store import CommitReply, Store
from redismr.workers.batch_runner import Finished
from redismr.workers.batch_sizing import BatchSizer
from redismr.workers.reporter import Reporter
from redismr.workers.session import Session
from redismr.workers.shared_slots import Slot
from redismr.workers.tasks import Attempt


class Committer:
    """Commits for one executor."""

    def __init__(self, store: Store, slot: Slot, reporter: Reporter) -> None:
        self._store, self._slot, self._reporter = store, slot, reporter
        #: The sizers of both stages; the order, map first, is that of the arguments of ``claim``.
        self.sizers: dict[Stage, BatchSizer] = {"map": BatchSizer(), "reduce": BatchSizer()}

    def commit(
        self, session: Session, claim: Claim, finished: Finished, nonce: str = "", want: int = 0
    ) -> CommitReply | None:
        """Commit attempts, and claim up to ``want`` tasks under ``nonce``; None: the job is gone.

        Attempts that the server does not count are undone.
        """
        self._slot.set_holding(session.holding(claim.nonce, claim.tasks, nonce))
        commits = [commit for _, commit in finished]
        few_reduces = self.sizers["reduce"].small_batch() + len(commits)
        committed = self._store.commit(
            session.job, self._reporter.name, commits, nonce, want, session.stage_events,
            min_want=self.sizers["map"].small_batch(),
            want_reduces=max(0, self._slot.limit_tasks(few_reduces) - len(commits)),
        )  # fmt: skip
        # 1. The job is gone.
        if committed is None:
            for attempt, _ in finished:
                attempt.undo()
            return None
        counted: list[Attempt] = []
        for (attempt, _), status in zip(finished, committed.statuses, strict=True):
            # 2. A failover lost staged chunks: give the task back. The same token must not be used
            # again: a second run may differ, and its chunks could not be told from the first ones.
            if status == "RESTAGE":
                attempt.undo()
                self._store.release(session.job, self._reporter.name, claim.nonce, [attempt.task])
            # 3. Another attempt was counted, or the lease is lost.
            elif status == "FENCED":
                attempt.undo()
            # 4. The attempt counts (OK), or was counted by an earlier call (DUP_OK).
            else:
                self._slot.count_task()
                counted.append(attempt)
        session.outputs_from_commit = committed.claim.basis, committed.map_outputs
        self._reporter.announce_commit(session, committed, counted)
        return committed
