"""Exit codes, and how every error of a verb becomes one."""

from __future__ import annotations

import contextlib
import errno
import sys
from typing import TYPE_CHECKING

import click

from redismr import errors, interrupts
from redismr.core.trace import quits_debugger
from redismr.streams import OutputLost
from redismr.ui.errors import say, show, way_out_of

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE = 0
FAILED = 1
USAGE = 2
NO_SERVER = 3
UNWRITTEN = 4
CANCELLED = interrupts.CODE

_CODES: tuple[tuple[type[BaseException], int], ...] = (
    # The first that fits. The first two are also of the class that the user's code raised.
    (errors.TaskError, FAILED),
    (errors.SourceRaised, FAILED),
    (errors.BadInput, FAILED),
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
        said = " ".join(error.format_message().split()).removesuffix(".")  # click's may have lines
        say(f"{said} (see `{where} --help`)", sys.stderr)
        ctx.exit(USAGE)
    except KeyboardInterrupt as interrupt:
        interrupts.tell(way_out_of(interrupt))
        interrupts.over()
        ctx.exit(CANCELLED)
    except OutputLost as lost:
        ctx.exit(without_output(lost))
    except BaseException as error:  # whatever it is, a person has to read it
        if quits_debugger(error):
            left = way_out_of(error)
            say(f"stopped in the debugger{'; ' * bool(left)}{left}", sys.stderr)
            ctx.exit(CANCELLED)
        if isinstance(error, SystemExit):  # of the user's final, with a code of its own
            if left := way_out_of(error):
                say(left, sys.stderr)
            raise
        with contextlib.suppress(OutputLost):  # what was printed before an error comes before it
            sys.stdout.flush()
        show(error, sys.stderr)
        ctx.exit(code_of(error))


def without_output(lost: OutputLost) -> int:
    """Say that output was lost, and what is left of it; the exit code.

    A reader that has left is no error if it took some, or if there was no result to take; a person
    is told all the same that a result was kept.
    """
    if isinstance(lost.__cause__, OutputLost):  # met by a function of an inline job
        lost = lost.__cause__
    left, why = way_out_of(lost), f"cannot write to standard output: {lost.strerror}"
    if lost.enough or (lost.errno == errno.EPIPE and not left):
        if left and sys.stderr.isatty():
            say(left, sys.stderr)
        return DONE
    say(f"{why}; {left}" if left else why, sys.stderr)
    return UNWRITTEN
