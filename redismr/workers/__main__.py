"""``python -m redismr.workers``: a client's own worker; all settings are in the environment.

``REDISMR_EXECUTORS`` is the number of executors. ``REDISMR_PARENT_PIPE`` is a pipe that reaches its
end when the client is gone. Neither click nor rich is imported, because the user waits for this
cold start.
"""

import contextlib
import os
import sys

from redismr import standard_streams
from redismr.config import Connection, WorkerOptions
from redismr.errors import RedismrError
from redismr.workers import cores, main

NICE = 3
"""Niceness of the executors. The client that collects the result has less work than two executors,
and the user waits for all of it. Gain: 3 % of a word count's wall time. Other programs still get
their fair share."""

if __name__ == "__main__":
    standard_streams.use_safe_streams()
    with contextlib.suppress(OSError):  # a sandbox may refuse
        os.nice(NICE)
    pipe = os.environ.pop("REDISMR_PARENT_PIPE", "")
    connection = Connection(
        url=os.environ["REDISMR_URL"],
        secret=os.environ["REDISMR_SECRET"],
        namespace=os.environ["REDISMR_NAMESPACE"],
        embedded=bool(os.environ.pop("REDISMR_EMBEDDED", "")),
    )
    options = WorkerOptions(
        executors=int(os.environ.pop("REDISMR_EXECUTORS", 0)) or cores(),
        parent_pipe=int(pipe) if pipe else None,
        quiet=True,
    )
    try:
        sys.exit(main(connection, options))
    except RedismrError as exc:  # no traceback: the server is unfit, the text says why
        sys.stderr.write(f"redismr worker: {exc}\n")
        sys.exit(3)
