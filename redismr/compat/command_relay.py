"""Lets functions that run in executors send commands through the client they belong to."""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
from collections.abc import Callable
from multiprocessing import AuthenticationError, connection
from typing import Any

from redismr.compat.doorway import pickle_by_value
from redismr.errors import ConfigError

Address = tuple[str, bytes]
"""The path of a socket that only this user can open, and the key that opens a connection."""


class Relay:
    """Calls ``send`` for each ``send_through_relay`` in another process of this machine."""

    def __init__(self, send: Callable[[str, Any, Any], None]) -> None:
        self._send, self._ended = send, False
        key = os.urandom(32)
        self._listener = connection.Listener(family="AF_UNIX", authkey=key)
        self.address: Address = str(self._listener.address), key
        threading.Thread(target=self._listen, name="mincemeat-relay", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._ended = True
        with contextlib.suppress(OSError):  # accept() does not notice that the listener is closed
            connection.Client(self.address[0]).close()
        self._listener.close()

    def _listen(self) -> None:
        while not self._ended:
            # The sender may have left before accept(), or has another key.
            gone = EOFError, OSError, AuthenticationError
            with contextlib.suppress(*gone), self._listener.accept() as conn:
                conn.send(self._send_received(conn.recv_bytes()))

    def _send_received(self, message: bytes) -> Exception | None:
        """Send one received command; return the error, for the sender. This thread must go on."""
        try:
            self._send(*pickle.loads(message))  # noqa: S301  only our executors know the key
        except Exception as exc:  # noqa: BLE001
            return exc if _can_be_pickled(exc) else RuntimeError(f"{type(exc).__name__}: {exc}")
        return None


def send_through_relay(
    address: Address | None, command: str, data: Any = None, txn: Any = None
) -> None:
    """Send a command through the relay at ``address``.

    Raises:
        ConfigError: there is no relay.
        Exception: the error that ``send``, or unpickling in the client, raised; RuntimeError
            instead of an error that cannot be pickled.
    """
    if address is None:
        raise ConfigError(
            f"cannot send {command!r} from here: of the functions that run on a worker, only "
            "methods of the worker's own Client can send commands"
        )
    with connection.Client(address[0], authkey=address[1]) as conn:
        conn.send_bytes(pickle_by_value.dumps((command, data, txn)))
        error = conn.recv()
    if error is not None:
        raise error


def _can_be_pickled(error: Exception) -> bool:
    try:
        return isinstance(pickle.loads(pickle.dumps(error)), Exception)  # noqa: S301  made here
    except Exception:  # noqa: BLE001  the class of the error may raise anything
        return False
