"""``redismr up``: a server and local workers in one command."""

from __future__ import annotations

import contextlib
import shlex
import signal
import socket
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from redismr import settings
from redismr.cli import exits
from redismr.cli.common import PORT, debug_option
from redismr.client.embedded import LocalWorker
from redismr.config import MOST_EXECUTORS
from redismr.core.seal import new_secret
from redismr.errors import ConfigError, StoreUnavailable
from redismr.server import serve
from redismr.server.access import is_loopback
from redismr.ui.errors import say
from redismr.workers import cores

if TYPE_CHECKING:
    from types import FrameType

_EVERYWHERE = ("", "*", "0.0.0.0", "::")  # noqa: S104
_LOOK_EVERY = 0.5


@click.command()
@click.option("--bind", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Who may connect: 0.0.0.0 for every machine that reaches this one.")  # fmt: skip
@click.option("--port", type=PORT, default=0, metavar="PORT", help="[any free one]")
@click.option("-n", "--executors", type=click.IntRange(0, MOST_EXECUTORS), metavar="N",
              help="Local processes that run tasks; 0 for none. [one a core]")  # fmt: skip
@click.option("--namespace", metavar="NAME", help="Prefix of all keys. [REDISMR_NAMESPACE]")
@debug_option
def up(*, bind: str, port: int, executors: int | None, namespace: str | None) -> int:
    """Start a private server and local workers, and show how others join.

    It keeps nothing on disk and ends, with all its jobs, on Ctrl-C. REDISMR_SECRET is its secret
    if that is set, else a new one that is shown.
    """
    signal.signal(signal.SIGTERM, _stop)
    count = cores() if executors is None else executors
    secret = settings.checked(settings.find_secret() or new_secret())
    with contextlib.ExitStack() as running:
        try:
            server = running.enter_context(serve(bind, port, secret, namespace=namespace))
        except OSError as error:
            raise ConfigError(f"cannot serve on {bind}:{port}: {error.strerror}") from error
        worker = None
        if count:
            worker = LocalWorker(replace(server.connection, secret=secret), count)
            running.callback(worker.close)
        with contextlib.suppress(KeyboardInterrupt):
            url = server.url_for(_own_address() if bind in _EVERYWHERE else bind)
            _show(url, secret, count, everywhere=not is_loopback(bind))
            while server.alive and (worker is None or worker.alive):
                time.sleep(_LOOK_EVERY)
            raise StoreUnavailable(f"the {'worker' if server.alive else 'server'} ended by itself")
    return exits.DONE


def _show(url: str, secret: str, executors: int, *, everywhere: bool) -> None:
    """The two lines that make another machine a worker."""
    if sys.stderr.isatty():
        where = "anywhere" if everywhere else "on this machine (others: --bind 0.0.0.0)"
        say(f"local executors: {executors}. Ctrl-C ends it. To join, {where}:", sys.stderr)
    click.echo(f"export REDISMR_URL={shlex.quote(url)} REDISMR_SECRET={shlex.quote(secret)}")
    click.echo("redismr worker")
    sys.stdout.flush()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _own_address() -> str:
    """The address of this machine on the way out of it, or its name. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
