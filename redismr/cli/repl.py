"""``redismr repl``: a prompt whose lines are jobs."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

import redismr
from redismr import settings
from redismr.cli import exits, jobfile
from redismr.cli.common import server_options
from redismr.cli.run import kind_options, show
from redismr.compat.repl import Repl, Work, word_counter
from redismr.ui.errors import say
from redismr.ui.errors import show as show_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PROMPT = "GLOB> "
HISTORY = "~/.redismr_history"


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
    every worker for its statistics. The prompt is back at once: outcomes are printed when they are
    there, by the number of their transaction. The end of the input waits for all of them; Ctrl-C
    stops them.

    With FILE, its functions are run instead, as by `redismr run FILE`, on what the lines name.
    """
    work = _work(file, kind, top) if file else word_counter(top or 100)
    if note := settings.note(url):
        say(note, sys.stderr)
    console = Console()
    with redismr.Client(url, namespace=namespace, executors=executors) as client:
        session = Repl(client, work, console.page, partial(show_error, stream=sys.stderr))
        try:
            for line in console.lines():
                session.line(line)
            session.drain()
        except KeyboardInterrupt:
            session.cancel()
            raise
    return exits.DONE


def _work(file: str, kind: str | None, top: int | None) -> Work:
    job = jobfile.load(file)
    return Work(
        job.options.get("name") or Path(file).stem,
        {**job.functions, "resultfn": None, "params": job.params},
        partial(show, job, top=top),
        kind=kind or "files",
        options=job.options,
    )


class Console:
    """Lines from a terminal, with a prompt and history, or from a file or pipe without."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readline: ModuleType | None = None
        self._asking = False

    def lines(self) -> Iterator[str]:
        """Each line of the input, until its end."""
        if not sys.stdin.isatty():
            for line in sys.stdin:
                yield line.rstrip("\n")
            return
        with self._history():
            click.echo("Which files?  eg. '*.txt<enter>'")
            while True:
                self._asking = True
                try:
                    line = input(PROMPT)
                except EOFError:
                    click.echo()
                    return
                finally:
                    self._asking = False
                yield line

    @contextlib.contextmanager
    def page(self) -> Iterator[None]:
        """Print something whole; on a terminal above the prompt, which is shown once more."""
        with self._lock:
            asking = self._asking
            if asking:
                sys.stdout.write("\r\x1b[K")
            try:
                yield
            finally:
                if asking:
                    typed = self._readline.get_line_buffer() if self._readline else ""
                    sys.stdout.write(PROMPT + typed)
                sys.stdout.flush()

    @contextlib.contextmanager
    def _history(self) -> Iterator[None]:
        """Lines of this session and of those before it, if there is a readline."""
        path = os.path.expanduser(HISTORY)
        try:
            import readline
        except ImportError:
            yield
            return
        self._readline = readline
        with contextlib.suppress(OSError):
            readline.read_history_file(path)
        try:
            yield
        finally:
            readline.set_history_length(1000)
            with contextlib.suppress(OSError):
                readline.write_history_file(path)
