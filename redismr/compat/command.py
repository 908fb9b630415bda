"""The worker command of mincemeat.py: ``python -m redismr.compat.mincemeat -p changeme HOST``."""

from __future__ import annotations

import argparse
import logging
import sys
import threading

from redismr.compat.hosting import DEFAULT_PORT
from redismr.compat.worker import Client

VERSION = "0.1.4"
RETRY_SECONDS = 0.5

DONE, REFUSED, STOPPED = 0, 3, 130


class _Patient(Client):
    """Waits for a server without a word; any other trouble is said, once."""

    told = ""

    def handle_error(self) -> None:
        """Quiet where there is no server yet."""
        if not isinstance(self.error, ConnectionRefusedError) and str(self.error) != self.told:
            self.told = str(self.error)
            super().handle_error()


def work(
    host: str, port: int = DEFAULT_PORT, password: str = "", *, executors: int = 1,
    loop: bool = False,
) -> int:  # fmt: skip
    """Work for a server until it ends, with ``loop`` for the next ones too; the exit status.

    0 when the server has ended; 3 where there was none, or it refused us; 130 after Ctrl-C.
    """
    client = _Patient() if loop else Client()
    client.password, client.executors = password, executors
    pause = threading.Event()
    try:
        while True:
            client.conn(host, port)
            refused = client.error is not None and not isinstance(client.error, OSError)
            if not loop or refused or isinstance(client.error, PermissionError):
                return REFUSED if client.error else DONE
            pause.wait(RETRY_SECONDS)
    except KeyboardInterrupt:
        return STOPPED


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
