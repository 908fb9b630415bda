"""The row in which a worker tells people what it does, and what keeps it from jobs."""

import logging
import os
import socket

from redismr import native
from redismr.core.model import PROTOCOL, PYTHON
from redismr.core.printable import printable_text
from redismr.store import HEARTBEAT_SECONDS, Store

log = logging.getLogger("redismr.worker")

MAX_LOGGED_PROBLEMS = 1000


class WorkerRow:
    """One worker's row in Redis."""

    def __init__(
        self, store: Store, worker_id: str, key_id: str, executors: int, libraries: str
    ) -> None:
        self._store, self._worker_id = store, worker_id
        self._facts = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "python": PYTHON,
            "protocol": PROTOCOL,
            "native": int(native.IS_LOADED),
            "key_id": key_id,
            "executors": executors,
            "libraries": libraries,
        }
        self.heartbeat_seconds = HEARTBEAT_SECONDS  #: Time between two heartbeats.
        self._problem = ""
        self._logged_problems: set[str] = set()

    def send(self, busy: int, tasks: int) -> int:
        """Write how many executors work, and how many tasks were counted.

        Return how many workers have a row.
        """
        row = self._facts | {
            "busy": busy,
            "tasks": tasks,
            "problem": self._problem,
            "every_ms": int(self.heartbeat_seconds * 1000),
        }
        return self._store.heartbeat(self._worker_id, row)

    def note_problem(self, problem: str) -> bool:
        """Log a problem once, and keep it for the row; return True if the row has changed."""
        # An executor, which runs user code, wrote it.
        problem = printable_text(problem, 300).replace("\n", " ")
        logged = self._logged_problems
        if problem not in logged and len(logged) < MAX_LOGGED_PROBLEMS:
            logged.add(problem)
            log.warning("%s", problem)
        changed, self._problem = problem != self._problem, problem
        return changed
