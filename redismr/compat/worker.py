"""``Client`` of mincemeat.py and of its fork: a worker for whatever server listens at a port."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import socket
import sys
import tempfile
import threading
import time
from types import SimpleNamespace
from typing import Any

import cloudpickle

from redismr import streams
from redismr.client.embedded import LocalWorker
from redismr.compat.commands import SERVER, Commands, label
from redismr.compat.endpoint import Endpoint, answer
from redismr.compat.functions import LEVEL, OWN
from redismr.compat.hosting import (
    DEFAULT_PORT,
    HELLO,
    NAMESPACE,
    RELEASED,
    SERVING,
    as_text,
    named_server,
)
from redismr.compat.line import Line, Presence
from redismr.compat.relay import Relay
from redismr.config import Connection
from redismr.core import byvalue
from redismr.errors import CodeError, RedismrError
from redismr.processes import refuse_while_loading
from redismr.server import join
from redismr.shipping.blame import reason
from redismr.ui.errors import say

log = logging.getLogger("mincemeat")

_GREETINGS, _GREETING_SECONDS = 50, 0.1


class Client(Endpoint):
    """Works for one server until that ends.

    ``mapfn``, ``collectfn`` and ``reducefn``, set here or in a subclass, are used where the server
    sends none.
    """

    mapfn: Any = None
    collectfn: Any = None
    reducefn: Any = None
    password: Any = None
    executors = 1
    """How many tasks it runs at a time, each in a process of its own."""

    stays = False
    """Whether it waits for its server's next run when one is over. Set where nobody waits for its
    end: it would connect again at once."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Arguments are those of every endpoint."""
        super().__init__(*given, **named)
        self._line: Line | Presence | None = None
        self._commands: Commands | None = None
        self._settled, self._greeted = threading.Event(), threading.Event()
        self._authenticated, self._where = False, ""
        self._serving, self._looks = True, 0

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
        refuse_while_loading()
        streams.fill()
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
        self._settled.set()
        log.info("Authenticated other end")
        if asynchronous:
            threading.Thread(
                target=self._work_apart, args=(connection,), name="mincemeat-client", daemon=True
            ).start()
        else:
            self._work(connection)

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
        say(self._trouble(), sys.stderr)

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
        if command in {SERVING, RELEASED}:
            self._told(serving=command == SERVING)
        elif command == "ping":
            self.send_command("pong", answer(data), txn)
        elif command == "pong":
            self.pong(command, data, txn)
        elif command == "disconnect":
            self.handle_close()
        elif not self.unrecognized_command(command, data, txn):
            log.critical("Unknown command received: %s", command)

    # -- the work -----------------------------------------------------------------

    def _reach(self, host: str, port: int, password: str) -> Connection:
        named = named_server()
        if named is not None:
            self._line = Presence(named, label(port, SERVER), stays=self.stays)
            connection = named
        else:
            self._line = Line(host, port, password)
            connection = join(host, port, password, namespace=NAMESPACE)
        self.addr = host, port
        self.locl = socket.gethostname(), f"{os.getpid()}:{secrets.token_hex(4)}"
        self._commands = Commands(connection, port, ":".join(self.locl), self._heard)
        self._commands.ready()
        if named is None:
            self._greet()
        return connection

    def _greet(self) -> None:
        """Hear whether a run is on.

        Raises:
            ConnectionRefusedError: the one that was is over.
        """
        self._serving = True
        self._greeted.clear()
        until = time.monotonic() + _GREETINGS * _GREETING_SECONDS
        for _ in range(_GREETINGS):  # a server that has just started may not hear yet
            self.send_command(HELLO)
            if self._greeted.wait(_GREETING_SECONDS) or time.monotonic() > until:
                break  # one that has just ended never will, and each word to it takes seconds
        if self._closing.is_set():
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    def _told(self, *, serving: bool) -> None:
        self._serving = serving
        if not (serving or self.stays):
            self.close()
        self._greeted.set()

    def _left_behind(self) -> bool:
        """Whether another server has the port: ours leaves it between two runs, and tells us."""
        line = None if self._serving or isinstance(self._line, Presence) else self._line
        self._looks = self._looks + 1 if line and line.somebody_listens() else 0
        return self._looks > 1  # at the first look it may be ours, which is about to tell us

    def _work_apart(self, connection: Connection) -> None:
        try:
            self._work(connection)
        except Exception as exc:
            if exc is not self.error:  # what handle_error re-raises: others ask for it
                raise

    def _work(self, connection: Connection) -> None:
        try:
            self._run_worker(connection)
        except Exception as exc:  # noqa: BLE001  it is for handle_error
            self.error = exc
            self._leave()
            self.handle_error()
        finally:
            self._leave()

    def _run_worker(self, connection: Connection) -> None:
        assert self._line is not None
        with tempfile.TemporaryFile() as own:  # a variable may hold 128 KB
            own.write(self._own_functions())
            own.flush()
            # Prints are seen at once: a worker whose server has ended is killed, not asked to end.
            environ = {"PYTHONUNBUFFERED": "1", OWN: str(own.fileno()), LEVEL: _log_level()}
            worker = LocalWorker(
                connection, self.executors, environ=environ, stdout=1, pass_fds=(own.fileno(),)
            )
        try:
            self._line.wait(
                lambda: not (self._closing.is_set() or self._left_behind()) and worker.alive
            )
            if not worker.alive:
                raise RuntimeError("the worker process ended by itself")
        finally:
            worker.close()

    def _leave(self) -> None:
        if self._relay:
            self._relay.close()
            self._relay = None
        if self._commands:
            self._commands.close()
        if self._line:
            self._line.release()
        self._settled.set()
        self._leave_loop()

    def _trouble(self) -> str:
        """What keeps it from its server, in words."""
        reason = getattr(self.error, "strerror", None) or self.error
        return f"cannot work for {self._where}: {reason}"

    def _own_functions(self) -> bytes:
        """What executors find.

        Raises:
            CodeError: one of them does not pickle.
        """
        names = ("mapfn", "collectfn", "reducefn")
        if script := sys.modules.get("__mp_main__"):  # what it is called in a spawned child
            cloudpickle.register_pickle_by_value(script)
        own = {n: f for n in names if (f := getattr(self, n)) is not None}
        if own:
            self._relay = Relay(self.send_command)
        for name, func in own.items():
            if error := _fault(func):
                ours = getattr(func, "__self__", None) is self
                thing = SimpleNamespace(**self.__reduce__()[1][1]) if ours else func
                raise CodeError(
                    f"its {name} cannot be sent to its executors: {reason(thing, error, _fault)}"
                ) from error
        return byvalue.dumps(own)


def _fault(thing: object) -> Exception | None:
    try:
        byvalue.dumps(thing)
    except Exception as error:  # noqa: BLE001  whatever a __reduce__ raises
        return error
    return None


def _log_level() -> str:
    """The level that this program has set; empty if it has set none."""
    return str(logging.root.level) if logging.root.handlers else ""
