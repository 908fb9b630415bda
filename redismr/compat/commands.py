"""User commands between a server and its clients: sealed messages over two pub/sub channels.

What was published while somebody was not connected is lost for them, as it was on a closed socket.
"""

from __future__ import annotations

import hmac
import logging
import pickle
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import cloudpickle

from redismr.core.seal import Keyring
from redismr.errors import StoreError
from redismr.store import Store

if TYPE_CHECKING:
    from redismr.config import Connection

log = logging.getLogger("mincemeat")

SERVER = "server"
EVERYBODY = "*"
_TAG = 32
_POLL_SECONDS = 1.0

Receive = Callable[[str, str, Any, Any], None]


def label(port: int, name: str) -> str:
    """The channel that somebody listens to: the server's own, or that of all clients."""
    return f"mincemeat:{port}:{SERVER if name == SERVER else 'clients'}"


class Commands:
    """What one endpoint hears and says. ``receive(sender, command, data, txn)`` runs in a thread.

    Nothing is unpickled that was not signed with the secret of the server.
    """

    def __init__(self, connection: Connection, port: int, name: str, receive: Receive) -> None:
        self.name, self.port, self._receive = name, port, receive
        self._store = Store(connection, name=f"mincemeat-{name}", patience=5.0)
        self._keyring = Keyring(connection.secret, connection.namespace)
        self._ended, self._listening = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, name=f"commands-{name}", daemon=True).start()

    def ready(self, timeout: float = 5.0) -> bool:
        """Wait until it hears; what is published from then on arrives."""
        return self._listening.wait(timeout)

    def send(self, to: str, command: str, data: Any = None, txn: Any = None) -> None:
        """Publish one command for the server, one client, or ``EVERYBODY``.

        Once the server is gone nobody hears it, and nothing is raised: a daemon that pings may
        be a moment behind.
        """
        body = cloudpickle.dumps((to, self.name, command, data, txn))
        channel = self._store.keys.events(self._store.link.db, label(self.port, to))
        if self._ended.is_set():
            return
        try:
            self._store.link.one("PUBLISH", channel, self._sign(to, body) + body)
        except StoreError as exc:
            log.info("a command was not sent: %s", exc)

    def close(self) -> None:
        """Hear nothing more."""
        self._ended.set()

    def _sign(self, to: str, body: bytes) -> bytes:
        place = ("mincemeat", label(self.port, to))
        return self._keyring.sign("", "event", place, body)

    def _listen(self) -> None:
        with self._store.subscribed(label(self.port, self.name)) as channel:
            while not self._ended.is_set():
                message = channel.get(_POLL_SECONDS)
                self._listening.set()  # the first call subscribes
                if message:
                    self._take(message)
        self._store.link.close()

    def _take(self, message: bytes) -> None:
        tag, body = message[:_TAG], message[_TAG:]
        if not hmac.compare_digest(tag, self._sign(self.name, body)):
            return
        try:
            to, sender, command, data, txn = pickle.loads(body)  # noqa: S301  just authenticated
            if to in {self.name, EVERYBODY}:
                self._receive(sender, command, data, txn)
        except Exception:
            log.exception("a command failed")


class Channel:
    """The other end as somebody's hook sees it, to answer."""

    def __init__(self, commands: Commands, to: str) -> None:
        self.name, self._commands = to, commands

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send it a command. From any thread."""
        self._commands.send(self.name, command, data, txn)

    def send_command_backchannel(
        self, command: str, data: Any = None, txn: Any = None, timeout: float | None = None
    ) -> None:
        """The same: here every thread may send."""
        del timeout
        self.send_command(command, data, txn)
