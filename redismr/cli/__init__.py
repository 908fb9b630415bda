"""The command line: parse, call, print, exit. No logic, and the only room that imports click.

``redismr --help`` imports click but no subcommand, and a subcommand imports its own module only:
see ``SUBCOMMANDS``. Exit codes are in ``exit_codes``.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any, cast

import click

import redismr
from redismr import ctrl_c, native, standard_streams
from redismr.cli import exit_codes
from redismr.ui.error_screens import print_message
from redismr.user_warnings import Advice

SUBCOMMANDS = {  # in the order of --help: the module of this room, the line of help
    "run": ("cmd_run", "Run a job file here and print its result."),
    "submit": ("cmd_run", "Hand a job file to a server and print the job's id."),
    "jobs": ("cmd_jobs", "List the jobs on the server."),
    "watch": ("cmd_jobs", "Show a job's progress until it ends."),
    "result": ("cmd_jobs", "Print a job's result."),
    "errors": ("cmd_jobs", "Show what failed in a job, or was skipped."),
    "listen": ("cmd_jobs", "Print events as JSON lines while they happen."),
    "cancel": ("cmd_jobs", "Stop jobs."),
    "delete": ("cmd_jobs", "Delete jobs and all their data."),
    "up": ("cmd_up", "Start a server and local workers that others may join."),
    "worker": ("cmd_workers", "Work for a server, on as many cores as there are."),
    "workers": ("cmd_workers", "List the workers on the server."),
    "repl": ("cmd_repl", "Count words, or run a job file, on the files that you type in."),
    "secret": ("cmd_secret", "Print a new secret."),
    "acl": ("cmd_acl", "Print the rights that a user of the server needs."),
    "mincemeat": ("cmd_ancestors", "Work for a script written for mincemeat.py."),
    "octo": ("cmd_ancestors", "Serve a job file, or work for one, as octo.py did."),
}


class LazyGroup(click.Group):
    """A click group that imports the module of a subcommand only when the subcommand is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the table."""
        return list(SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of the subcommand, and return its click command."""
        if cmd_name not in SUBCOMMANDS:
            return None
        module = importlib.import_module(f"redismr.cli.{SUBCOMMANDS[cmd_name][0]}")
        ctrl_c.raise_on_ctrl_c()
        return cast("click.Command", getattr(module, cmd_name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table itself, so that ``--help`` imports no subcommand."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in SUBCOMMANDS.items()])

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """Parse the arguments as click does, but exit with our code if output is lost.

        click alone exits with 1 when the reader of --help or --version has closed the pipe.
        """
        try:
            return super().make_context(*args, **more)
        except standard_streams.OutputLost as lost:
            raise click.exceptions.Exit(exit_codes.report_lost_output(lost)) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand, and turn every exception into a line on stderr and an exit code.

        This is not done around ``main``, because click takes a user's EOFError for a Ctrl-C.
        """
        with exit_codes.exit_on_error(ctx):
            code = super().invoke(ctx)
            if code == exit_codes.CANCELLED:  # the subcommand has handled the interrupt itself
                ctrl_c.print_interrupted()
            sys.stdout.flush()  # an error of writing is raised here, not at the interpreter's exit
            ctx.exit(code or exit_codes.SUCCESS)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Set REDISMR_URL and REDISMR_SECRET to use a server that is already there; "
    "`redismr run` needs none.",
)
@click.version_option(
    redismr.__version__,
    prog_name="redismr",
    message=f"%(prog)s %(version)s ({native.DESCRIPTION})",
)
def cli() -> None:
    """MapReduce for Python, on this machine alone or on many that share a Redis."""


def _print_user_warnings() -> None:
    """Print warnings without a line of source: they are about a job file, so it would mislead."""
    python_showwarning = warnings.showwarning

    def print_warning(message: Warning | str, category: type[Warning], *location: Any) -> None:
        if issubclass(category, Advice):
            print_message(str(message), sys.stderr)
        else:
            python_showwarning(message, category, *location)

    warnings.showwarning = print_warning  # type: ignore[assignment]


def main() -> None:
    """Run the ``redismr`` command, and exit."""
    ctrl_c.exit_on_ctrl_c()
    standard_streams.use_safe_streams(strict=True)
    _print_user_warnings()
    try:
        cli(prog_name="redismr")
    finally:
        ctrl_c.exit_again_on_ctrl_c()
