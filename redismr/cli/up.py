"""``redismr up``: a server and local workers in one command."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from redismr.cli import exits
from redismr.cli.common import debug_option
from redismr.cli.workers import cores

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from redismr.config import Connection
    from redismr.server import PrivateServer

_EVERYWHERE = ("", "*", "0.0.0.0", "::")  # noqa: S104
_LOOK_EVERY = 1.0
_GRACE = 5.0


@click.command()
@click.option("--bind", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Who may connect: 0.0.0.0 for every machine that reaches this one.")  # fmt: skip
@click.option("--port", type=int, default=0, metavar="PORT", help="[any free one]")
@click.option("-n", "--executors", type=click.IntRange(min=0), metavar="N",
              help="Local processes that run tasks; 0 for none. [one a core]")  # fmt: skip
@click.option("--namespace", metavar="NAME", help="Prefix of all keys. [REDISMR_NAMESPACE]")
@debug_option
def up(*, bind: str, port: int, executors: int | None, namespace: str | None) -> int:
    """Start a private server and local workers, and show how others join.

    It keeps nothing on disk and ends, with all its jobs, on Ctrl-C. REDISMR_SECRET is its secret
    if that is set, else a new one that is shown.
    """
    from redismr import settings
    from redismr.core.seal import new_secret
    from redismr.errors import ConfigError, StoreUnavailable
    from redismr.server import serve
    from redismr.ui.errors import say

    count = cores() if executors is None else executors
    secret = settings.find_secret() or new_secret()
    try:
        server = serve(bind, port, password=secret, namespace=namespace)
    except OSError as error:
        raise ConfigError(f"cannot serve on {bind}:{port}: {error.strerror}") from error
    with server, _worker(replace(server.connection, secret=secret), count) as worker:
        if sys.stderr.isatty():
            say(f"{count} local executors; Ctrl-C ends it. To join, on any machine:", sys.stderr)
        url = server.url_for(_own_address() if bind in _EVERYWHERE else bind)
        click.echo(f"export REDISMR_URL={shlex.quote(url)} REDISMR_SECRET={shlex.quote(secret)}")
        click.echo("redismr worker")
        sys.stdout.flush()
        if not _interrupted(server, worker):
            raise StoreUnavailable(f"the {'worker' if server.alive else 'server'} ended by itself")
    return exits.DONE


def _interrupted(server: PrivateServer, worker: subprocess.Popen[bytes] | None) -> bool:
    """Wait for Ctrl-C or SIGTERM: True; or for the end of the server or the worker: False."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    try:
        while server.alive and (worker is None or worker.poll() is None):
            time.sleep(_LOOK_EVERY)
    except KeyboardInterrupt:
        return True
    return False


@contextmanager
def _worker(connection: Connection, executors: int) -> Iterator[subprocess.Popen[bytes] | None]:
    """A worker process of our own: told to finish at the end, once more on a second Ctrl-C."""
    if not executors:
        yield None
        return
    watched, held = os.pipe()  # it ends when we do, however that comes
    process = subprocess.Popen(
        [sys.executable, "-m", "redismr", "worker", "--quiet", f"--executors={executors}",
         f"--parent-pipe={watched}"],
        env={
            **os.environ,
            "REDISMR_URL": connection.url,
            "REDISMR_SECRET": connection.secret,
            "REDISMR_NAMESPACE": connection.namespace,
            "PYTHONHASHSEED": "0",
        },
        pass_fds=(watched,),
        start_new_session=True,  # Ctrl-C comes through us, so that it comes once
    )  # fmt: skip
    os.close(watched)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait()
        except KeyboardInterrupt:
            process.terminate()
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
        os.close(held)


def _own_address() -> str:
    """The address of this machine on the way out of it, or its name. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
