"""``redismr run`` and ``redismr submit``: job files."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

import redismr
from redismr import settings
from redismr.cli import jobfile
from redismr.cli.common import (
    EXECUTORS,
    client_of,
    connection,
    job_field,
    json_option,
    print_outcome,
    refuse_together,
    refuse_two_orders,
    server_options,
    top_option,
    wait_for_server_option,
)
from redismr.cli.jobfile import Reading
from redismr.cli.kept import is_private, showing
from redismr.client.embedded import foresee
from redismr.core.model import Skipped
from redismr.errors import BadKey, ConfigError
from redismr.streams import OutputLost
from redismr.ui.errors import add_way_out, say, skipped_lines
from redismr.ui.progress import reporter, summary_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from redismr.cli.jobfile import JobFile
    from redismr.client import Client
    from redismr.ui.progress import Reporter

Command = TypeVar("Command", bound="Callable[..., Any]")
_KINDS = {
    "files": "one record a file",
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


def _kind(ctx: click.Context, option: click.Parameter, given: bool) -> None:  # noqa: FBT001
    """How the input is read: by one of --lines and its like, or as whole files."""
    before = ctx.params.setdefault("kind", None)
    if given:
        if before:
            raise click.UsageError(f"--{before} and {option.opts[0]}: give one of them", ctx)
        ctx.params["kind"] = option.name


_READING_OPTIONS = (
    *(
        click.option(
            f"--{kind}", is_flag=True, expose_value=False, callback=_kind,
            help=f"Read the input as {what}.",
        )
        for kind, what in _KINDS.items()
    ),
    click.option("--encoding", metavar="NAME", help="Encoding of the input's text. [utf-8]"),
    click.option(
        "--errors", metavar="HANDLER",
        help="For bytes that are no such text: strict, replace, ignore... [strict]",
    ),
)  # fmt: skip
_SHARED = (
    click.argument("file", metavar="FILE"),
    click.argument("inputs", nargs=-1, metavar="[INPUT]..."),
    *_READING_OPTIONS,
    click.option(
        "-P", "params", multiple=True, callback=_params, metavar="KEY=VALUE",
        help="A parameter for redismr.param(); JSON if it is JSON.",
    ),
    job_field("--name", help="A name for people, shown in listings."),
    job_field("--txn", help="Your label for the job; its events are told under it."),
    job_field("--partitions", type=int, metavar="N", help="Reduce tasks. [by the data's size]"),
    job_field(
        "--on-error", metavar="skip|N|FRACTION",
        help="Skip records that fail: all, at most N, or a fraction (0.01). [fail]",
    ),
    job_field("--retries", type=int, metavar="N", help="Further tries of a task. [3]"),
    job_field(
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
    job_field("--priority", type=int, metavar="N", help="Higher goes first. [0]"),
    job_field("--ttl", type=float, metavar="SECONDS", help="Life of all its data. [86400]"),
    click.option("--sort", is_flag=True, default=None, help="Have the result in order of keys."),
    wait_for_server_option,
)  # fmt: skip


def reading_options(command: Command) -> Command:
    """--lines and its like, --encoding and --errors."""
    for add in reversed(_READING_OPTIONS):
        command = add(command)
    return command


def _job_options(command: Command) -> Command:
    """What run and submit have in common; all but the first few are fields of JobOptions."""
    for add in reversed(_SHARED):
        command = add(command)
    return server_options(command)


@click.command()
@_job_options
@click.option("-n", "--executors", type=EXECUTORS, metavar="N",
              help="Local processes, where no server is named. [one a core]")  # fmt: skip
@job_field("--wait", "wait_for_workers", type=float, metavar="SECONDS",
              help="Give up when no worker has come by then.")  # fmt: skip
@click.option("--inline", is_flag=True, help="Run in this process, without Redis: pdb works.")
@top_option
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print the result only.")
def run(  # noqa: PLR0913 - one for each option
    *, file: str, inputs: tuple[str, ...], kind: str | None, encoding: str | None,
    errors: str | None, params: dict[str, Any],
    url: str | None, namespace: str | None, executors: int | None,
    inline: bool, top: int | None, as_json: bool, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Run a job file and print its result, as `key<TAB>value` lines.

    FILE is a Python file with mapfn, and maybe reducefn (a function, or a name such as "sum"),
    source, combinefn, partitionfn, initfn, finishfn(results), final(key, value), params, options.
    INPUT are files or globs to read instead of those of its source, in the same way: as lines,
    with its encoding, and so on.

    \b
      redismr run wc.py books/*.txt
      redismr run wc.py --lines 'logs/*.gz' --top 10
      redismr run wc.py -P stopwords='["a", "the"]' --json | jq .
    """  # noqa: D301  click wants the control character
    about_workers = {"--url": url, "--namespace": namespace, "-n": executors,
                     "--wait": options["wait_for_workers"],
                     "--wait-for-server": options["wait_for_server"]}  # fmt: skip
    for name, value in about_workers.items():
        refuse_together({"--inline": inline, name: value}, "inline there are no server and workers")
    refuse_two_orders(top, sort=options["sort"])
    job = jobfile.load(file)
    _refuse_two_printers(job, {"--top": top, "--json": as_json})
    source = jobfile.source_of(job, inputs, Reading(kind, encoding, errors))
    if not quiet and not inline and (passed_over := settings.note(url)):
        say(passed_over, sys.stderr)
    with (
        _client(url, namespace, executors, inline=inline) as client,
        _reporter(quiet=quiet) as draw,
    ):
        merged = _merged(job, options)
        with _printing():
            results = redismr.run(
                source,
                **{**job.functions, "resultfn": None},
                client=client,
                inline=inline,
                progress=draw or False,
                finish=False,
                params={**job.params, **params},
                **merged,
            )
        finishfn, private = job.functions["finishfn"], is_private(client)
        with showing(results, finishfn, private=private, as_json=as_json) as outcome:
            if resultfn := job.functions["resultfn"]:
                resultfn(merged.get("txn") or results.job_id or "inline", outcome)
            show(job, outcome, top=top, as_json=as_json)
    _summarise(draw, results)
    if not quiet:
        _tell_skipped(draw, results)


@contextmanager
def _printing() -> Iterator[None]:
    """The body runs a job, whose functions may print here if it is an inline one."""
    try:
        yield
    except OutputLost as lost:
        unread = lost.__cause__ if isinstance(lost.__cause__, OutputLost) else lost
        if not unread.enough:
            add_way_out(unread, "a function of the job printed there, so the job has failed")
        raise


def _refuse_two_printers(job: JobFile, given: Mapping[str, Any]) -> None:
    """Refuse what says how results are printed, where the job file does that."""
    for printer in ("final", "finishfn"):
        function = job.final if printer == "final" else job.functions[printer]
        if function is not None and (asked := [name for name, value in given.items() if value]):
            raise ConfigError(
                f"{asked[0]} is about how results are printed, and {printer} in {job.path} decides "
                "that: leave one of them out"
            )


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
def submit(  # noqa: PLR0913 - one for each option
    *, file: str, inputs: tuple[str, ...], kind: str | None, encoding: str | None,
    errors: str | None, params: dict[str, Any],
    url: str | None, namespace: str | None, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Hand a job file to a server, print the job's id, and leave.

    FILE and INPUT are as for `redismr run`. Once the id is printed nothing is needed of this
    machine any more; so resultfn and final are not run. finishfn is, by `redismr result`.
    """
    server = connection(url, namespace, "a job that goes on without you")
    job = jobfile.load(file)
    source = jobfile.source_of(job, inputs, Reading(kind, encoding, errors))
    with client_of(server) as client:
        submitted = client.submit(
            source,
            **{**job.functions, "resultfn": None},
            params={**job.params, **params},
            **_merged(job, options),
        )
        try:
            click.echo(submitted.id)
        except OutputLost as lost:
            add_way_out(
                lost, f"job {submitted.id} was handed in: redismr result {submitted.id} --wait"
            )
            raise
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
