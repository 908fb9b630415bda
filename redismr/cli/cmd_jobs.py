"""Subcommands for jobs on a server: jobs, watch, result, errors, cancel, delete, listen."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

import redismr
from redismr.cli import exit_codes, shared_options
from redismr.core.model import Failure
from redismr.core.plurals import pluralize
from redismr.errors import JobTimeout, RedismrError
from redismr.standard_streams import OutputLost
from redismr.ui import tables
from redismr.ui.error_screens import add_recovery_hint, failure_screen, print_message
from redismr.ui.progress import progress_display

_PROGRESS_POLL_SECONDS = 0.2


@click.command()
@click.option("--all", "deleted", is_flag=True,
              help="Also finished runs: their data is gone, their rows stay for ttl.")  # fmt: skip
@shared_options.add_server_options
@shared_options.json_option
def jobs(*, deleted: bool, url: str | None, namespace: str | None, as_json: bool) -> None:
    """List the jobs on the server, newest first."""
    with shared_options.open_client(url, namespace, "a list of jobs") as client:
        rows = sorted(client.jobs(deleted=deleted), key=lambda job: job.age)
    tables.print_rows(rows, tables.JOB_COLUMNS, sys.stdout, as_json=as_json)


@click.command()
@click.argument("job_id", metavar="ID")
@shared_options.wait_for_server_option
@shared_options.add_server_options
def watch(
    *, job_id: str, wait_for_server: float | None, url: str | None, namespace: str | None
) -> int:
    """Show a job's progress until it ends. Ctrl-C stops watching, not the job."""
    with (
        shared_options.open_client(url, namespace, "watching a job") as client,
        progress_display(sys.stderr, always=True) as display,
    ):
        job = _attach(client, job_id, wait_for_server)
        while not job.wait(_PROGRESS_POLL_SECONDS):
            display(job.progress())
        display(job.progress())
        if job.state != "succeeded":
            job.result(timeout=0)  # raises the error that ended the job
        _print_skipped_count(job)
    return exit_codes.SUCCESS


@click.command()
@click.argument("job_id", metavar="ID")
@click.option("--wait", is_flag=True, help="Wait until the job has a result.")
@click.option("--sort", is_flag=True, help="Print in order of keys.")
@click.option("--no-finishfn", "finish", is_flag=True, flag_value=False, default=True,
              help="Print the pairs, and do not call the job's finishfn.")  # fmt: skip
@shared_options.top_option
@shared_options.json_option
@shared_options.wait_for_server_option
@shared_options.add_server_options
def result(  # noqa: PLR0913 - one for each option
    *, job_id: str, wait: bool, sort: bool, finish: bool, top: int | None, as_json: bool,
    wait_for_server: float | None, url: str | None, namespace: str | None,
) -> None:  # fmt: skip
    """Print a job's result as `key<TAB>value` lines, or the value that its finishfn returns."""
    shared_options.refuse_top_with_sort(top, sort=sort)
    with shared_options.open_client(url, namespace, "the result of a job") as client:
        job = _attach(client, job_id, wait_for_server)
        if wait:
            with progress_display(sys.stderr, summary=False) as display:
                while not job.wait(_PROGRESS_POLL_SECONDS):
                    display(job.progress())
        with _add_hints_about_kept_result(job_id):
            outcome = job.result(timeout=0, finish=finish)
            shared_options.print_outcome(outcome, top=top, sort=sort, as_json=as_json)
        _print_skipped_count(job)


@click.command()
@click.argument("job_id", metavar="ID")
@shared_options.json_option
@shared_options.add_server_options
def errors(*, job_id: str, as_json: bool, url: str | None, namespace: str | None) -> None:
    """Show the failures of a job and its skipped records, and where they are in the input."""
    with shared_options.open_client(url, namespace, "errors of a job") as client:
        job = client.attach(job_id)
        # Failures are printed first: reading the skipped records may fail.
        _print_failures(job.errors(), job_id, as_json=as_json)
        skipped = job.skipped()
    _print_failures(skipped, job_id, as_json=as_json, titles=False)
    if unlisted := skipped.total - len(skipped):
        print_message(f"and {pluralize(unlisted, 'more record')} skipped", sys.stderr)


@contextmanager
def _add_hints_about_kept_result(job_id: str) -> Iterator[None]:
    """Add a hint to an error of the body, which prints a result that stays on the server."""
    try:
        yield
    except OutputLost as lost:
        if not lost.reader_has_left:
            add_recovery_hint(lost, f"the result is still there: redismr result {job_id}")
        raise
    except JobTimeout as timed_out:
        add_recovery_hint(timed_out, f"to wait for it: redismr result {job_id} --wait")
        raise
    except RedismrError:
        raise
    except Exception as error:
        add_recovery_hint(error, f"without its finishfn: redismr result {job_id} --no-finishfn")
        raise


def _attach(client: redismr.Client, job_id: str, wait_for_server: float | None) -> redismr.Job:
    if wait_for_server is None:
        return client.attach(job_id)
    return client.attach(job_id, wait_for_server=wait_for_server)


def _print_skipped_count(job: redismr.Job) -> None:
    if total := job.skipped().total:
        print_message(f"{pluralize(total, 'record')} skipped: redismr errors {job.id}", sys.stderr)


def _print_failures(
    failures: Sequence[Failure], job_id: str, *, as_json: bool, titles: bool = True
) -> None:
    if as_json or not sys.stdout.isatty():
        columns = tables.FAILURE_COLUMNS
        tables.print_rows(failures, columns, sys.stdout, as_json=as_json, titles=titles)
    else:
        for failure in failures:
            click.echo(failure_screen(failure, job_id))


@click.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@shared_options.add_server_options
def cancel(*, job_ids: tuple[str, ...], url: str | None, namespace: str | None) -> None:
    """Stop jobs. Work that is under way for them is dropped."""
    with shared_options.open_client(url, namespace, "cancelling a job") as client:
        for job_id in job_ids:
            was_running = client.attach(job_id).cancel()
            outcome = "cancelled" if was_running else "had already ended"
            # Not click.echo, which flushes: the other jobs are cancelled even if output is lost.
            sys.stdout.write(f"{job_id}\t{outcome}\n")


@click.command()
@click.argument("job_ids", metavar="ID...", nargs=-1, required=True)
@shared_options.add_server_options
def delete(*, job_ids: tuple[str, ...], url: str | None, namespace: str | None) -> None:
    """Delete jobs and all their data, results too."""
    with shared_options.open_client(url, namespace, "deleting a job") as client:
        for job_id in job_ids:
            client.attach(job_id).delete()
            sys.stdout.write(f"{job_id}\tdeleted\n")  # not click.echo, as in cancel


@click.command()
@click.argument("label", metavar="[TXN|ID]", required=False)
@shared_options.add_server_options
def listen(label: str | None, url: str | None, namespace: str | None) -> None:
    """Print events as JSON lines while they happen, until Ctrl-C.

    The events are those of one transaction or job, or of all jobs. The end of each job is printed
    once, also if the connection is lost for a while. The other events are hints, and may be lost.
    """
    with shared_options.open_client(url, namespace, "listening") as client:
        is_job_id = label is not None and any(job.job_id == label for job in client.jobs())
        events = client.listen(job=label) if is_job_id else client.listen(txn=label)
        tables.print_json_rows(events, sys.stdout)
