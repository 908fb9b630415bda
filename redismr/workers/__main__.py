"""``python -m redismr.workers``: a worker child of a client; everything is in its environment.

``REDISMR_EXECUTORS`` says how many executors, ``REDISMR_PARENT_PIPE`` is a pipe whose end tells
that the client is gone. Imports neither click nor rich: a cold start is what a user waits for.
"""

from __future__ import annotations

import contextlib
import os
import sys

from redismr import standard_streams
from redismr.config import Connection, WorkerOptions
from redismr.errors import RedismrError
from redismr.workers import cores, main

NICE = 3
"""The program that collects goes first: it has less to do than two executors, and all of it is in
the way of the result. Of a word count's wall time that is 3 %. Others are still served fairly."""

if __name__ == "__main__":
    standard_streams.use_worker_streams()
    with contextlib.suppress(OSError):  # a sandbox may refuse it
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
    except RedismrError as exc:  # no screen of frames: its server is none to work for
        sys.stderr.write(f"redismr worker: {exc}\n")
        sys.exit(3)
