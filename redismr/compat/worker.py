"""``Client`` of mincemeat.py and of its fork: a worker for whatever server listens at a port."""

from __future__ import annotations

import base64
import functools
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import MutableSequence
from typing import Any

import cloudpickle

from redismr.client.embedded import LocalWorker
from redismr.compat import timers
from redismr.compat.commands import SERVER, Commands, label
from redismr.compat.endpoint import Endpoint, answer
from redismr.compat.functions import OWN
from redismr.compat.hosting import DEFAULT_PORT, NAMESPACE, as_text, guests, named_server
from redismr.compat.line import Line, Presence
from redismr.config import Connection
from redismr.errors import RedismrError
from redismr.server import join
from redismr.ui.errors import say

log = logging.getLogger("mincemeat")


class Client(Endpoint):
    """Works for one server until that ends.

    ``mapfn`` and ``reducefn``, set here or in a subclass, are used where the server sends none.
    """

    mapfn: Any = None
    reducefn: Any = None
    password: Any = None
    executors = 1
    """How many tasks it runs at a time, each in a process of its own."""

    def __init__(
        self,
        map: dict[int, Any] | None = None,  # noqa: A002  the fork's word
        schedule: MutableSequence[timers.Timer] | None = None,
        shuttout: float | None = None,
    ) -> None:
        super().__init__(map, schedule, shuttout)
        self._line: Line | Presence | None = None
        self._commands: Commands | None = None
        self._settled = threading.Event()
        self._authenticated, self._where = False, ""

    def conn(
        self,
        interface: str = "",
        port: int = DEFAULT_PORT,
        password: str | bytes | None = None,
        asynchronous: bool = False,  # noqa: FBT001, FBT002
        **_ignored: Any,
    ) -> None:
        """Work for the server at that address until it ends; asynchronously, in a thread.

        A server that refuses us, or is not there, is ``handle_error``'s to judge; ``authenticated``
        tells afterwards.
        """
        self._begin()
        self._settled.clear()
        self._authenticated = False
        word, host = as_text(self.password if password is None else password), interface
        self._where = f"{host or 'localhost'}:{port}"
        try:
            connection = self._reach(host or "localhost", port, word)
        except (OSError, RedismrError) as exc:
            self.error = exc
            self._leave()
            self.handle_error()
            return
        self._authenticated = True
        self._join_loop()
        guests.setdefault(port, set()).add(self)
        self._settled.set()
        log.info("Authenticated other end")
        work = functools.partial(self._work, connection, port)
        if asynchronous:
            threading.Thread(target=work, name="mincemeat-client", daemon=True).start()
        else:
            work()

    def authenticated(self, timeout: float | None = 0.0) -> bool:
        """Whether the server let us in, within ``timeout`` seconds; None waits."""
        self._settled.wait(timeout)
        return self._authenticated

    def finished(self, timeout: float | None = 0.0) -> bool:
        """Whether it has worked until its server's end, within ``timeout`` seconds; None waits."""
        return self._ended.wait(timeout) and self.error is None

    def close(self) -> None:
        """Stop working; what runs is given back. From any thread."""
        self._closing.set()
        if self._line:
            self._line.close()

    handle_close = close

    def handle_error(self) -> None:
        """Say why there is no server for us. Subclasses may re-raise: out of ``conn`` it comes."""
        reason = getattr(self.error, "strerror", None) or self.error
        say(f"cannot work for {self._where}: {reason}", sys.stderr)

    # -- commands -----------------------------------------------------------------

    def unrecognized_command(self, command: str, data: Any = None, txn: Any = None) -> bool:
        """A command of the server's. For subclasses; True says that it was understood."""
        return False

    def pong(self, command: str, data: Any = None, txn: Any = None) -> None:
        """The server's answer to ``ping``. For subclasses."""

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send the server a command. From any thread."""
        assert self._commands is not None, "not connected"
        self._commands.send(SERVER, command, data, txn)

    def _heard(self, _sender: str, command: str, data: Any, txn: Any) -> None:
        if command == "ping":
            self.send_command("pong", answer(data), txn)
        elif command == "pong":
            self.pong(command, data, txn)
        elif not self.unrecognized_command(command, data, txn):
            log.critical("Unknown command received: %s", command)

    # -- the work -----------------------------------------------------------------

    def _reach(self, host: str, port: int, password: str) -> Connection:
        named = named_server()
        if named is not None:
            self._line = Presence(named, label(port, SERVER))
            connection = named
        else:
            self._line = Line(host, port, password)
            connection = join(host, port, password, namespace=NAMESPACE)
        name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._commands = Commands(connection, port, name, self._heard)
        self._commands.ready()
        return connection

    def _work(self, connection: Connection, port: int) -> None:
        assert self._line is not None
        try:
            # Prints are seen at once: a worker whose server has ended is killed, not asked to end.
            environ = {"PYTHONUNBUFFERED": "1", OWN: self._own_functions()}
            worker = LocalWorker(connection, self.executors, environ=environ, stdout=1)
            try:
                self._line.wait(lambda: worker.alive and not self._closing.is_set())
                if not worker.alive:
                    self.error = RuntimeError("the worker process ended by itself")
                    say(f"cannot work on: {self.error}", sys.stderr)
            finally:
                worker.close()
        finally:
            guests.get(port, set()).discard(self)
            self._leave()

    def _leave(self) -> None:
        if self._commands:
            self._commands.close()
        if self._line:
            self._line.release()
        self._settled.set()
        self._leave_loop()

    def _own_functions(self) -> str:
        """What executors find in their environment, as text; empty if it has none."""
        own = {n: f for n in ("mapfn", "reducefn") if (f := getattr(self, n)) is not None}
        return base64.b85encode(cloudpickle.dumps(own)).decode() if own else ""
