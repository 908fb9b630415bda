"""Read lines that a user types, on a terminal where threads print at the same time."""

import contextlib
import os
import select
import shlex
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

import click

from redismr.errors import SourceError
from redismr.sources.glob_matches import match_glob
from redismr.ui.error_screens import print_message

PROMPT = "GLOB> "
HISTORY_FILE = "~/.redismr_history"
MAX_WAIT_SECONDS = 0.5  # a Ctrl-C that arrives just before a wait is handled after the wait


class ReplConsole:
    """Reads lines: from a terminal with a prompt and history, or from a file or pipe."""

    def __init__(self) -> None:
        self.is_terminal = sys.stdin.isatty()
        self._lock = threading.RLock()
        self._readline: ModuleType | None = None
        self._prompt_is_shown = False

    def lines(self) -> Iterator[str]:
        """Yield each line of the input."""
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
        """Let the body print without interruption; on a terminal, print the prompt again below."""
        with self._lock:
            prompt_is_shown = self._prompt_is_shown
            if prompt_is_shown:
                sys.stdout.write("\r\x1b[K")
                sys.stdout.flush()  # the body may print to stderr
            try:
                yield
            finally:
                if prompt_is_shown:
                    unfinished_line = self._readline.get_line_buffer() if self._readline else ""
                    sys.stdout.write(PROMPT + unfinished_line)
                sys.stdout.flush()

    def print_note(self, text: str) -> None:
        """Print a message on stderr, above the prompt."""
        with self.above_prompt():
            print_message(text, sys.stderr)

    @contextlib.contextmanager
    def _readline_history(self) -> Iterator[None]:
        """Load the history of earlier sessions, and save it after the body, if readline exists."""
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
    stdin, data, rest = sys.stdin, b"\n", b""
    while data:
        while not select.select([stdin], [], [], MAX_WAIT_SECONDS)[0]:
            pass
        data = os.read(stdin.fileno(), 1 << 16)
        *lines, rest = (rest + data).split(b"\n")
        if rest and not data:
            lines = [rest]  # a last line without a line end
        for line in lines:
            yield line.decode(stdin.encoding, stdin.errors or "strict")


def parse_file_names(line: str) -> list[str]:
    """Split a line into names and globs, as a shell does.

    A line that as a whole is the name of a file or a matching glob is one name, with its spaces.
    """
    if match_glob(line):
        return [os.path.expanduser(line)]
    try:
        names = [os.path.expanduser(word) for word in shlex.split(line)]
    except ValueError as error:  # a quote is not closed
        raise SourceError(f"cannot tell the names in {line!r} apart: {error}") from None
    if unmatched := [name for name in names if not match_glob(name)]:
        raise SourceError(f"nothing matches {', '.join(map(repr, unmatched))} in {os.getcwd()}")
    if not names:
        raise SourceError("no file is named")
    return names
