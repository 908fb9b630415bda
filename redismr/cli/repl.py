"""``redismr repl``: a prompt whose lines are jobs, many of them at once."""

from __future__ import annotations

import contextlib
import glob
import itertools
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import redismr
from redismr import settings
from redismr.cli import exits, jobfile
from redismr.cli.common import server_options
from redismr.cli.prompt import HEED_SECONDS, Console
from redismr.cli.run import kind_options, show
from redismr.client.results import closed_after
from redismr.compat.words import statistics, table, word_count
from redismr.core.words import plural
from redismr.errors import RedismrError, StoreError
from redismr.streams import OutputLost
from redismr.ui.errors import say
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
@click.option("-n", "--executors", type=click.IntRange(min=1), metavar="N",
              help="Local processes, where no server is named. [one a core]")  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), metavar="N",
              help="How many keys to show. [100; with FILE all]")  # fmt: skip
@kind_options
@server_options
def repl(
    *, file: str | None, executors: int | None, top: int | None, kind: str | None,
    url: str | None, namespace: str | None,
) -> int:  # fmt: skip
    """Count the words of the files that you name, line by line, on the running workers.

    A line is a glob; with @ before it the workers read the files themselves. An empty line asks
    every worker for its statistics. The prompt is back at once, for up to 16 lines: outcomes are
    printed when they are there, by the number of their transaction. The end of the input waits for
    all of them; Ctrl-C stops them.

    With FILE, its functions are run instead, as by `redismr run FILE`, on what the lines name.
    """
    work = _work(file, kind, top) if file else word_counter(top or 100)
    if note := settings.note(url):
        say(note, sys.stderr)
    console = Console()
    with redismr.Client(url, namespace=namespace, executors=executors) as client:
        session = Repl(client, work, console)
        try:
            for line in console.lines():
                session.line(line)
            session.drain()
            session.check()
        except KeyboardInterrupt:
            session.cancel()
            raise
    return exits.DONE


@dataclass(frozen=True)
class Work:
    """What is done with the files that a line names.

    ``kind`` is how they are read: files, text, lines, jsonl or csv. ``show`` prints an outcome
    under its heading; ``count`` says in that how much there is.
    """

    name: str
    functions: Mapping[str, Any]
    show: Callable[[Any], object]
    count: str = "{}"
    kind: str = "files"
    options: Mapping[str, Any] = field(default_factory=dict)

    def source(self, line: str) -> Any:
        """The files, if there are any; whole ones are read here, unless the line begins with @."""
        pattern = os.path.expanduser(line.removeprefix("@"))
        if not glob.glob(pattern, recursive=True) and not os.path.exists(pattern):
            return None
        if self.kind != "files":
            return getattr(redismr, self.kind)(pattern)
        return redismr.files(pattern, ship=not line.startswith("@"))


def word_counter(top: int = 100) -> Work:
    """Counts words, and shows a table of at least ``top`` of them, if there are so many."""
    return Work(
        "Word Count",
        {"mapfn": word_count, "reducefn": "sum"},
        lambda counts: sys.stdout.writelines(table(counts, top)),
        f"top {top} of {{}}",
    )


def _work(file: str, kind: str | None, top: int | None) -> Work:
    job = jobfile.load(file)
    return Work(
        job.options.get("name") or Path(file).stem,
        {**job.functions, "resultfn": None, "params": job.params},
        partial(show, job, top=top),
        kind=kind or "files",
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

    def check(self) -> None:
        """Raise if an outcome could not be printed."""
        if self._lost:
            raise self._lost

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
                    sys.stdout.write(f"{title} {work.count.format(plural(found, 'result'))}:\n")
                    work.show(outcome)
        except OutputLost as lost:
            self._lost = lost
        except Exception as error:  # noqa: BLE001  whatever the user's code raises: others go on
            if not self._stopped.is_set():
                with self._console.page():
                    sys.stdout.write(f"{title} failed:\n")
                    show_error(error, sys.stderr)
        finally:
            self._room.release()

    @contextlib.contextmanager
    def _outcome(self, number: int, work: Work, line: str) -> Iterator[Any]:
        """What comes of the line; nothing if it names no file. Its job is deleted afterwards."""
        source = work.source(line) if line else itertools.count()
        if source is None:
            yield {}
            return
        label = {"name": work.name, **work.options, "txn": f"{self._label}-{number}"}
        with closed_after(self._run(source, {**work.functions, **label})) as outcome:
            yield outcome

    def _run(self, source: Any, options: Mapping[str, Any]) -> Any:
        """As ``Client.run``; also a job that fails or is stopped is gone afterwards."""
        job = ""

        def look(progress: Progress) -> None:
            nonlocal job
            job = progress.job_id
            if self._stopped.is_set():
                raise Stopped
            self._explain(progress.waiting)

        try:
            return self._client.run(source, progress=look, **options)
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
