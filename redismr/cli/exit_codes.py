"""Exit codes, and the one place that turns an error of a subcommand into an exit code."""

import contextlib
import errno
import sys
from collections.abc import Iterator

import click

from redismr import ctrl_c, errors
from redismr.core.failure_capture import is_debugger_exit
from redismr.standard_streams import OutputLost
from redismr.ui.error_screens import print_error, print_message, recovery_hint_of

SUCCESS = 0
FAILED = 1
USAGE = 2
UNAVAILABLE = 3
OUTPUT_NOT_WRITTEN = 4
CANCELLED = ctrl_c.EXIT_CODE

_EXIT_CODES = {
    # The first match counts: a TaskError or SourceRaised also has the class that user code raised.
    FAILED: (errors.TaskError, errors.SourceRaised, errors.BadInput),
    CANCELLED: (errors.JobCancelled,),
    UNAVAILABLE: (errors.NoWorkers, errors.JobTimeout, errors.StoreError),
    USAGE: (errors.JobNotFound, errors.ConfigError, errors.SourceError, errors.WrongSecret),
}


def exit_code_for(error: BaseException) -> int:
    """Return the exit code for this kind of error."""
    return next((code for code, kinds in _EXIT_CODES.items() if isinstance(error, kinds)), FAILED)


@contextlib.contextmanager
def exit_on_error(ctx: click.Context) -> Iterator[None]:
    """Print any exception of the body for the user, and exit with the code of the exception."""
    try:
        yield
    except (click.exceptions.Exit, click.Abort):
        raise
    except click.UsageError as error:
        command_path = error.ctx.command_path if error.ctx else ctx.command_path
        # The message of click may have several lines.
        message = " ".join(error.format_message().split()).removesuffix(".")
        print_message(f"{message} (see `{command_path} --help`)", sys.stderr)
        ctx.exit(USAGE)
    except KeyboardInterrupt as interrupt:
        ctrl_c.print_interrupted(recovery_hint_of(interrupt))
        ctrl_c.exit_again_on_ctrl_c()
        ctx.exit(CANCELLED)
    except OutputLost as lost:
        ctx.exit(report_lost_output(lost))
    except BaseException as error:  # user code may raise anything
        recovery_hint = recovery_hint_of(error)
        if is_debugger_exit(error):
            message = "stopped in the debugger"
            print_message(f"{message}; {recovery_hint}" if recovery_hint else message, sys.stderr)
            ctx.exit(CANCELLED)
        if isinstance(error, SystemExit):  # of the user's final, with a code of its own
            if recovery_hint:
                print_message(recovery_hint, sys.stderr)
            raise
        with contextlib.suppress(OutputLost):  # output from before the error goes before it
            sys.stdout.flush()
        print_error(error, sys.stderr)
        ctx.exit(exit_code_for(error))


def report_lost_output(lost: OutputLost) -> int:
    """Print that output was lost and where the result is; return the exit code.

    A closed pipe is no error if the reader took some output, or if there was no result to read. On
    a terminal, the user is still told where the result was kept.
    """
    if isinstance(lost.__cause__, OutputLost):  # a function of an inline job printed
        lost = lost.__cause__
    recovery_hint = recovery_hint_of(lost)
    if lost.reader_has_left or (lost.errno == errno.EPIPE and not recovery_hint):
        if recovery_hint and sys.stderr.isatty():
            print_message(recovery_hint, sys.stderr)
        return SUCCESS
    reason = f"cannot write to standard output: {lost.strerror}"
    print_message(f"{reason}; {recovery_hint}" if recovery_hint else reason, sys.stderr)
    return OUTPUT_NOT_WRITTEN
