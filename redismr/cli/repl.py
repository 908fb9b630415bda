"""``redismr repl``: a prompt whose lines are jobs, many of them at once."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import redismr
from redismr import settings
from redismr.cli import exits, jobfile
from redismr.cli.common import EXECUTORS, server_options
from redismr.cli.jobfile import Reading
from redismr.cli.kept import is_private, showing
from redismr.cli.prompt import HEED_SECONDS, Console, names_in
from redismr.cli.run import reading_options, show
from redismr.compat.words import statistics, table, word_count
from redismr.errors import ConfigError, RedismrError, StoreError
from redismr.sources.filesource import FileSource
from redismr.streams import OutputLost
from redismr.ui.errors import add_way_out, say, way_out_of
from redismr.ui.errors import show as show_error

if TYPE_CHECKING:
    from redismr.client import Client
    from redismr.core.model import Progress

AT_ONCE = 16
"""Transactions that may be in flight; further lines wait for one to end."""

STOP_SECONDS = 5.0
"""How long Ctrl-C waits until what was in flight is gone from the server."""


@click.command()
@click.argument("file", required=False, metavar="[FILE]")
@click.option("-n", "--executors", type=EXECUTORS, metavar="N",
              help="Local processes, where no server is named. [one a core]")  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), metavar="N",
              help="How many keys to show. [100; with FILE all]")  # fmt: skip
@reading_options
@server_options
def repl(
    *, file: str | None, executors: int | None, top: int | None, kind: str | None,
    encoding: str | None, errors: str | None, url: str | None, namespace: str | None,
) -> int:  # fmt: skip
    """Count the words of the files that you name, line by line, on the running workers.

    A line has one or several names or globs, quoted as in a shell; with @ before it the workers
    read the files themselves. An empty line asks every worker for its statistics. The prompt is
    back at once, for up to 16 lines: outcomes are printed when they are there, by the number of
    their transaction. The end of the input waits for all of them; Ctrl-C stops them. The exit code
    is that of the first line that failed.

    With FILE, its functions are run instead, as by `redismr run FILE`, on what the lines name,
    read as its source is.
    """
    reading = Reading(kind, encoding, errors)
    if not file and kind in ("jsonl", "csv"):
        raise ConfigError(f"--{kind} gives no text to count the words of: name a job FILE as well")
    work = _work(file, reading, top) if file else word_counter(top or 100, reading)
    if note := settings.note(url):
        say(note, sys.stderr)
    console = Console()
    with redismr.Client(url, namespace=namespace, executors=executors) as client:
        session = Repl(client, work, console)
        try:
            for line in console.lines():
                session.line(line)
            session.drain()
            return session.exit_code()
        except KeyboardInterrupt:
            session.cancel()
            raise


@dataclass(frozen=True)
class Work:
    """What is done with the files that a line names.

    ``read`` makes a source of them. ``show`` prints an outcome under its heading; ``count`` says
    in that how much there is.
    """

    name: str
    functions: Mapping[str, Any]
    show: Callable[[Any], object]
    count: str = "{} results"
    read: Callable[[list[str]], Any] = redismr.files
    options: Mapping[str, Any] = field(default_factory=dict)

    def source(self, line: str) -> Any:
        """The files; whole ones are read here, unless the line begins with @.

        Raises:
            SourceError: some of the names match nothing.
        """
        source = self.read(names_in(line.removeprefix("@")))
        whole = isinstance(source, FileSource) and source.format.kind == "files"
        return replace(source, ship=not line.startswith("@")) if whole else source


def word_counter(top: int = 100, reading: Reading = Reading()) -> Work:  # noqa: B008 - frozen
    """Counts words, and shows a table of at least ``top`` of them, if there are so many."""
    return Work(
        "Word Count",
        {"mapfn": word_count, "reducefn": "sum"},
        lambda counts: sys.stdout.writelines(table(counts, top)),
        f"top {top} of {{}} results",
        reading.files,
    )


def _work(file: str, reading: Reading, top: int | None) -> Work:
    job = jobfile.load(file)
    return Work(
        job.options.get("name") or Path(file).stem,
        {**job.functions, "resultfn": None, "params": job.params},
        partial(show, job, top=top),
        read=lambda names: jobfile.source_of(job, names, reading),
        options=job.options,
    )


_STATS = Work(
    "Stats",
    {"mapfn": statistics, "reducefn": "first"},
    lambda told: sys.stdout.writelines(f"{n} : {what}\n" for n, what in sorted(told.items())),
    options={"each_worker": True},
)


class Stopped(Exception):
    """The session is over, and the job is to be cancelled."""


class Repl:
    """Runs lines as transactions; the console shows their outcomes, and what they wait for."""

    def __init__(self, client: Client, work: Work, console: Console) -> None:
        self._client, self._work, self._console = client, work, console
        self._label = f"repl-{socket.gethostname()}-{os.getpid()}"
        self._numbers = itertools.count()
        self._room = threading.BoundedSemaphore(AT_ONCE)
        self._flying: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._telling, self._told = threading.Lock(), ""
        self._lost: OutputLost | None = None
        self._failed: dict[int, BaseException] = {}

    def line(self, text: str) -> None:
        """Begin a transaction; its outcome is printed when it is there, under its number.

        An empty line asks every worker for its statistics.
        """
        if not self._room.acquire(blocking=False):
            if self._console.typed:
                self._console.remark(f"{AT_ONCE} in flight: waiting for one to end")
            while not self._room.acquire(timeout=HEED_SECONDS):
                pass
        number, text = next(self._numbers), text.strip()
        thread = threading.Thread(
            target=self._transact, args=(number, text), name=f"txn-{number}", daemon=True
        )
        flying = [each for each in self._flying if each.is_alive()]
        if not flying:
            self._told = ""  # what is waited for from now on is news
        self._flying = [*flying, thread]
        thread.start()

    def drain(self, seconds: float | None = None) -> None:
        """Wait for all that is in flight, or so long."""
        until = math.inf if seconds is None else time.monotonic() + seconds
        for thread in self._flying:
            while thread.is_alive() and (left := until - time.monotonic()) > 0:
                thread.join(min(left, HEED_SECONDS))

    def exit_code(self) -> int:
        """That of the first line that failed.

        Raises:
            OutputLost: an outcome could not be printed.
        """
        if self._lost:
            add_way_out(self._lost, "each result is where it was said above")
            raise self._lost
        return exits.code_of(self._failed[min(self._failed)]) if self._failed else exits.DONE

    def cancel(self) -> None:
        """Stop what is in flight; nothing of it stays on the server."""
        self._stopped.set()
        self.drain(STOP_SECONDS)

    def _transact(self, number: int, line: str) -> None:
        work = self._work if line else _STATS
        title = f"Transaction {number}; {work.name};"
        try:
            with self._outcome(number, work, line) as outcome:
                found = len(outcome) if isinstance(outcome, Mapping) else 1
                with self._console.page():
                    sys.stdout.write(f"{title} {work.count.format(found)}:\n")
                    work.show(outcome)
        except OutputLost as lost:
            self._lost = lost
            if (left := way_out_of(lost)) and not lost.enough:
                self._console.remark(f"{title} {left}")
        except BaseException as error:  # noqa: BLE001  whatever the user's code raises: others go on
            self._failed[number] = error
            if not self._stopped.is_set():
                with self._console.page():
                    sys.stdout.write(f"{title} failed:\n")
                    show_error(error, sys.stderr)
        finally:
            self._room.release()

    @contextlib.contextmanager
    def _outcome(self, number: int, work: Work, line: str) -> Iterator[Any]:
        """What comes of the line. Its job is deleted afterwards."""
        source = work.source(line) if line else itertools.count()
        label = {"name": work.name, **work.options, "txn": f"{self._label}-{number}"}
        results = self._run(source, {**work.functions, **label})
        finishfn, private = work.functions.get("finishfn"), is_private(self._client)
        with showing(results, finishfn, private=private) as outcome:
            yield outcome

    def _run(self, source: Any, options: Mapping[str, Any]) -> Any:
        """The results, as of ``Client.run``; a job that fails or is stopped is gone afterwards."""
        job = ""

        def look(progress: Progress) -> None:
            nonlocal job
            job = progress.job_id
            if self._stopped.is_set():
                raise Stopped
            self._explain(progress.waiting)

        try:
            return self._client.run(source, progress=look, finish=False, **options)
        except Exception as error:
            if job and not isinstance(error, StoreError):
                with contextlib.suppress(RedismrError):
                    self._client.attach(job).delete()
            raise

    def _explain(self, why: str) -> None:
        """Say what is waited for: each reason once, however many wait for it."""
        with self._telling:
            if not why or why == self._told:
                return
            self._told = why
        self._console.remark(f"waiting: {why}")
