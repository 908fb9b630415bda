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
from redismr.sources.glob_matches import match_glob
from redismr.ui.error_screens import print_message

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PROMPT = "GLOB> "
HISTORY_FILE = "~/.redismr_history"

MAX_WAIT_SECONDS = 0.5
"""No wait is longer at a time: a Ctrl-C that arrives just before one begins is heeded after it."""


class ReplConsole:
    """Lines from a terminal, with a prompt and history, or from a file or pipe without.

    ``is_terminal`` tells which.
    """

    def __init__(self) -> None:
        self.is_terminal = sys.stdin.isatty()
        self._lock = threading.RLock()
        self._readline: ModuleType | None = None
        self._prompt_is_shown = False

    def lines(self) -> Iterator[str]:
        """Each line of the input, until its end."""
        if not self.is_terminal:
            yield from _lines_from_pipe()
            return
        with self._readline_history():
            click.echo("Which files?  eg. '*.txt<enter>'")
            while True:
                self._prompt_is_shown = True
                try:
                    line = input(PROMPT)
                except EOFError:
                    click.echo()
                    return
                finally:
                    self._prompt_is_shown = False
                yield line

    @contextlib.contextmanager
    def above_prompt(self) -> Iterator[None]:
        """Print something whole; on a terminal above the prompt, which is shown once more."""
        with self._lock:
            prompt_is_shown = self._prompt_is_shown
            if prompt_is_shown:
                sys.stdout.write("\r\x1b[K")
                sys.stdout.flush()  # what follows may go to stderr
            try:
                yield
            finally:
                if prompt_is_shown:
                    unfinished_line = self._readline.get_line_buffer() if self._readline else ""
                    sys.stdout.write(PROMPT + unfinished_line)
                sys.stdout.flush()

    def print_note(self, text: str) -> None:
        """Say something on stderr, on a page of its own."""
        with self.above_prompt():
            print_message(text, sys.stderr)

    @contextlib.contextmanager
    def _readline_history(self) -> Iterator[None]:
        """Lines of this session and of those before it, if there is a readline."""
        path = os.path.expanduser(HISTORY_FILE)
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


def _lines_from_pipe() -> Iterator[str]:
    """Each line of a standard input that is no terminal."""
    stdin, data, rest = sys.stdin, b"\n", b""
    while data:
        while not select.select([stdin], [], [], MAX_WAIT_SECONDS)[0]:
            pass
        data = os.read(stdin.fileno(), 1 << 16)
        *lines, rest = (rest + data).split(b"\n")
        if rest and not data:
            lines = [rest]  # the last line may have no end
        for line in lines:
            yield line.decode(stdin.encoding, stdin.errors or "strict")


def parse_file_names(line: str) -> list[str]:
    """The names and globs of a line, as in a shell, or the one that it is, spaces and all.

    Raises:
        SourceError: some of them match nothing, which are named; or there are none.
    """
    if match_glob(line):
        return [os.path.expanduser(line)]
    try:
        names = [os.path.expanduser(word) for word in shlex.split(line)]
    except ValueError as error:  # of a quote
        raise SourceError(f"cannot tell the names in {line!r} apart: {error}") from None
    if unmatched := [name for name in names if not match_glob(name)]:
        raise SourceError(f"nothing matches {', '.join(map(repr, unmatched))} in {os.getcwd()}")
    if not names:
        raise SourceError("no file is named")
    return names
