"""Workers: one supervisor process with N executors, on any host that reaches the server."""

from __future__ import annotations

import logging
import os

from redismr.config import Connection, WorkerOptions
from redismr.core.printable import printable_text
from redismr.process_guards import CORES_VARIABLE


def main(connection: Connection, options: WorkerOptions) -> int:
    """Run one worker until it is told to stop; returns its exit status.

    It waits for a server that is not up yet and reconnects for ever. One that does not let it in
    ends it: only who may work says that it waits for jobs. SIGTERM or Ctrl-C: finish
    what runs and end; a second one: give everything back at once. Must be called in the main
    thread of a process that has no other.
    """
    from redismr.workers.supervisor import Supervisor

    _set_up_log(logging.ERROR if options.quiet else logging.INFO)
    return Supervisor(connection, options).run()


def _set_up_log(level: int) -> None:
    """Where we log, on standard error. The root logger is the user functions' to set up."""
    log = logging.getLogger("redismr.worker")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.addFilter(_clean_record)
    log.setLevel(level)
    log.propagate = False


def _clean_record(record: logging.LogRecord) -> bool:
    """What others wrote to Redis must not drive the terminal of who reads our log."""
    record.msg, record.args = printable_text(record.getMessage(), 2000), ()
    return True


def cores() -> int:
    """How many cores this process may use: the default number of executors.

    Inside a task they are its executor's share.
    """
    if (share := os.environ.get(CORES_VARIABLE, "")).isdecimal():
        return max(1, int(share))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
