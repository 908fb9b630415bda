"""Messages between an executor and its supervisor, over the executor's control socket.

An executor sends lines: a word and perhaps one argument. Its supervisor answers single bytes.
"""

import contextlib
import select
import socket
from dataclasses import dataclass

from redismr.core.printable import printable_text
from redismr.workers.shared_slots import Slot

# From the executor.
IDLE = b"idle"  # it waits for work
LEASE = b"lease"  # argument: the shortest lease, in ms, of the job that it begins
PROBLEM = b"problem"  # argument: a sentence about what keeps it from a job

# From the supervisor.
WAKE = b"w"  # look for work
LOOK_FOR_BACKUPS = b"b"  # look for work, also for tasks that other executors are slow at

IDLE_WAIT_SECONDS = 30.0  # after this time an idle executor looks for work by itself


@dataclass(frozen=True, slots=True)
class ExecutorSetup:
    """The things that a supervisor gives a new executor."""

    slot: Slot  #: Shared memory where the executor says what it holds.
    control: socket.socket  #: The executor's end of its control socket.
    name: str
    cores: int = 1  #: How many cores are this executor's share.

    def report_problem(self, problem: str) -> None:
        """Have the supervisor tell what keeps this executor from a job, once for all executors."""
        # Text that may come from Redis is made one harmless line.
        line = printable_text(problem, 300).replace("\n", " ").encode()
        with contextlib.suppress(OSError):
            self.control.sendall(b"%s %s\n" % (PROBLEM, line))

    def report_lease(self, lease_ms: int) -> None:
        """Tell the supervisor of a job's lease, so that the first renewal comes in time."""
        with contextlib.suppress(OSError):
            self.control.sendall(b"%s %d\n" % (LEASE, lease_ms))

    def wait_for_wakeup(self) -> bytes | None:
        """Say that the executor is idle, and wait; return the supervisor's bytes, if any came.

        None: the supervisor is gone.
        """
        try:
            self.control.sendall(IDLE + b"\n")
            if not select.select([self.control], [], [], IDLE_WAIT_SECONDS)[0]:
                return b""
            return self.control.recv(4096) or None
        except OSError:
            return None
