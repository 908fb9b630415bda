"""Workers: one supervisor process with N executors, on any host that reaches the server."""

import logging

from redismr.config import Connection, WorkerOptions
from redismr.core.printable import printable_text
from redismr.process_guards import cores

__all__ = ["cores", "main"]


def main(connection: Connection, options: WorkerOptions) -> int:
    """Run one worker until it is told to stop; return its exit status.

    A worker waits for a server that is not up yet, and reconnects for ever. It ends if the server
    refuses it, and says that it waits for jobs only once the server has let it in. SIGTERM or
    Ctrl-C: finish the running tasks and end. A second one: give everything back at once. Call
    ``main`` in the main thread of a process that has no other thread.
    """
    from redismr.workers.supervisor import Supervisor

    _set_up_log(logging.ERROR if options.quiet else logging.INFO)
    return Supervisor(connection, options).run()


def _set_up_log(level: int) -> None:
    """Log to standard error. The root logger is left to user functions."""
    log = logging.getLogger("redismr.worker")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    log.addHandler(handler)
    log.addFilter(_clean_record)
    log.setLevel(level)
    log.propagate = False


def _clean_record(record: logging.LogRecord) -> bool:
    """Make text from Redis harmless to the terminal that shows the log."""
    record.msg, record.args = printable_text(record.getMessage(), 2000), ()
    return True
