"""An executor as its supervisor sees it: what runs, how long, and what its death is charged to."""

import contextlib
import socket
import time
from dataclasses import dataclass

from redismr.workers.control_channel import WAKE
from redismr.workers.fork_server import kill_group
from redismr.workers.shared_slots import Holding, Slot

# Kill reasons.
LEASE_LOST = "lease lost"  # the running task is no longer its own, or the job has ended
OVERDUE = "ran longer than"  # the limit that one task has exceeded follows
STAYED_STOPPED = "was stopped by a signal and did not go on"  # so long that its leases are lost


@dataclass(slots=True)
class Child:
    """One executor process. Times are of ``time.monotonic``."""

    slot: Slot  #: Shared memory where the executor says what it holds.
    pid: int
    control: socket.socket  #: The supervisor's end of the executor's control socket.
    counted_before: int = 0  #: ``tasks_counted`` of the slot before this executor.
    idle: bool = False  #: True if the executor waits for a wake-up.
    kill_reason: str = ""  #: Why the supervisor killed it; "" if it did not.
    killed_at: float = 0.0  #: When the supervisor killed it, if it did.
    current_task: tuple[str, int] = ("", -1)  #: Nonce and index of the task at the last look.
    task_since: float = 0.0  #: When it was first seen.
    current_record: tuple[str, int, int] = ("", -1, -1)  #: The same, and the record's ordinal.
    record_since: float = 0.0  #: When it was first seen.
    stopped_since: float = 0.0  #: When it was first seen stopped by a signal; 0.0 if it runs.
    buffer: bytes = b""  #: The start of a message whose end has not come.

    def kill(self, why: str) -> None:
        """Kill the executor and its children."""
        self.kill_reason, self.killed_at = why, time.monotonic()
        kill_group(self.pid)

    def wake(self, message: bytes = WAKE) -> None:
        """Have an idle executor look for work."""
        self.idle = False
        with contextlib.suppress(OSError):
            self.control.send(message)

    def receive(self) -> list[tuple[bytes, bytes]] | None:
        """Return the executor's new messages as (word, argument); None if it has hung up."""
        try:
            data = self.control.recv(4096)
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        return [(word, argument) for word, _, argument in (s.partition(b" ") for s in lines)]

    def is_task_to_blame(self, holding: Holding) -> bool:
        """True if the running task is charged for the executor's death.

        False if the supervisor killed the executor for another reason, or for an earlier task. True
        for an executor that stayed stopped: if its lease ran out meanwhile, the lost lease was
        charged, and this charge is FENCED.
        """
        if not 0 <= holding.running < len(holding.tasks):
            return False
        if self.kill_reason.startswith(OVERDUE):
            return (holding.nonce, holding.running) == self.current_task
        return self.kill_reason in ("", STAYED_STOPPED)

    def record_to_blame(self, holding: Holding) -> int:
        """Return the ordinal of the record that is charged for the death; -1: no record is.

        An overdue task has its record charged only if that record alone took more than half of the
        time. A signal that stops a process comes from outside, so no record is charged for it.
        """
        if self.kill_reason == STAYED_STOPPED:
            return -1
        if self.kill_reason.startswith(OVERDUE):
            same = (holding.nonce, holding.running, holding.ordinal) == self.current_record
            spent = self.killed_at - self.record_since
            return holding.ordinal if same and spent > holding.timeout_ms / 2000 else -1
        return holding.ordinal

    def kill_if_overdue(self) -> None:
        """Kill an executor that is in one task, or stopped by a signal, for too long."""
        holding = self.slot.read()
        if holding is None or self.kill_reason:
            return
        if why := self._overdue_reason(holding) or self._stopped_reason(holding):
            self.kill(why)

    def _overdue_reason(self, holding: Holding) -> str:
        task, now = (holding.nonce, holding.running), time.monotonic()
        if task != self.current_task:
            self.current_task, self.task_since = task, now
        if (record := (*task, holding.ordinal)) != self.current_record:
            self.current_record, self.record_since = record, now
        limit = holding.timeout_ms / 1000
        if limit and holding.running >= 0 and now - self.task_since > limit:
            return f"{OVERDUE} task_timeout={limit:g} s"
        return ""

    def _stopped_reason(self, holding: Holding) -> str:
        if not self.is_stopped():
            self.stopped_since = 0.0
            return ""
        now = time.monotonic()
        self.stopped_since = self.stopped_since or now
        return STAYED_STOPPED if now - self.stopped_since > 2 * holding.lease_ms / 1000 else ""

    def is_stopped(self) -> bool:
        """True if a signal has stopped the process: its leases are not renewed then."""
        try:
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                return file.read().rpartition(b")")[2].split()[:1] == [b"T"]
        except OSError:  # the process is gone, or this is not Linux
            return False
