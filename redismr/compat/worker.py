"""``Client`` of mincemeat.py and of its fork: a worker for the server that listens at a port."""

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

from redismr.compat import doorway, hosting
from redismr.compat.adapted_functions import FUNCTIONS_FD_VARIABLE, LOG_LEVEL_VARIABLE
from redismr.compat.endpoint import Endpoint, pong_data
from redismr.compat.server_liveness import ConnectionLiveness, ListenerLiveness
from redismr.compat.user_commands import SERVER, CommandBus, Relay, channel_label
from redismr.errors import CodeError, RedismrError

log = logging.getLogger("mincemeat")

_GREETING_TRIES, _GREETING_SECONDS = 50, 0.1


class Client(Endpoint):
    """Works for one server until that server ends.

    Its own ``mapfn``, ``collectfn`` and ``reducefn`` are used if the server sends none.
    """

    mapfn: Any = None
    collectfn: Any = None
    reducefn: Any = None
    password: Any = None
    executors = 1  #: tasks that the client runs at a time, each in a process of its own
    waits_for_next_run = False
    """True if the client waits for the next run when one is over. Set it where the client would
    only be started again."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._liveness: ConnectionLiveness | ListenerLiveness | None = None
        self._command_bus: CommandBus | None = None
        self._connect_finished, self._greeting_answered = threading.Event(), threading.Event()
        self._authenticated, self._server_address = False, ""
        self._run_is_on, self._open_port_count = True, 0

    def conn(
        self,
        interface: str = "",
        port: int = hosting.MINCEMEAT_PORT,
        password: str | bytes | None = None,
        asynchronous: bool = False,  # noqa: FBT001, FBT002
        **_ignored: Any,
    ) -> None:
        """Work for the server at this address until the server ends; asynchronously, in a thread.

        If there is no server, or the server refuses this client, ``handle_error`` is called;
        ``authenticated`` is False afterwards.
        """
        doorway.refuse_while_loading()
        doorway.open_missing_descriptors()
        self._reset_state()
        self._connect_finished.clear()
        self._authenticated = False
        host = interface or "localhost"
        password = hosting.password_text(self.password if password is None else password)
        self._server_address = f"{host}:{port}"
        try:
            connection = self._connect(host, port, password)
        except (OSError, RedismrError) as exc:
            self.error = exc
            self._disconnect()
            self.handle_error()
            return
        self._authenticated = True
        self._map[id(self)] = self
        self._connect_finished.set()
        log.info("Authenticated other end")
        if asynchronous:
            work, args = self._work_in_thread, (connection,)
            threading.Thread(target=work, args=args, name="mincemeat-client", daemon=True).start()
        else:
            self._work(connection)

    def authenticated(self, timeout: float | None = 0.0) -> bool:
        """True if the server let this client in, within ``timeout`` seconds; None waits."""
        self._connect_finished.wait(timeout)
        return self._authenticated

    def finished(self, timeout: float | None = 0.0) -> bool:
        """True if the client has worked until the server ended, within ``timeout`` seconds."""
        return self._ended.wait(timeout) and self.error is None

    def close(self) -> None:
        """Stop working, and give running tasks back. Call it from any thread."""
        self._closing.set()
        if self._liveness:
            self._liveness.stop_waiting()

    handle_close = close

    def handle_error(self) -> None:
        """Print why there is no server. A subclass may raise ``error`` out of ``conn``."""
        doorway.print_message(self._error_message(), sys.stderr)

    # -- commands -----------------------------------------------------------------

    def unrecognized_command(self, command: str, data: Any = None, txn: Any = None) -> bool:
        """Handle a command of the server; return True if it is known. For subclasses."""
        return False

    def pong(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Handle the server's answer to ``ping``. For subclasses."""

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send the server a command. Call it from any thread."""
        assert self._command_bus is not None, "not connected"
        self._command_bus.send(SERVER, command, data, txn)

    def _on_command(self, _sender: str, command: str, data: Any, txn: Any) -> None:
        if command in {hosting.SERVING, hosting.RELEASED}:
            self._run_is_on = command == hosting.SERVING
            if not (self._run_is_on or self.waits_for_next_run):
                self.close()
            self._greeting_answered.set()
        elif command == "ping":
            self.send_command("pong", pong_data(data), txn)
        elif command == "pong":
            self.pong(command, data, txn)
        elif command == "disconnect":
            self.handle_close()
        elif not self.unrecognized_command(command, data, txn):
            log.critical("Unknown command received: %s", command)

    # -- the work -----------------------------------------------------------------

    def _connect(self, host: str, port: int, password: str) -> doorway.Connection:
        named = doorway.resolve_connection()
        if named is not None:
            self._liveness = ListenerLiveness(
                named, channel_label(port, SERVER), waits_for_next_run=self.waits_for_next_run
            )
            connection = named
        else:
            self._liveness = ConnectionLiveness(host, port, password)
            connection = doorway.join(host, port, password, namespace=hosting.NAMESPACE)
        self.addr = host, port
        self.locl = socket.gethostname(), f"{os.getpid()}:{secrets.token_hex(4)}"
        self._command_bus = CommandBus(connection, port, ":".join(self.locl), self._on_command)
        self._command_bus.wait_until_listening()
        if named is None:
            self._ask_whether_serving()
        return connection

    def _ask_whether_serving(self) -> None:
        """Ask the server whether a run is on; raise ConnectionRefusedError if it says no."""
        self._run_is_on = True
        self._greeting_answered.clear()
        deadline = time.monotonic() + _GREETING_TRIES * _GREETING_SECONDS
        for _ in range(_GREETING_TRIES):  # a server that has just started may not listen yet
            self.send_command(hosting.HELLO)
            if self._greeting_answered.wait(_GREETING_SECONDS) or time.monotonic() > deadline:
                break  # a server that has just ended never answers, and each send takes seconds
        if self._closing.is_set():
            raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))

    def _is_port_taken_over(self) -> bool:
        """True if another server has the port, which ours frees between two runs."""
        is_open = not self._run_is_on and self._liveness and self._liveness.is_port_open()
        self._open_port_count = self._open_port_count + 1 if is_open else 0
        # At the first look it may be our server, whose message is still on the way.
        return self._open_port_count > 1

    def _work_in_thread(self, connection: doorway.Connection) -> None:
        try:
            self._work(connection)
        except Exception as exc:
            if exc is not self.error:  # raised by handle_error: see self.error
                raise

    def _work(self, connection: doorway.Connection) -> None:
        try:
            self._run_worker(connection)
        except Exception as exc:  # noqa: BLE001  handle_error reports it
            self.error = exc
            self._disconnect()
            self.handle_error()  # within the ``except``: an override may re-raise
        finally:
            self._disconnect()

    def _run_worker(self, connection: doorway.Connection) -> None:
        assert self._liveness is not None
        with tempfile.TemporaryFile() as functions_file:  # a variable holds 128 KB at most
            functions_file.write(self._pickled_functions())
            functions_file.flush()
            descriptor = functions_file.fileno()
            # Unbuffered: a worker whose server has ended is killed, with what it has buffered.
            environ = {
                "PYTHONUNBUFFERED": "1",
                FUNCTIONS_FD_VARIABLE: str(descriptor),
                LOG_LEVEL_VARIABLE: str(logging.root.level) if logging.root.handlers else "",
            }
            worker = doorway.LocalWorker(
                connection, self.executors, environ=environ, stdout=1, pass_fds=(descriptor,)
            )
        try:
            self._liveness.wait(
                lambda: not (self._closing.is_set() or self._is_port_taken_over()) and worker.alive
            )
            if not worker.alive:
                raise RuntimeError("the worker process ended by itself")
        finally:
            worker.close()

    def _disconnect(self) -> None:
        if self._relay:
            self._relay.close()
            self._relay = None
        if self._command_bus:
            self._command_bus.close()
        if self._liveness:
            self._liveness.close()
        self._connect_finished.set()
        self._remove_from_map()

    def _error_message(self) -> str:
        reason = getattr(self.error, "strerror", None) or self.error
        return f"cannot work for {self._server_address}: {reason}"

    def _pickled_functions(self) -> bytes:
        """Return the pickle of this client's own functions, which executors read."""
        names = ("mapfn", "collectfn", "reducefn")
        if script := sys.modules.get("__mp_main__"):  # the script, in a spawned child
            cloudpickle.register_pickle_by_value(script)
        functions = {n: f for n in names if (f := getattr(self, n)) is not None}
        if functions:
            self._relay = Relay(self.send_command)
        for name, func in functions.items():
            if error := _pickling_error(func):
                is_own_method = getattr(func, "__self__", None) is self
                pickled = SimpleNamespace(**self.__reduce__()[1][1]) if is_own_method else func
                reason = doorway.explain_pickle_error(pickled, error, _pickling_error)
                text = f"the client's {name} cannot be sent to executors: {reason}"
                raise CodeError(text) from error
        return doorway.pickle_by_value.dumps(functions)


def _pickling_error(thing: object) -> Exception | None:
    try:
        doorway.pickle_by_value.dumps(thing)
    except Exception as error:  # noqa: BLE001  __reduce__ may raise anything
        return error
    return None
