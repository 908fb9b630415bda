"""``redismr up``: start a server and local workers in one command."""

import contextlib
import shlex
import signal
import socket
import sys
import time
from dataclasses import replace

import click

from redismr import settings
from redismr.cli import exit_codes
from redismr.cli.shared_options import PORT_NUMBER, debug_option
from redismr.client.embedded import LocalWorker
from redismr.config import DEFAULT_NAMESPACE, MAX_EXECUTORS
from redismr.core.plurals import pluralize
from redismr.core.seal import new_secret
from redismr.errors import ConfigError, StoreUnavailable
from redismr.server import join, serve
from redismr.server.credentials import is_loopback
from redismr.ui.error_screens import print_message
from redismr.workers import cores

_WILDCARD_ADDRESSES = ("", "*", "0.0.0.0", "::")  # noqa: S104
_LIVENESS_CHECK_SECONDS = 0.5


@click.command()
@click.option("--bind", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Address to listen on; 0.0.0.0 lets other machines connect.")  # fmt: skip
@click.option("--port", type=PORT_NUMBER, default=0, metavar="PORT", help="[any free one]")
@click.option("-n", "--executors", type=click.IntRange(0, MAX_EXECUTORS), metavar="N",
              help="Local processes that run tasks; 0 for none. [one a core]")  # fmt: skip
@click.option("--namespace", metavar="NAME", help="Prefix of all keys. [REDISMR_NAMESPACE]")
@click.option("--print", "only_print", is_flag=True,
              help="Print the lines with which others join, and start nothing.")  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Do not print the lines with which others join.")
@debug_option
def up(
    *, bind: str, port: int, executors: int | None, namespace: str | None, only_print: bool,
    quiet: bool,
) -> int:  # fmt: skip
    """Start a private server and local workers, and show how others join.

    The server keeps nothing on disk and ends, with all its jobs, on Ctrl-C. Its secret is
    REDISMR_SECRET if that is set, else a new one that is printed. The password in the URL is
    derived from the secret: with a secret of yours and a --port, the URL is the same after each
    restart, and may stand in a unit file. --print shows the URL beforehand.

    \b
      export REDISMR_SECRET=$(redismr secret)
      redismr up --bind 0.0.0.0 --port 6380 --print
    """  # noqa: D301  click wants the control character
    given_secret = settings.find_secret()
    secret = settings.check_secret(given_secret or new_secret())
    url_is_stable = bool(given_secret and port)
    if only_print:
        if not url_is_stable:
            raise ConfigError(
                "--print needs a --port and a REDISMR_SECRET: otherwise both are new at each start"
            )
        connection = join(_advertised_address(bind), port, secret, namespace=namespace)
        _print_join_commands(connection.url, secret, namespace)
        return exit_codes.SUCCESS
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # raises KeyboardInterrupt
    count = cores() if executors is None else executors
    # A stop while the server starts is a success too: nothing was interrupted.
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as cleanup:
        try:
            server = cleanup.enter_context(serve(bind, port, secret, namespace=namespace))
        except OSError as error:
            address = f"{bind}:{port}" if port else bind
            raise ConfigError(f"cannot serve on {address}: {error.strerror}") from error
        worker = None
        if count:
            worker = LocalWorker(replace(server.connection, secret=secret), count)
            cleanup.callback(worker.close)
        if not quiet:
            _print_join_help(count, any_machine=not is_loopback(bind), url_is_stable=url_is_stable)
            _print_join_commands(server.url_for(_advertised_address(bind)), secret, namespace)
        while server.alive and (worker is None or worker.alive):
            time.sleep(_LIVENESS_CHECK_SECONDS)
        raise StoreUnavailable(f"the {'worker' if server.alive else 'server'} ended by itself")
    return exit_codes.SUCCESS


def _print_join_help(executors: int, *, any_machine: bool, url_is_stable: bool) -> None:
    """Explain on a terminal the two lines that ``_print_join_commands`` prints next."""
    if sys.stderr.isatty():
        server_text = f"the server runs until Ctrl-C, with {pluralize(executors, 'local executor')}"
        origin = "from any machine" if any_machine else "from this machine (others: --bind 0.0.0.0)"
        change = "" if url_is_stable else ", new at each start without --port and REDISMR_SECRET"
        print_message(f"{server_text}. To join it {origin}, type these lines{change}:", sys.stderr)


def _print_join_commands(url: str, secret: str, namespace: str | None) -> None:
    environ = {"REDISMR_URL": url, "REDISMR_SECRET": secret}
    if (prefix := settings.resolve_namespace(namespace)) != DEFAULT_NAMESPACE:
        environ["REDISMR_NAMESPACE"] = prefix
    assignments = (f"{name}={shlex.quote(value)}" for name, value in environ.items())
    click.echo(f"export {' '.join(assignments)}")
    click.echo("redismr worker")
    sys.stdout.flush()


def _advertised_address(bind: str) -> str:
    """Return the address under which other machines reach ``bind``. Nothing is sent.

    For a wildcard, that is the address this machine uses towards others, or its host name.
    """
    if bind not in _WILDCARD_ADDRESSES:
        return bind
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address that is reserved for documentation
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
