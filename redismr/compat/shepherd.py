"""shepherd.py: many workers on one machine, which wait for a server, and then for the next one.

``python -m redismr.compat.shepherd -n 4 -8 -s 1 -p changeme HOST``.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from redismr.compat import mincemeat
from redismr.compat.client_main import work_for_server
from redismr.compat.doorway import use_safe_streams
from redismr.errors import RedismrError

VERSION = "0.0.1"

DEFAULT_HOSTNAME = "localhost"
DEFAULT_PASSWORD = ""
DEFAULT_PORT = mincemeat.DEFAULT_PORT

MINIMUM_CLIENT_SLEEP_SECONDS = 1.0
SERVER_END_POLL_SECONDS = 0.2


def map_default(key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the item as it is."""
    yield key, value


def reduce_default(_key: Any, values: list[Any]) -> Any:
    """Return the value if there is only one, else all of them."""
    return values[0] if len(values) == 1 else values


def map_word_count(_key: Any, text: str) -> Iterator[tuple[str, int]]:
    """Yield each word with the count 1."""
    for word in text.split():
        yield word, 1


def reduce_word_count(_word: str, counts: list[int]) -> int:
    """Return how often the word occurs."""
    return sum(counts)


class Server(mincemeat.Server):
    """A server of any datasource: a mapping, or items to be numbered; functions are optional."""

    mapfn: Any = staticmethod(map_default)
    reducefn: Any = staticmethod(reduce_default)

    def __init__(self, datasource: Mapping[Any, Any] | Iterable[Any] | None = None) -> None:
        super().__init__()
        if datasource is not None:
            has_keys = isinstance(datasource, Mapping) or hasattr(datasource, "keys")
            self.datasource = datasource if has_keys else dict(enumerate(datasource))


class WordCountServer(Server):
    """Counts the words of its datasource."""

    mapfn: Any = staticmethod(map_word_count)
    reducefn: Any = staticmethod(reduce_word_count)


class Client(mincemeat.Client):
    """A worker whose ``conn`` raises the error that keeps it from its server."""

    def handle_error(self) -> None:
        """Raise the error."""
        assert self.error is not None
        raise self.error


def run(**options: Any) -> dict[Any, Any] | None:
    """Run one job with a server and workers of this process, and return its results.

    Raises:
        MapError, ReduceError, SourceRaised: as ``run_server`` of mincemeat.
        RuntimeError: the worker process was killed.
        OSError: the port is taken.
    """
    server, args = _make_server(options), _with_defaults(options)
    worker = Client()
    worker.executors = int(args.number_of_clients)
    interface = "" if args.password else "localhost"  # without a password nobody else can join
    server.conn(args.password, args.port, interface, asynchronous=True)
    try:
        with contextlib.suppress(OSError, RedismrError):  # a quick job may be over already
            worker.conn("localhost", args.port, args.password, asynchronous=True)
        while not (server.ended(SERVER_END_POLL_SECONDS) or worker.error):
            pass
    finally:
        server.close()
        worker.close()
        server.ended(None)
        worker.ended(None)
    if server.error:
        raise server.error
    if worker.error and not server.finished():
        raise worker.error
    return server.results()


def run_server(options: Any) -> dict[Any, Any] | None:
    """Run one job on the workers that join, and return its results.

    ``options`` is a mapping or an object with ``datasource``, and optionally ``mapfn``,
    ``reducefn``, ``server`` (its class), ``password`` and ``port``.
    """
    args = _with_defaults(options)
    return _make_server(options).run_server(password=args.password, port=args.port)


def run_client(options: Any = None) -> int:
    """Work for a server in one process; else as ``run_clients``."""
    return run_clients({**vars(_with_defaults(options)), "number_of_clients": 1})


def run_clients(options: Any = None) -> int:
    """Work for a server in ``number_of_clients`` processes until it ends; return the exit status.

    Tries to connect once, or every ``client_sleep_seconds``; with ``run_forever`` job after job.
    """
    args = _with_defaults(options)
    return work_for_server(
        args.hostname,
        args.port,
        args.password,
        executors=int(args.number_of_clients),
        wait=args.client_sleep_seconds is not None,
        loop=args.run_forever,
        retry_seconds=float(args.client_sleep_seconds or MINIMUM_CLIENT_SLEEP_SECONDS),
        quiet=args.quiet,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    args = _parser().parse_args(argv)
    if args.host:
        args.hostname = args.host
    if args.level:
        logging.basicConfig(level=args.level)
    return run_clients(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="shepherd.py", description="Keep workers for a server.")
    add = parser.add_argument
    add("-p", "--password", default=DEFAULT_PASSWORD)
    add("-H", "--hostname", default=DEFAULT_HOSTNAME)
    add("-P", "--port", type=int, default=DEFAULT_PORT)
    add("-v", "--verbose", dest="level", action="store_const", const=logging.INFO)
    add("-V", "--loud", dest="level", action="store_const", const=logging.DEBUG)
    add("-q", "--quiet", action="store_true", help="say nothing")
    add("-n", "--number_of_clients", type=int, default=1, help="how many processes work")
    add("-s", "--sleep", dest="client_sleep_seconds", type=float, metavar="SECONDS",
        help="wait for a server, and try to connect this often")  # fmt: skip
    add("-t", "--client_timeout", dest="client_timeout_seconds", help=argparse.SUPPRESS)
    add("-8", "--run_forever", action="store_true", help="work for one server after another")
    add("-i", "--input_filename", default="", help=argparse.SUPPRESS)
    add("--version", action="version", version=f"%(prog)s {VERSION}")
    add("host", nargs="?", help="the server [localhost]")
    return parser


def _as_dict(options: Any) -> dict[str, Any]:
    if options is None:
        return {}
    return dict(options) if isinstance(options, Mapping) else dict(vars(options))


def _with_defaults(options: Any) -> SimpleNamespace:
    return SimpleNamespace(**{**vars(_parser().parse_args([])), **_as_dict(options)})


def _make_server(options: Any) -> Server:
    given = _as_dict(options)
    server: Server = given.get("server", Server)(given["datasource"])
    for name in ("mapfn", "collectfn", "reducefn"):
        if given.get(name) is not None:
            setattr(server, name, given[name])
    return server


if __name__ == "__main__":
    use_safe_streams(strict=True)
    sys.exit(main())
