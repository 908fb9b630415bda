"""``redismr repl``: a prompt at which each line starts a job; many jobs run at once."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

import redismr
from redismr import settings
from redismr.cli import exit_codes
from redismr.cli.cmd_run import add_read_options, print_job_outcome
from redismr.cli.job_file import ReadOptions, job_source, load_job_file
from redismr.cli.line_input import MAX_WAIT_SECONDS, ReplConsole, parse_file_names
from redismr.cli.shared_options import add_server_options, executors_option
from redismr.cli.unshown_results import is_server_private, keep_unless_shown
from redismr.compat.wordcount_demo import count_table, word_count, worker_info
from redismr.core.status_rows import Progress
from redismr.errors import ConfigError, RedismrError, StoreError
from redismr.sources.file_sources import FileSource
from redismr.standard_streams import OutputLost
from redismr.ui.error_screens import add_recovery_hint, print_error, print_message, recovery_hint_of

MAX_IN_FLIGHT = 16  # transactions; a further line waits until one has ended
CANCEL_WAIT_SECONDS = 5.0  # for the jobs to be gone from the server after Ctrl-C


@click.command()
@click.argument("file", required=False, metavar="[FILE]")
@executors_option
@click.option("--top", type=click.IntRange(min=1), metavar="N",
              help="Number of keys to show. [100; with FILE all]")  # fmt: skip
@add_read_options
@add_server_options
def repl(
    *, file: str | None, executors: int | None, top: int | None, kind: str | None,
    encoding: str | None, errors: str | None, url: str | None, namespace: str | None,
) -> int:  # fmt: skip
    """Count the words of the files that you name, line by line, on the running workers.

    A line has one or several names or globs, quoted as in a shell; after a leading @ the workers
    read the files themselves. An empty line asks every worker for its statistics. The prompt is
    back at once, for up to 16 lines: each outcome is printed when it is there, with the number of
    its transaction. At the end of the input, repl waits for all of them; Ctrl-C stops them. The
    exit code is that of the first line that failed.

    With FILE, its functions are run instead, as by `redismr run FILE`, on the files that the lines
    name, which are read as its source is.
    """
    read_options = ReadOptions(kind, encoding, errors)
    if not file and kind in ("jsonl", "csv"):
        raise ConfigError(f"--{kind} gives no text to count the words of: name a job FILE as well")
    if file:
        line_job = _load_line_job(file, read_options, top)
    else:
        line_job = word_count_job(top or 100, read_options)
    if note := settings.ignored_url_note(url):
        print_message(note, sys.stderr)
    console = ReplConsole()
    with redismr.Client(url, namespace=namespace, executors=executors) as client:
        session = ReplSession(client, line_job, console)
        try:
            for line in console.lines():
                session.start_transaction(line)
            session.drain()
            return session.exit_code()
        except KeyboardInterrupt:
            session.cancel()
            raise


@dataclass(frozen=True)
class LineJob:
    """The job that is run on the files of a line."""

    name: str
    functions: Mapping[str, Any]
    print_outcome: Callable[[Any], object]  #: Prints an outcome below its heading.
    count_format: str = "{} results"  #: The part of the heading that counts the results.
    #: Returns a source of the files or globs.
    make_source: Callable[[list[str]], Any] = redismr.files
    options: Mapping[str, Any] = field(default_factory=dict)  #: Those of ``Client.run``.

    def source(self, line: str) -> Any:
        """Return a source of the files that a line names.

        Whole files are read here, and on the workers if the line begins with @.
        """
        source = self.make_source(parse_file_names(line.removeprefix("@")))
        reads_whole_files = isinstance(source, FileSource) and source.format.kind == "files"
        return replace(source, ship=not line.startswith("@")) if reads_whole_files else source


def word_count_job(top: int = 100, read_options: ReadOptions = ReadOptions()) -> LineJob:  # noqa: B008 - frozen
    """Return a job that counts words and prints the ``top`` most frequent ones, and their ties."""
    return LineJob(
        "Word Count",
        {"mapfn": word_count, "reducefn": "sum"},
        lambda counts: sys.stdout.writelines(count_table(counts, top)),
        f"top {top} of {{}} results",
        read_options.make_source,
    )


def _load_line_job(file: str, read_options: ReadOptions, top: int | None) -> LineJob:
    job = load_job_file(file)
    return LineJob(
        job.options.get("name") or Path(file).stem,
        {**job.functions, "params": job.params},
        partial(print_job_outcome, job, top=top),
        make_source=lambda names: job_source(job, names, read_options),
        options=job.options,
    )


_WORKER_STATISTICS = LineJob(
    "Stats",
    {"mapfn": worker_info, "reducefn": "first"},
    lambda statistics_by_worker: sys.stdout.writelines(
        f"{worker} : {statistics}\n" for worker, statistics in sorted(statistics_by_worker.items())
    ),
    options={"each_worker": True},
)


class SessionStopped(Exception):
    """Raised in the progress callback of a job, to cancel the job when the session stops."""


class ReplSession:
    """Runs each line as a transaction, in a thread of its own, and prints the outcome."""

    def __init__(self, client: redismr.Client, line_job: LineJob, console: ReplConsole) -> None:
        self._client, self._line_job, self._console = client, line_job, console
        self._txn_prefix = f"repl-{socket.gethostname()}-{os.getpid()}"
        self._transaction_numbers = itertools.count()
        self._in_flight_limit = threading.BoundedSemaphore(MAX_IN_FLIGHT)
        self._threads_in_flight: list[threading.Thread] = []
        self._stop_requested = threading.Event()
        self._reason_lock, self._printed_reason = threading.Lock(), ""
        self._lost_output: OutputLost | None = None
        self._errors: dict[int, BaseException] = {}

    def start_transaction(self, text: str) -> None:
        """Start a transaction, whose number and outcome are printed later."""
        if not self._in_flight_limit.acquire(blocking=False):
            if self._console.is_terminal:
                self._console.print_note(f"{MAX_IN_FLIGHT} in flight: waiting for one to end")
            while not self._in_flight_limit.acquire(timeout=MAX_WAIT_SECONDS):
                pass
        number, text = next(self._transaction_numbers), text.strip()
        thread = threading.Thread(
            target=self._run_transaction, args=(number, text), name=f"txn-{number}", daemon=True
        )
        in_flight = [other for other in self._threads_in_flight if other.is_alive()]
        if not in_flight:
            self._printed_reason = ""  # a reason to wait is news again
        self._threads_in_flight = [*in_flight, thread]
        thread.start()

    def drain(self, timeout_seconds: float = math.inf) -> None:
        """Wait until all transactions have ended, or for ``timeout_seconds``."""
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads_in_flight:
            while thread.is_alive() and (seconds_left := deadline - time.monotonic()) > 0:
                thread.join(min(seconds_left, MAX_WAIT_SECONDS))

    def exit_code(self) -> int:
        """Return the exit code of the first line that failed, else 0; raise lost output."""
        if self._lost_output:
            add_recovery_hint(self._lost_output, "the lines above say where each result is")
            raise self._lost_output
        if not self._errors:
            return exit_codes.SUCCESS
        return exit_codes.exit_code_for(self._errors[min(self._errors)])

    def cancel(self) -> None:
        """Cancel all running transactions, and delete their jobs from the server."""
        self._stop_requested.set()
        self.drain(CANCEL_WAIT_SECONDS)

    def _run_transaction(self, number: int, line: str) -> None:
        line_job = self._line_job if line else _WORKER_STATISTICS
        title = f"Transaction {number}; {line_job.name};"
        try:
            with self._shown_outcome(number, line_job, line) as outcome:
                result_count = len(outcome) if isinstance(outcome, Mapping) else 1
                with self._console.above_prompt():
                    sys.stdout.write(f"{title} {line_job.count_format.format(result_count)}:\n")
                    line_job.print_outcome(outcome)
        except OutputLost as lost:
            self._lost_output = lost
            if (recovery_hint := recovery_hint_of(lost)) and not lost.reader_has_left:
                self._console.print_note(f"{title} {recovery_hint}")
        except BaseException as error:  # noqa: BLE001  user code may raise anything; others go on
            self._errors[number] = error
            if not self._stop_requested.is_set():
                with self._console.above_prompt():
                    sys.stdout.write(f"{title} failed:\n")
                    print_error(error, sys.stderr)
        finally:
            self._in_flight_limit.release()

    def _shown_outcome(
        self, number: int, line_job: LineJob, line: str
    ) -> contextlib.AbstractContextManager[Any]:
        """Run the line's job; its outcome is for a body, after which the job is deleted."""
        source = line_job.source(line) if line else itertools.count()
        named_options = {"name": line_job.name, **line_job.options}
        txn = f"{self._txn_prefix}-{number}"
        results = self._run_job(source, {**line_job.functions, **named_options, "txn": txn})
        finishfn, private = line_job.functions.get("finishfn"), is_server_private(self._client)
        return keep_unless_shown(results, finishfn, private=private)

    def _run_job(self, source: Any, options: Mapping[str, Any]) -> Any:
        """Return the results, as ``Client.run`` does; delete a job that fails or is cancelled."""
        job_id = ""

        def on_progress(progress: Progress) -> None:
            nonlocal job_id
            job_id = progress.job_id
            if self._stop_requested.is_set():
                raise SessionStopped
            self._print_wait_reason(progress.waiting)

        try:
            return self._client.run(source, progress=on_progress, finish=False, **options)
        except Exception as error:
            if job_id and not isinstance(error, StoreError):
                with contextlib.suppress(RedismrError):
                    self._client.attach(job_id).delete()
            raise

    def _print_wait_reason(self, reason: str) -> None:
        """Print a reason to wait once, however many transactions wait for the same."""
        with self._reason_lock:
            if not reason or reason == self._printed_reason:
                return
            self._printed_reason = reason
        self._console.print_note(f"waiting: {reason}")
