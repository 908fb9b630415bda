"""The worker command of mincemeat.py: ``python -m redismr.compat.mincemeat -p changeme HOST``."""

from __future__ import annotations

import argparse
import logging
import sys
import threading

from redismr.compat.doorway import print_message, redact_url, resolve_connection
from redismr.compat.hosting import MINCEMEAT_PORT
from redismr.compat.worker import Client

MINCEMEAT_VERSION = "0.1.4"


class _ReportingClient(Client):
    """Reports why there is no server, or with ``waits_for_server`` what it waits for, once each."""

    waits_for_server = quiet = False
    last_message = ""

    def handle_error(self) -> None:
        """Print the error, unless it was printed last, or ``quiet`` is set."""
        text = self._error_message()
        if self.waits_for_server and isinstance(self.error, ConnectionRefusedError):
            text = f"waiting for {self._server_description()}"
        if text != self.last_message and not self.quiet:
            self.last_message = text
            print_message(text, sys.stderr)

    def _server_description(self) -> str:
        named = resolve_connection()
        if named is None:
            return f"a server at {self._server_address}"
        port = self._server_address.rpartition(":")[2]
        return (
            f"a server of port {port} at {redact_url(named.url)}, which the environment names: "
            "HOST and password are not used"
        )


def work_for_server(
    host: str, port: int = MINCEMEAT_PORT, password: str = "", *, executors: int = 1,
    wait: bool = False, loop: bool = False, retry_seconds: float = 0.5, quiet: bool = False,
) -> int:  # fmt: skip
    """Work for a server, on ``executors`` tasks at a time, until it ends; return the exit status.

    The status is 0 when the server has ended, 3 if no server listens or it refuses this client, and
    130 after Ctrl-C. With ``wait``, wait for a server, with a try every ``retry_seconds``; with
    ``loop``, wait for a server, and when it has ended for the next one. Waiting is reported once,
    and nothing if ``quiet``.
    """
    client, waits_for_server = _ReportingClient(), wait or loop
    client.password, client.executors = password, executors
    client.waits_for_server, client.quiet, client.waits_for_next_run = waits_for_server, quiet, loop
    never_set = threading.Event()
    try:
        while True:
            client.conn(host, port)
            error = client.error
            if error is None and not loop:
                return 0
            worth_retrying = isinstance(error, OSError) and not isinstance(error, PermissionError)
            if error is not None and not (waits_for_server and worth_retrying):
                return 3
            never_set.wait(retry_seconds)
    except KeyboardInterrupt:
        return 130


def run_client(argv: list[str] | None = None) -> None:
    """Run the command line in ``sys.argv``; exit with the status of the work, if that is not 0."""
    parser = argparse.ArgumentParser(prog="mincemeat.py", description="Work for a server.")
    add = parser.add_argument
    add("-p", "--password", default="", help="password")
    add("-P", "--port", type=int, default=MINCEMEAT_PORT, help="port of the server [%(default)s]")
    add("-v", "--verbose", action="store_const", dest="level", const=logging.INFO, help="say more")
    add("-V", "--loud", action="store_const", dest="level", const=logging.DEBUG, help="say all")
    add("-l", "--loop", action="store_true", help="keep trying to connect, and wait for more work")
    add("-n", "--executors", type=int, default=1, help="how many tasks to run at a time [1]")
    add("--version", action="version", version=f"%(prog)s {MINCEMEAT_VERSION}")
    add("server", nargs="?", default="localhost", help="host of the server [localhost]")
    args = parser.parse_args(argv)
    if args.level:
        logging.basicConfig(level=args.level)
    status = work_for_server(
        args.server, args.port, args.password, executors=args.executors, loop=args.loop
    )
    if status:
        sys.exit(status)
