"""The worker command of mincemeat.py: ``python -m redismr.compat.mincemeat -p changeme HOST``."""

from __future__ import annotations

import argparse
import logging
import sys
import threading

from redismr.compat.hosting import DEFAULT_PORT, named_server
from redismr.compat.worker import Client
from redismr.settings import redacted
from redismr.ui.errors import say

VERSION = "0.1.4"
RETRY_SECONDS = 0.5

DONE, REFUSED, STOPPED = 0, 3, 130


class _Worker(Client):
    """Says what keeps it from its server, each thing once; with ``patient``, that there is none."""

    patient = quiet = False
    told = ""

    def handle_error(self) -> None:
        """Once, and not at all with ``quiet``."""
        absent = self.patient and isinstance(self.error, ConnectionRefusedError)
        text = f"waiting for {self._server()}" if absent else self._trouble()
        if text != self.told and not self.quiet:
            self.told = text
            say(text, sys.stderr)

    def _server(self) -> str:
        """What it waits for, in words."""
        named = named_server()
        if named is None:
            return f"a server at {self._where}"
        port = self._where.rpartition(":")[2]
        return (
            f"a server of port {port} at {redacted(named.url)}, which the environment names: HOST "
            "and password are not used"
        )


def work(
    host: str, port: int = DEFAULT_PORT, password: str = "", *, executors: int = 1,
    wait: bool = False, loop: bool = False, pause: float = RETRY_SECONDS, quiet: bool = False,
) -> int:  # fmt: skip
    """Work for a server until it ends; the exit status.

    0 when the server has ended; 3 where there was none, or it refused us; 130 after Ctrl-C.

    Args:
        host: where it is; with port and password.
        port: of the server.
        password: of the server.
        executors: how many tasks to run at a time.
        wait: for a server, trying every ``pause`` seconds; that is said, once.
        loop: the same, and for the next one when it has ended.
        pause: seconds between two tries.
        quiet: say nothing.
    """
    client, patient = _Worker(), wait or loop
    client.password, client.executors = password, executors
    client.patient, client.quiet, client.stays = patient, quiet, loop
    clock = threading.Event()
    try:
        while True:
            client.conn(host, port)
            error = client.error
            if error is None and not loop:
                return DONE
            if error is not None and not (patient and _may_pass(error)):
                return REFUSED
            clock.wait(pause)
    except KeyboardInterrupt:
        return STOPPED


def _may_pass(error: BaseException) -> bool:
    """Whether another try may go better."""
    return isinstance(error, OSError) and not isinstance(error, PermissionError)


def run_client(argv: list[str] | None = None) -> None:
    """The command line: reads ``sys.argv``, and exits with what ``work`` returns unless that is 0.

    What user functions print is printed here.
    """
    parser = argparse.ArgumentParser(prog="mincemeat.py", description="Work for a server.")
    add = parser.add_argument
    add("-p", "--password", default="", help="password")
    add("-P", "--port", type=int, default=DEFAULT_PORT, help=f"port of the server [{DEFAULT_PORT}]")
    add("-v", "--verbose", action="store_const", dest="level", const=logging.INFO, help="say more")
    add("-V", "--loud", action="store_const", dest="level", const=logging.DEBUG, help="say all")
    add("-l", "--loop", action="store_true", help="keep trying to connect, and wait for more work")
    add("-n", "--executors", type=int, default=1, help="how many tasks to run at a time [1]")
    add("--version", action="version", version=f"%(prog)s {VERSION}")
    add("server", nargs="?", default="localhost", help="host of the server [localhost]")
    chosen = parser.parse_args(argv)
    if chosen.level:
        logging.basicConfig(level=chosen.level)
    status = work(
        chosen.server, chosen.port, chosen.password, executors=chosen.executors, loop=chosen.loop
    )
    if status:
        sys.exit(status)
