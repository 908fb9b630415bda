"""``redismr run`` and ``redismr submit``: job files."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click

import redismr
from redismr import settings
from redismr.cli import jobfile
from redismr.cli.common import (
    client_of,
    connection,
    json_option,
    print_outcome,
    server_options,
    top_option,
)
from redismr.client.embedded import foresee
from redismr.client.results import closed_after
from redismr.core.model import Skipped
from redismr.errors import BadKey, ConfigError
from redismr.ui.errors import say, skipped_lines
from redismr.ui.progress import reporter, summary_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from redismr.cli.jobfile import JobFile
    from redismr.client import Client
    from redismr.ui.progress import Reporter

Command = TypeVar("Command", bound="Callable[..., Any]")
_KINDS = {
    "lines": "one record a line",
    "text": "records of many lines, cut at line ends",
    "jsonl": "a JSON value a line",
    "csv": "rows of CSV",
}


def _params(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    """-P key=value, the value as JSON if it is JSON."""
    params: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise click.BadParameter(f"{text!r} is not key=value", ctx, option)
        try:
            params[key] = json.loads(value)
        except ValueError:
            params[key] = value
    return params


def _on_error(_ctx: click.Context, _option: click.Parameter, given: str | None) -> Any:
    """A number, if it is one; words are checked with the other options."""
    for kind in (int, float):
        with suppress(TypeError, ValueError):
            return kind(given)  # type: ignore[arg-type]
    return given


_KIND_OPTIONS = tuple(
    click.option(f"--{kind}", "kind", flag_value=kind, help=f"Read the input as {what}.")
    for kind, what in _KINDS.items()
)
_SHARED = (
    click.argument("file", metavar="FILE"),
    click.argument("inputs", nargs=-1, metavar="[INPUT]..."),
    *_KIND_OPTIONS,
    click.option(
        "-P", "params", multiple=True, callback=_params, metavar="KEY=VALUE",
        help="A parameter for redismr.param(); JSON if it is JSON.",
    ),
    click.option("--name", help="A name for people, shown in listings."),
    click.option("--txn", help="Your label for the job; its events are told under it."),
    click.option("--partitions", type=int, metavar="N", help="Reduce tasks. [by the data's size]"),
    click.option(
        "--on-error", callback=_on_error, metavar="skip|N|FRACTION",
        help="Skip records that fail: all, at most N, or a fraction (0.01). [fail]",
    ),
    click.option("--retries", type=int, metavar="N", help="Further tries of a task. [3]"),
    click.option(
        "--timeout", "task_timeout", type=float, metavar="SECONDS",
        help="Stop a try of a task that runs longer.",
    ),
    click.option(
        "--no-backup", "backup", is_flag=True, flag_value=False, default=None,
        help="Never run a slow task a second time beside the first.",
    ),
    click.option(
        "--each-worker", is_flag=True, default=None,
        help="Give each worker one item of the source, instead of sharing it out.",
    ),
    click.option("--priority", type=int, metavar="N", help="Higher goes first. [0]"),
    click.option("--ttl", type=float, metavar="SECONDS", help="Life of all its data. [86400]"),
    click.option("--sort", is_flag=True, default=None, help="Have the result in order of keys."),
)  # fmt: skip


def kind_options(command: Command) -> Command:
    """--lines and its like."""
    for add in reversed(_KIND_OPTIONS):
        command = add(command)
    return command


def _job_options(command: Command) -> Command:
    """What run and submit have in common; all but the first few are fields of JobOptions."""
    for add in reversed(_SHARED):
        command = add(command)
    return server_options(command)


@click.command()
@_job_options
@click.option("-n", "--executors", type=click.IntRange(min=1), metavar="N",
              help="Local processes, where no server is named. [one a core]")  # fmt: skip
@click.option("--wait", "wait_for_workers", type=float, metavar="SECONDS",
              help="Give up when no worker has come by then.")  # fmt: skip
@click.option("--inline", is_flag=True, help="Run in this process, without Redis: pdb works.")
@top_option
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print the result only.")
def run(  # noqa: PLR0913 - one for each option
    *, file: str, inputs: tuple[str, ...], kind: str | None, params: dict[str, Any],
    url: str | None, namespace: str | None, executors: int | None,
    inline: bool, top: int | None, as_json: bool, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Run a job file and print its result, as `key<TAB>value` lines.

    FILE is a Python file with mapfn, and maybe reducefn (a function, or a name such as "sum"),
    source, combinefn, partitionfn, initfn, finishfn(results), final(key, value), params, options.
    INPUT are files or globs to read instead of its source.

    \b
      redismr run wc.py books/*.txt
      redismr run wc.py --lines 'logs/*.gz' --top 10
      redismr run wc.py -P stopwords='["a", "the"]' --json | jq .
    """  # noqa: D301  click wants the control character
    job = jobfile.load(file)
    if top and (job.final or job.functions["finishfn"]):
        raise ConfigError("--top prints results, and final or finishfn in the job file does so too")
    source = jobfile.source_of(job, inputs, kind)
    if not quiet and not inline and (passed_over := settings.note(url)):
        say(passed_over, sys.stderr)
    with (
        _client(url, namespace, executors, inline=inline) as client,
        _reporter(quiet=quiet) as draw,
    ):
        outcome = redismr.run(
            source,
            **job.functions,
            client=client,
            inline=inline,
            progress=draw or False,
            params={**job.params, **params},
            **_merged(job, options),
        )
        # Closing the results deletes the job, also when their reader has left.
        with closed_after(outcome):
            show(job, outcome, top=top, as_json=as_json)
    _summarise(draw, outcome)
    if not quiet:
        _tell_skipped(draw, outcome)


def show(job: JobFile, outcome: Any, *, top: int | None = None, as_json: bool = False) -> None:
    """Print the outcome, or let the file's final do so, in order of keys.

    Raises:
        BadKey: final, and the keys have no order.
    """
    if job.final is None:
        print_outcome(outcome, top=top, sort=False, as_json=as_json)
        return
    try:
        pairs = outcome.sorted()
    except BadKey as error:
        why = error.__cause__
        raise BadKey(
            f"final needs keys that can be ordered: {why}. finishfn(results) needs no order"
        ) from why
    for key, value in pairs:
        job.final(key, value)


@click.command()
@_job_options
@click.option("-q", "--quiet", is_flag=True, help="Print the id only.")
def submit(
    *, file: str, inputs: tuple[str, ...], kind: str | None, params: dict[str, Any],
    url: str | None, namespace: str | None, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Hand a job file to a server, print the job's id, and leave.

    FILE and INPUT are as for `redismr run`. Once the id is printed nothing is needed of this
    machine any more; so resultfn and final are not run. finishfn is, by `redismr result`.
    """
    server = connection(url, namespace, "a job that goes on without you")
    job = jobfile.load(file)
    source = jobfile.source_of(job, inputs, kind)
    with client_of(server) as client:
        submitted = client.submit(
            source,
            **{**job.functions, "resultfn": None},
            params={**job.params, **params},
            **_merged(job, options),
        )
        click.echo(submitted.id)
    if quiet:
        return
    if job.functions["resultfn"] or job.final:
        say(f"resultfn and final of {file} are for `redismr run`: not used", sys.stderr)
    if sys.stderr.isatty():
        click.echo(f"redismr watch {submitted.id}", err=True)
        click.echo(f"redismr result {submitted.id} --wait", err=True)


def _merged(job: JobFile, options: Mapping[str, Any]) -> dict[str, Any]:
    """The file's options, and over them what was given on the command line."""
    return {**job.options, **{name: value for name, value in options.items() if value is not None}}


@contextmanager
def _client(
    url: str | None, namespace: str | None, executors: int | None, *, inline: bool
) -> Iterator[Client | None]:
    if inline:
        yield None
    else:
        foresee(url, namespace, executors)
        with redismr.Client(url, namespace=namespace, executors=executors) as client:
            yield client


@contextmanager
def _reporter(*, quiet: bool) -> Iterator[Reporter | None]:
    if quiet:
        yield None
    else:
        with reporter(sys.stderr, summary=False, announce=True) as draw:
            yield draw


def _summarise(draw: Reporter | None, outcome: Any) -> None:
    if draw is not None and draw.last is not None:
        name = "" if sys.stderr.isatty() else "redismr: "  # others write into a pipe as well
        line = summary_line(draw.last, getattr(outcome, "counters", None))
        click.echo(name + line, err=True)


def _tell_skipped(draw: Reporter | None, outcome: Any) -> None:
    """What was left out, and where: the job is deleted by now, and with it the whole list."""
    last = draw.last if draw is not None else None
    skipped = last.skipped if last else getattr(outcome, "skipped", None)
    if isinstance(skipped, Skipped) and skipped.total:
        say(
            skipped_lines(skipped, "; after `redismr submit`, `redismr errors` lists all"),
            sys.stderr,
        )
