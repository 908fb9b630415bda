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
from redismr.config import DEFAULT_NAMESPACE, MOST_EXECUTORS
from redismr.core.seal import new_secret
from redismr.core.words import plural
from redismr.errors import ConfigError, StoreUnavailable
from redismr.server import join, serve
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
@click.option("--print", "only_print", is_flag=True,
              help="Print how others join, and start nothing.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Do not print how others join.")
@debug_option
def up(
    *, bind: str, port: int, executors: int | None, namespace: str | None, only_print: bool,
    quiet: bool,
) -> int:  # fmt: skip
    """Start a private server and local workers, and show how others join.

    It keeps nothing on disk and ends, with all its jobs, on Ctrl-C. REDISMR_SECRET is its secret
    if that is set, else a new one that is shown. The password in its URL is derived from the
    secret: with a secret of yours and a --port, the URL is the same after each restart, and may
    stand in a unit file. --print shows it beforehand.

    \b
      export REDISMR_SECRET=$(redismr secret)
      redismr up --bind 0.0.0.0 --port 6380 --print
    """  # noqa: D301  click wants the control character
    given = settings.find_secret()
    secret = settings.checked(given or new_secret())
    fixed = bool(given and port)
    if only_print:
        if not fixed:
            raise ConfigError(
                "--print needs a --port and a REDISMR_SECRET: else both are new at each start"
            )
        _show(join(_reached_at(bind), port, secret, namespace=namespace).url, secret, namespace)
        return exits.DONE
    signal.signal(signal.SIGTERM, _stop)
    count = cores() if executors is None else executors
    # Also while it starts: whoever stops a service then has not interrupted anything.
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as running:
        try:
            server = running.enter_context(serve(bind, port, secret, namespace=namespace))
        except OSError as error:
            where = f"{bind}:{port}" if port else bind
            raise ConfigError(f"cannot serve on {where}: {error.strerror}") from error
        worker = None
        if count:
            worker = LocalWorker(replace(server.connection, secret=secret), count)
            running.callback(worker.close)
        if not quiet:
            _introduce(count, everywhere=not is_loopback(bind), fixed=fixed)
            _show(server.url_for(_reached_at(bind)), secret, namespace)
        while server.alive and (worker is None or worker.alive):
            time.sleep(_LOOK_EVERY)
        raise StoreUnavailable(f"the {'worker' if server.alive else 'server'} ended by itself")
    return exits.DONE


def _introduce(executors: int, *, everywhere: bool, fixed: bool) -> None:
    """What a person should know about the two lines that follow."""
    if sys.stderr.isatty():
        runs = f"the server runs until Ctrl-C, with {plural(executors, 'local executor')}"
        where = "from any machine" if everywhere else "from this machine (others: --bind 0.0.0.0)"
        new = "" if fixed else ", new at each start without --port and REDISMR_SECRET"
        say(f"{runs}. To join it {where}, type these lines{new}:", sys.stderr)


def _show(url: str, secret: str, namespace: str | None) -> None:
    """The two lines that make another machine a worker."""
    named = {"REDISMR_URL": url, "REDISMR_SECRET": secret}
    if (prefix := settings.namespace_of(namespace)) != DEFAULT_NAMESPACE:
        named["REDISMR_NAMESPACE"] = prefix
    click.echo(" ".join(("export", *(f"{name}={shlex.quote(it)}" for name, it in named.items()))))
    click.echo("redismr worker")
    sys.stdout.flush()


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _reached_at(bind: str) -> str:
    """What others call the address that is bound."""
    return _own_address() if bind in _EVERYWHERE else bind


def _own_address() -> str:
    """The address of this machine on the way out of it, or its name. Nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
