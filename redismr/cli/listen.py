"""``redismr listen``: the result channel."""

from __future__ import annotations

import sys

import click

from redismr.cli.common import client_of, connection, server_options
from redismr.ui.tables import show_json


@click.command()
@click.argument("label", metavar="[TXN|ID]", required=False)
@server_options
def listen(label: str | None, url: str | None, namespace: str | None) -> None:
    """Print events as JSON lines while they happen, until Ctrl-C.

    Of one transaction or job, or of all. The end of each job comes once, also if the line is cut
    meanwhile; the other events are hints, and may be lost.
    """
    with client_of(connection(url, namespace, "listening")) as client:
        known = label is not None and any(job.job_id == label for job in client.jobs())
        events = client.listen(job=label) if known else client.listen(txn=label)
        show_json(events, sys.stdout)
