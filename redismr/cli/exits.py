"""Exit codes, and how every error of a verb becomes one."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

import click

from redismr import errors
from redismr.ui.errors import say, show

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE = 0
FAILED = 1
USAGE = 2
NO_SERVER = 3
CANCELLED = 130

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    # The first that fits. The first two are also of the class that the user's code raised.
    (errors.TaskError, FAILED),
    (errors.SourceRaised, FAILED),
    (errors.JobCancelled, CANCELLED),
    (errors.NoWorkers, NO_SERVER),
    (errors.JobTimeout, NO_SERVER),
    (errors.JobNotFound, USAGE),
    (errors.StoreError, NO_SERVER),
    (errors.ConfigError, USAGE),
    (errors.SourceError, USAGE),
    (errors.WrongSecret, USAGE),
)


def code_of(error: BaseException) -> int:
    """The exit code that says what kind of error this is."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


@contextlib.contextmanager
def reported(ctx: click.Context) -> Iterator[None]:
    """Print what the body raises as a person should see it, and exit with its code."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort):
        raise
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else ctx.command_path
        say(f"{error.format_message()} (see `{where} --help`)", sys.stderr)
        ctx.exit(USAGE)
    except KeyboardInterrupt:
        # The terminal has echoed ^C: leave that line.
        if sys.stderr.isatty():
            sys.stderr.write("\n")
            say("interrupted", sys.stderr)
        ctx.exit(CANCELLED)
    except Exception as error:  # noqa: BLE001 - whatever it is, a person has to read it
        if isinstance(error, BrokenPipeError) and not isinstance(error, errors.RedismrError):
            _let_go_of_stdout()
            ctx.exit(DONE)
        _flush_stdout()
        show(error, sys.stderr)
        ctx.exit(code_of(error))


def _flush_stdout() -> None:
    """What was printed before an error comes before it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _let_go_of_stdout()


def _let_go_of_stdout() -> None:
    """Nobody reads any more: keep Python from complaining about it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
