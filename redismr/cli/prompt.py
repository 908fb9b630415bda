"""Lines that somebody types, and a screen on which others print meanwhile."""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import sys
import threading
from typing import TYPE_CHECKING

import click

from redismr.errors import SourceError
from redismr.sources.globs import matches
from redismr.ui.errors import say

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PROMPT = "GLOB> "
HISTORY = "~/.redismr_history"

HEED_SECONDS = 0.5
"""No wait is longer at a time: a Ctrl-C that arrives just before one begins is heeded after it."""


class Console:
    """Lines from a terminal, with a prompt and history, or from a file or pipe without.

    ``typed`` tells which.
    """

    def __init__(self) -> None:
        self.typed = sys.stdin.isatty()
        self._lock = threading.RLock()
        self._readline: ModuleType | None = None
        self._asking = False

    def lines(self) -> Iterator[str]:
        """Each line of the input, until its end."""
        if not self.typed:
            yield from _piped()
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
                sys.stdout.flush()  # what follows may go to stderr
            try:
                yield
            finally:
                if asking:
                    typed = self._readline.get_line_buffer() if self._readline else ""
                    sys.stdout.write(PROMPT + typed)
                sys.stdout.flush()

    def remark(self, text: str) -> None:
        """Say something on stderr, on a page of its own."""
        with self.page():
            say(text, sys.stderr)

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


def _piped() -> Iterator[str]:
    """Each line of a standard input that is no terminal."""
    stdin, read, rest = sys.stdin, b"\n", b""
    while read:
        while not select.select([stdin], [], [], HEED_SECONDS)[0]:
            pass
        read = os.read(stdin.fileno(), 1 << 16)
        *lines, rest = (rest + read).split(b"\n")
        if rest and not read:
            lines = [rest]  # the last line may have no end
        for line in lines:
            yield line.decode(stdin.encoding, stdin.errors or "strict")


def names_in(line: str) -> list[str]:
    """The names and globs of a line, as in a shell, or the one that it is, spaces and all.

    Raises:
        SourceError: some of them match nothing, which are named; or there are none.
    """
    if matches(line):
        return [os.path.expanduser(line)]
    try:
        names = [os.path.expanduser(word) for word in shlex.split(line)]
    except ValueError as error:  # of a quote
        raise SourceError(f"cannot tell the names in {line!r} apart: {error}") from None
    if unknown := [name for name in names if not matches(name)]:
        raise SourceError(f"nothing matches {', '.join(map(repr, unknown))} in {os.getcwd()}")
    if not names:
        raise SourceError("no file is named")
    return names
