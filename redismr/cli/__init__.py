"""The command line: parse, call, print, exit. No logic, and the only room that knows click.

``redismr --help`` and the start of any verb import click and one small module, nothing else: see
``VERBS``. Exit codes are in ``exits``.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any, cast

import click

import redismr
from redismr import interrupts, streams
from redismr.advice import Advice
from redismr.cli import exits
from redismr.ui.errors import say

VERBS = {
    # verb: (module of this room, what --help says in one line); in the order of --help
    "run": ("run", "Run a job file here and print its result."),
    "submit": ("run", "Hand a job file to a server and print the job's id."),
    "jobs": ("jobs", "List the jobs on the server."),
    "watch": ("jobs", "Show a job's progress until it ends."),
    "result": ("jobs", "Print a job's result."),
    "errors": ("jobs", "Show what failed in a job, or was skipped."),
    "listen": ("listen", "Print events as JSON lines while they happen."),
    "cancel": ("jobs", "Stop jobs."),
    "delete": ("jobs", "Delete jobs and all their data."),
    "up": ("up", "Start a server and local workers that others may join."),
    "worker": ("workers", "Work for a server, on as many cores as there are."),
    "workers": ("workers", "List the workers on the server."),
    "repl": ("repl", "Count words, or run a job file, on the files that you type in."),
    "secret": ("misc", "Print a new secret."),
    "acl": ("acl", "Print the rights that a user of the server needs."),
    "mincemeat": ("ancestors", "Work for a script written for mincemeat.py."),
    "octo": ("ancestors", "Serve a job file, or work for one, as octo.py did."),
}


class Verbs(click.Group):
    """A group that imports a verb's module when the verb is called, and knows our exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of the table."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb, freshly imported."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"redismr.cli.{VERBS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        interrupts.raised()
        return cast("click.Command", command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table itself, so that --help imports no verb."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, help_line) for verb, (_, help_line) in VERBS.items()])

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        """As click, which would end with 1 where the reader of --help or --version has left."""
        try:
            return super().make_context(*args, **more)
        except streams.OutputLost as lost:
            raise click.exceptions.Exit(exits.without_output(lost)) from None

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; whatever it raises becomes a line on stderr and an exit code.

        Here and not around ``main``, where click would take a user's EOFError for a Ctrl-C.
        """
        with exits.reported(ctx):
            code = super().invoke(ctx)
            if code == exits.CANCELLED:  # the verb has met the interrupt itself
                interrupts.tell()
            sys.stdout.flush()  # so that output that is lost is met here and not at exit
            ctx.exit(code or exits.DONE)


def _print_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value:
        click.echo(f"redismr {redismr.__version__}")
        ctx.exit()


@click.command(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Set REDISMR_URL and REDISMR_SECRET to use a server that is already there; "
    "`redismr run` needs none.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """MapReduce for Python, on this machine alone or on many that share a Redis."""


def _show_advice() -> None:
    """What we warn of is about a job file, and no line of a program: a line like all others."""
    shown = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, Advice):
            say(str(message), sys.stderr)
        else:
            shown(message, category, *where)

    warnings.showwarning = show  # type: ignore[assignment]


def main() -> None:
    """The ``redismr`` command."""
    interrupts.of_command()
    streams.of_command()
    _show_advice()
    try:
        cli(prog_name="redismr")
    finally:
        interrupts.over()
