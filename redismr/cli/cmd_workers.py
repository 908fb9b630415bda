"""``redismr worker`` and ``redismr workers``: work for a server, and list its workers."""

import os
import sys

import click

from redismr import ctrl_c, standard_streams
from redismr import workers as worker_package
from redismr.cli import shared_options
from redismr.config import WorkerOptions
from redismr.ui import tables


@click.command()
@click.option("-n", "--executors", type=shared_options.EXECUTOR_COUNT, metavar="N",
              help="Processes that run tasks. [one a core]")  # fmt: skip
@click.option("--burst", is_flag=True, help="Exit when there is nothing left to do.")
@click.option("--max-tasks", type=click.IntRange(min=1), metavar="N", help="Exit after N tasks.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("--parent-pipe", type=int, hidden=True)
@shared_options.add_server_options
def worker(
    *, executors: int | None, burst: bool, max_tasks: int | None, quiet: bool,
    parent_pipe: int | None, url: str | None, namespace: str | None,
) -> int:  # fmt: skip
    """Work for a server until told to stop.

    After Ctrl-C or SIGTERM the worker finishes its running tasks and exits; after a second one it
    exits at once.
    """
    server = shared_options.require_connection(url, namespace, "a worker")
    fix_hash_seed()
    standard_streams.use_safe_streams()
    options = WorkerOptions(
        executors=executors or worker_package.cores(),
        burst=burst,
        max_tasks=max_tasks,
        parent_pipe=parent_pipe,
        quiet=quiet,
    )
    return worker_package.main(server, options)


@click.command()
@shared_options.add_server_options
@shared_options.json_option
def workers(*, url: str | None, namespace: str | None, as_json: bool) -> None:
    """List the workers on the server, and the problems that keep them from working."""
    with shared_options.open_client(url, namespace, "a list of workers") as client:
        rows = sorted(client.workers(), key=lambda worker: (worker.host, worker.pid))
    tables.print_rows(rows, tables.WORKER_COLUMNS, sys.stdout, as_json=as_json)


def fix_hash_seed() -> None:
    """Restart this process with PYTHONHASHSEED=0 unless it has that already.

    All attempts of a task must see a set in the same order, wherever they run.
    """
    if sys.flags.hash_randomization and os.environ.get("PYTHONHASHSEED") != "0":
        sys.stdout.flush()
        environ = {**os.environ, "PYTHONHASHSEED": "0"}
        ctrl_c.block_ctrl_c()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606
