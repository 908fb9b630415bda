"""``redismr run`` and ``redismr submit``: run a job file, or hand it in."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import click

import redismr
from redismr import settings
from redismr.cli import shared_options
from redismr.cli.job_file import JobFile, ReadOptions, job_source, load_job_file
from redismr.cli.shared_options import CommandFunction, checked_option
from redismr.cli.unshown_results import is_server_private, keep_unless_shown
from redismr.client.embedded import prestart
from redismr.core.model import Skipped
from redismr.errors import BadKey, ConfigError
from redismr.standard_streams import OutputLost
from redismr.ui.error_screens import add_recovery_hint, print_message, skipped_lines
from redismr.ui.progress import ProgressDisplay, progress_display, summary_line

_SOURCE_KINDS = {
    "files": "one record a file",
    "lines": "one record a line",
    "text": "records of many lines, cut at line ends",
    "jsonl": "a JSON value a line",
    "csv": "rows of CSV",
}


def _parse_params(
    ctx: click.Context, option: click.Parameter, given: tuple[str, ...]
) -> dict[str, Any]:
    """Return the params of all ``-P key=value``; a value that is no JSON is a str."""
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


def _set_kind(ctx: click.Context, option: click.Parameter, given: bool) -> None:  # noqa: FBT001
    """Store the name of the source option, such as --lines, under ``kind``; refuse a second one."""
    previous = ctx.params.setdefault("kind", None)
    if given:
        if previous:
            raise click.UsageError(f"--{previous} and {option.opts[0]}: give one of them", ctx)
        ctx.params["kind"] = option.name


_READ_OPTIONS = (
    *(
        click.option(
            f"--{kind}", is_flag=True, expose_value=False, callback=_set_kind,
            help=f"Read the input as {description}.",
        )
        for kind, description in _SOURCE_KINDS.items()
    ),
    click.option("--encoding", metavar="NAME", help="Encoding of the input's text. [utf-8]"),
    click.option(
        "--errors", metavar="HANDLER",
        help="How to treat bytes that are no such text: strict, replace, ignore... [strict]",
    ),
)  # fmt: skip
_JOB_OPTIONS = (
    click.argument("file", metavar="FILE"),
    click.argument("inputs", nargs=-1, metavar="[INPUT]..."),
    *_READ_OPTIONS,
    click.option(
        "-P", "params", multiple=True, callback=_parse_params, metavar="KEY=VALUE",
        help="A parameter for redismr.param(); JSON if it is JSON.",
    ),
    checked_option("--name", help="A name for people, shown in listings."),
    checked_option("--txn", help="Your label for the job; its events carry the label."),
    checked_option("--partitions", type=int, metavar="N", help="Reduce tasks. [by the data's size]"),  # noqa: E501
    checked_option(
        "--on-error", metavar="skip|N|FRACTION",
        help="Skip records that fail: all, at most N, or a fraction (0.01). [fail]",
    ),
    checked_option("--retries", type=int, metavar="N", help="Further attempts of a task. [3]"),
    checked_option(
        "--timeout", "task_timeout", type=float, metavar="SECONDS",
        help="Stop an attempt of a task that runs longer.",
    ),
    click.option(
        "--no-backup", "backup", is_flag=True, flag_value=False, default=None,
        help="Never run a slow task a second time beside the first.",
    ),
    click.option(
        "--each-worker", is_flag=True, default=None,
        help="Give each worker one item of the source, instead of sharing it out.",
    ),
    checked_option("--priority", type=int, metavar="N", help="Jobs with a higher N go first. [0]"),
    checked_option("--ttl", type=float, metavar="SECONDS", help="Life of the job's data. [86400]"),
    click.option("--sort", is_flag=True, default=None, help="Sort the result by key."),
    shared_options.wait_for_server_option,
)  # fmt: skip


def add_read_options(command: CommandFunction) -> CommandFunction:
    """Add the options that say how input is read: --lines and so on, --encoding and --errors."""
    for add_option in reversed(_READ_OPTIONS):
        command = add_option(command)
    return command


def add_job_options(command: CommandFunction) -> CommandFunction:
    """Add the options that run and submit share; from --name on they are fields of JobOptions."""
    for add_option in reversed(_JOB_OPTIONS):
        command = add_option(command)
    return shared_options.add_server_options(command)


@click.command()
@add_job_options
@shared_options.executors_option
@checked_option("--wait", "wait_for_workers", type=float, metavar="SECONDS",
                help="Give up if no worker has come within so many SECONDS.")  # fmt: skip
@click.option("--inline", is_flag=True, help="Run in this process, without Redis: pdb works.")
@shared_options.top_option
@shared_options.json_option
@click.option("-q", "--quiet", is_flag=True, help="Print only the result.")
def run(  # noqa: PLR0913 - one for each option
    *, file: str, inputs: tuple[str, ...], kind: str | None, encoding: str | None,
    errors: str | None, params: dict[str, Any],
    url: str | None, namespace: str | None, executors: int | None,
    inline: bool, top: int | None, as_json: bool, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Run a job file and print its result, as `key<TAB>value` lines.

    FILE is a Python file with mapfn, and maybe reducefn (a function, or a name such as "sum"),
    source, combinefn, partitionfn, initfn, finishfn(results), final(key, value), params, options.
    INPUT are files or globs that replace those of its source, and are read in the same way: as
    lines, with the same encoding, and so on.

    \b
      redismr run wc.py books/*.txt
      redismr run wc.py --lines 'logs/*.gz' --top 10
      redismr run wc.py -P stopwords='["a", "the"]' --json | jq .
    """  # noqa: D301  click wants the control character
    not_inline = {"--url": url, "--namespace": namespace, "-n": executors,
                  "--wait": options["wait_for_workers"],
                  "--wait-for-server": options["wait_for_server"]}  # fmt: skip
    if inline and (option := _first_given(not_inline)):
        raise ConfigError(
            f"--inline and {option} cannot be combined: an inline run has no server and no workers"
        )
    shared_options.refuse_top_with_sort(top, sort=options["sort"])
    job = load_job_file(file)
    _refuse_print_options(job, {"--top": top, "--json": as_json})
    source = job_source(job, inputs, ReadOptions(kind, encoding, errors))
    if not quiet and not inline and (ignored_url_note := settings.ignored_url_note(url)):
        print_message(ignored_url_note, sys.stderr)
    display_context: AbstractContextManager[ProgressDisplay | None] = (
        nullcontext() if quiet else progress_display(sys.stderr, summary=False, announce=True)
    )
    with (
        _open_client(url, namespace, executors, inline=inline) as client,
        display_context as display,
    ):
        merged_options = _merge_options(job, options)
        with _explain_lost_output():
            results = redismr.run(
                source,
                **job.functions,
                client=client,
                inline=inline,
                progress=display or False,
                finish=False,
                params={**job.params, **params},
                **merged_options,
            )
        finishfn, private = job.functions["finishfn"], is_server_private(client)
        with keep_unless_shown(results, finishfn, private=private, as_json=as_json) as outcome:
            if job.resultfn:
                job.resultfn(merged_options.get("txn") or results.job_id or "inline", outcome)
            print_job_outcome(job, outcome, top=top, as_json=as_json)
    if display is not None:
        _print_summary(display, results)


@contextmanager
def _explain_lost_output() -> Iterator[None]:
    """Add a hint to lost output of the body, which runs a job: user functions print if inline."""
    try:
        yield
    except OutputLost as lost:
        first = lost.__cause__ if isinstance(lost.__cause__, OutputLost) else lost
        if not first.reader_has_left:
            add_recovery_hint(first, "a function of the job printed there, so the job has failed")
        raise


def _first_given(options: Mapping[str, Any]) -> str:
    return next((name for name, value in options.items() if value), "")


def _refuse_print_options(job: JobFile, options: Mapping[str, Any]) -> None:
    printer = "final" if job.final else "finishfn" if job.functions["finishfn"] else ""
    if printer and (option := _first_given(options)):
        raise ConfigError(
            f"{option} is about how results are printed, and {printer} in {job.path} decides "
            "that: leave one of them out"
        )


def print_job_outcome(
    job: JobFile, outcome: Any, *, top: int | None = None, as_json: bool = False
) -> None:
    """Print the outcome, or call the job file's final for each pair, in order of keys."""
    if job.final is None:
        shared_options.print_outcome(outcome, top=top, sort=False, as_json=as_json)
        return
    try:
        pairs = outcome.sorted()
    except BadKey as error:
        cause = error.__cause__
        raise BadKey(
            f"final needs keys that can be ordered: {cause}. finishfn(results) needs no order"
        ) from cause
    for key, value in pairs:
        job.final(key, value)


@click.command()
@add_job_options
@click.option("-q", "--quiet", is_flag=True, help="Print only the id.")
def submit(  # noqa: PLR0913 - one for each option
    *, file: str, inputs: tuple[str, ...], kind: str | None, encoding: str | None,
    errors: str | None, params: dict[str, Any],
    url: str | None, namespace: str | None, quiet: bool, **options: Any,
) -> None:  # fmt: skip
    """Hand a job file to a server, print the job's id, and leave.

    FILE and INPUT are as for `redismr run`. Once the id is printed, the job no longer needs this
    machine. So resultfn and final are not called; `redismr result` calls finishfn.
    """
    server = shared_options.require_connection(url, namespace, "a job that goes on without you")
    job = load_job_file(file)
    source = job_source(job, inputs, ReadOptions(kind, encoding, errors))
    with redismr.Client(server.url, secret=server.secret, namespace=server.namespace) as client:
        submitted = client.submit(
            source, **job.functions, params={**job.params, **params}, **_merge_options(job, options)
        )
        try:
            click.echo(submitted.id)
        except OutputLost as lost:
            hint = f"job {submitted.id} was handed in: redismr result {submitted.id} --wait"
            add_recovery_hint(lost, hint)
            raise
    if quiet:
        return
    if job.resultfn or job.final:
        print_message(f"resultfn and final of {file} are for `redismr run`: not used", sys.stderr)
    if sys.stderr.isatty():
        click.echo(f"redismr watch {submitted.id}", err=True)
        click.echo(f"redismr result {submitted.id} --wait", err=True)


def _merge_options(job: JobFile, options: Mapping[str, Any]) -> dict[str, Any]:
    return {**job.options, **{name: value for name, value in options.items() if value is not None}}


def _open_client(
    url: str | None, namespace: str | None, executors: int | None, *, inline: bool
) -> AbstractContextManager[redismr.Client | None]:
    if inline:
        return nullcontext()
    prestart(url, namespace, executors)
    return redismr.Client(url, namespace=namespace, executors=executors)


def _print_summary(display: ProgressDisplay, results: Any) -> None:
    """Print a line about the job, the number of skipped records, and the first of them."""
    skipped = getattr(results, "skipped", None)
    if display.last_progress is not None:
        prefix = "" if sys.stderr.isatty() else "redismr: "  # other programs share the pipe
        line = summary_line(display.last_progress, getattr(results, "counters", None))
        click.echo(prefix + line, err=True)
        skipped = display.last_progress.skipped
    if isinstance(skipped, Skipped) and skipped.total:
        hint = "; after `redismr submit`, `redismr errors` lists all"  # this job is deleted by now
        print_message(skipped_lines(skipped, hint), sys.stderr)
