"""``redismr listen``: the result channel."""

from __future__ import annotations

import sys

import click

from redismr.cli.shared_options import add_server_options, make_client, require_connection
from redismr.ui.tables import print_json_rows


@click.command()
@click.argument("label", metavar="[TXN|ID]", required=False)
@add_server_options
def listen(label: str | None, url: str | None, namespace: str | None) -> None:
    """Print events as JSON lines while they happen, until Ctrl-C.

    Of one transaction or job, or of all. The end of each job comes once, also if the line is cut
    meanwhile; the other events are hints, and may be lost.
    """
    with make_client(require_connection(url, namespace, "listening")) as client:
        is_job_id = label is not None and any(job.job_id == label for job in client.jobs())
        events = client.listen(job=label) if is_job_id else client.listen(txn=label)
        print_json_rows(events, sys.stdout)
