"""Options that several subcommands share, and the client that they open."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import click

import redismr
from redismr import settings
from redismr.config import MAX_EXECUTORS, MAX_PORT, OPTION_RULES, Connection
from redismr.errors import ConfigError
from redismr.ui.result_lines import write_outcome, write_pairs

EXECUTOR_COUNT = click.IntRange(1, MAX_EXECUTORS)
PORT_NUMBER = click.IntRange(0, MAX_PORT)

CommandFunction = TypeVar("CommandFunction", bound="Callable[..., Any]")


def _enable_debug(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001
    if value:
        os.environ["REDISMR_DEBUG"] = "1"  # workers that this command starts inherit it


def _check_value(_ctx: click.Context, option: click.Parameter, value: Any) -> Any:
    if value is None:
        return None
    if option.name == "on_error":
        for kind in (int, float):
            with suppress(ValueError):
                value = kind(value)
                break
    return OPTION_RULES[str(option.name)].check(option.opts[-1], value)


checked_option = partial(click.option, callback=_check_value)
"""An option that is a field of JobOptions; an error names the option as the user typed it."""

debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, callback=_enable_debug,
    help="Show whole tracebacks (or set REDISMR_DEBUG=1).",
)  # fmt: skip
executors_option = click.option(
    "-n", "--executors", type=EXECUTOR_COUNT, metavar="N",
    help="Local processes, where no server is named. [one a core]",
)  # fmt: skip
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
wait_for_server_option = checked_option(
    "--wait-for-server", type=float, metavar="SECONDS",
    help="Give up when the server has answered before, and is away for so many SECONDS. [30]",
)  # fmt: skip
top_option = click.option(
    "--top", type=click.IntRange(min=1), metavar="N", help="Print the N largest values only."
)


def add_server_options(command: CommandFunction) -> CommandFunction:
    """Add --url, --namespace and --debug, the options of each subcommand that uses a server."""
    command = debug_option(command)
    command = click.option(
        "--namespace", metavar="NAME", help="Prefix of all keys. [REDISMR_NAMESPACE, or redismr]"
    )(command)
    return click.option(
        "--url",
        metavar="URL",
        help="Redis to use: redis://HOST:PORT/0, rediss:// for TLS, unix:///SOCKET, or "
        "redis+sentinel://HOST:26379,HOST2:26379/SERVICE/0. [REDISMR_URL]",
    )(command)


def refuse_top_with_sort(top: int | None, *, sort: bool | None) -> None:
    """Refuse --top together with --sort."""
    if top and sort:
        raise ConfigError(
            "--top and --sort cannot be combined: --top orders by value, --sort by key"
        )


def require_connection(url: str | None, namespace: str | None, purpose: str) -> Connection:
    """Return the server that the options or the environment name, needed for ``purpose``."""
    server = settings.resolve_connection(url, namespace=namespace)
    if server is None:
        problem = settings.ignored_url_note(url) or "no server is named"
        raise ConfigError(
            f"{problem}; {purpose} needs one: set REDISMR_URL and REDISMR_SECRET, or give --url "
            "(`redismr up` starts one)"
        )
    return server


def open_client(url: str | None, namespace: str | None, purpose: str) -> redismr.Client:
    """Return a client of the server that ``require_connection`` finds."""
    server = require_connection(url, namespace, purpose)
    return redismr.Client(server.url, secret=server.secret, namespace=server.namespace)


def print_outcome(outcome: Any, *, top: int | None, sort: bool, as_json: bool) -> None:
    """Print results, or the value that a finishfn made of them."""
    if not (top or sort):
        write_outcome(outcome, sys.stdout, as_json=as_json)
    elif not isinstance(outcome, redismr.Results):
        raise ConfigError(
            "--top and --sort are for results, and finishfn has made something else of them "
            f"({type(outcome).__name__}): add --no-finishfn"
        )
    else:
        pairs = outcome.top(top) if top else outcome.sorted()
        write_pairs(pairs, sys.stdout, as_json=as_json)
    sys.stdout.flush()
