"""Accounts for executors that ended: charges the task that ran, gives back the others."""

import logging
from collections import deque
from collections.abc import Callable, Sequence

from redismr.core.model import AttemptRef, is_map_task, token_of
from redismr.errors import StoreError, StoreUnavailable
from redismr.store import Store
from redismr.workers.child import OVERDUE, Child
from redismr.workers.fork_server import ExecutorExit
from redismr.workers.reporter import Reporter
from redismr.workers.shared_slots import Holding

log = logging.getLogger("redismr.worker")


class ExecutorExits:
    """The exits that are not reported to Redis yet, with what each executor held.

    No executor is started in the same slot before that: it would claim under the same name.
    """

    def __init__(
        self, store: Store, reporter: Reporter, on_reported: Callable[[Child, ExecutorExit], None]
    ) -> None:
        self._store, self._reporter, self._on_reported = store, reporter, on_reported
        self.unreported: deque[tuple[Child, Holding, ExecutorExit]] = deque()

    def report_all(self) -> None:
        """Report all exits. StoreUnavailable: Redis is away, and the next tick reports the rest."""
        while self.unreported:
            child, holding, exited = ended = self.unreported.popleft()
            try:
                self._report_exit(child, holding, exited)
            except StoreUnavailable:
                self.unreported.appendleft(ended)  # the part that was reported may be repeated
                raise
            except StoreError as exc:
                log.warning("job %s: %s", holding.job, exc)
            self._on_reported(child, exited)

    def _report_exit(self, child: Child, holding: Holding, exited: ExecutorExit) -> None:
        rest = list(holding.tasks)
        # 1. The task that ran, if it is to blame: charge it.
        if child.is_task_to_blame(holding):
            task = rest.pop(holding.running)
            place = "record {} of its input" if is_map_task(task) else "key {} of its partition"
            self._reporter.report_crash(
                AttemptRef(holding.job, task, token_of(task, holding.nonce)),
                child.kill_reason or exited.cause,
                kind="timeout" if child.kill_reason.startswith(OVERDUE) else "crash",
                where=place.format(holding.ordinal + 1) if holding.ordinal >= 0 else "",
                ordinal=child.record_to_blame(holding),
                pid=exited.pid,
            )
        # 2. A claim that may have been granted after the executor last wrote its slot.
        if holding.next_nonce:
            self._store.release(holding.job, self._executor_name(child), holding.next_nonce)
        # 3. The other tasks: give them back, uncharged.
        self.release(child, holding, rest)

    def release(self, child: Child, holding: Holding, tasks: Sequence[str]) -> None:
        """Give back claimed tasks that the executor will not run, and wake workers for them."""
        if tasks:
            self._store.release(holding.job, self._executor_name(child), holding.nonce, tasks)
        self._reporter.wake(len(tasks) + 1)  # 1 for the token that woke the executor

    def _executor_name(self, child: Child) -> str:
        return f"{self._reporter.name}:{child.slot.index}"
