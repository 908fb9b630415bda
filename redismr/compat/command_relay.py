"""How a client's own functions, which run in processes beside it, send commands: through it."""

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
"""A socket in a folder of this user's, and what to say there to be heard."""


class Relay:
    """Calls ``send`` with what ``send_through_relay`` was called with in another process of this machine."""  # noqa: E501

    def __init__(self, send: Callable[[str, Any, Any], None]) -> None:
        self._send, self._ended = send, False
        key = os.urandom(32)
        self._listener = connection.Listener(family="AF_UNIX", authkey=key)
        self.address: Address = str(self._listener.address), key
        threading.Thread(target=self._listen, name="mincemeat-relay", daemon=True).start()

    def close(self) -> None:
        """Hear nothing more."""
        self._ended = True
        with contextlib.suppress(OSError):  # who waits in accept sees nothing of a close
            connection.Client(self.address[0]).close()
        self._listener.close()

    def _listen(self) -> None:
        while not self._ended:
            gone = EOFError, OSError, AuthenticationError  # also: closed before we came to accept
            with contextlib.suppress(*gone), self._listener.accept() as conn:
                conn.send(self._send_received(conn.recv_bytes()))

    def _send_received(self, message: bytes) -> Exception | None:
        """Send what was said; what keeps us from it, for its sender: this thread goes on."""
        try:
            self._send(*pickle.loads(message))  # noqa: S301  who knows our key may run code here anyway
        except Exception as exc:  # noqa: BLE001
            return exc if _can_be_pickled(exc) else RuntimeError(f"{type(exc).__name__}: {exc}")
        return None


def send_through_relay(
    address: Address | None, command: str, data: Any = None, txn: Any = None
) -> None:
    """Send a command through the relay at that address.

    Raises:
        ConfigError: there is none.
        Whatever ``send`` raised, or unpickling there; RuntimeError for what cannot be sent here.
    """
    if address is None:
        raise ConfigError(
            f"no way to send {command!r} from here: of the functions that run on a worker, only "
            "methods of its own Client can send commands"
        )
    with connection.Client(address[0], authkey=address[1]) as conn:
        conn.send_bytes(pickle_by_value.dumps((command, data, txn)))
        error = conn.recv()
    if error is not None:
        raise error


def _can_be_pickled(error: Exception) -> bool:
    try:
        return isinstance(pickle.loads(pickle.dumps(error)), Exception)  # noqa: S301  our own
    except Exception:  # noqa: BLE001  whatever its __init__ or __reduce__ raises
        return False
