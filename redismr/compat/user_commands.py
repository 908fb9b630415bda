"""User commands between a server and its clients: sealed messages over pub/sub, a channel for each.

Who listens to a channel of ours is there: no list is kept of that, so none can be wrong. What was
published while somebody was not connected is lost for them, as it was on a closed socket.
"""

from __future__ import annotations

import hmac
import logging
import pickle
import threading
from collections.abc import Callable
from typing import Any

from redismr.compat.doorway import TAG_BYTES, Connection, Keyring, Store, pickle_by_value
from redismr.errors import StoreError

log = logging.getLogger("mincemeat")

SERVER = "server"
ALL_CLIENTS = "*"
_MAX_COMMAND_BYTES = 16 << 20
"""In one command. A server drops who has not read 32 MB of them, and what was on the way to it."""
_MESSAGE_WAIT_SECONDS = 0.25

CommandHandler = Callable[[str, str, Any, Any], None]


def channel_label(port: int, name: str) -> str:
    """The channel that the server listens to, or one client."""
    return f"mincemeat:{port}:{SERVER if name == SERVER else f'client:{name}'}"


class CommandBus:
    """What one endpoint hears and says. ``on_command(sender, command, data, txn)`` runs in a thread.

    Nothing is unpickled that was not signed with the secret of the server.
    """  # noqa: E501

    def __init__(
        self, connection: Connection, port: int, name: str, on_command: CommandHandler
    ) -> None:
        self.name, self.port, self._on_command = name, port, on_command
        self._store = Store(connection, name=f"mincemeat-{name}", patience=5.0)
        self._keyring = Keyring(connection.secret, connection.namespace)
        self._ended, self._listening = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, name=f"commands-{name}", daemon=True).start()

    def wait_until_listening(self, timeout: float = 5.0) -> bool:
        """Wait until it hears; what is published from then on arrives."""
        return self._listening.wait(timeout)

    def send(self, recipient: str, command: str, data: Any = None, txn: Any = None) -> None:
        """Publish one command for the server, one client, or ``ALL_CLIENTS``.

        Once the server is gone nobody hears it, and nothing is raised: a daemon that pings may
        be a moment behind.

        Raises:
            ValueError: it is too large.
        """
        for name in self.connected_clients() if recipient == ALL_CLIENTS else [recipient]:
            body = pickle_by_value.dumps((name, self.name, command, data, txn))
            if len(body) > _MAX_COMMAND_BYTES:
                raise ValueError(
                    f"the command {command!r} takes {len(body) / 1e6:.0f} MB, and at most "
                    f"{_MAX_COMMAND_BYTES / 1e6:.0f} can be sent: put what is large into a file or a job"  # noqa: E501
                )
            if self._ended.is_set():
                return
            try:
                self._store.publish_to(
                    channel_label(self.port, name), self._sign(name, body) + body
                )
            except StoreError as exc:
                log.info("a command was not sent: %s", exc)

    def connected_clients(self) -> list[str]:
        """Who listens as a client now; nobody once this end is closed, or the server gone."""
        if self._ended.is_set():
            return []
        try:
            return self._store.listened_txns(channel_label(self.port, ""))
        except StoreError as exc:
            log.info("cannot see who is there: %s", exc)
            return []

    def close(self) -> None:
        """Hear nothing more."""
        self._ended.set()

    def _sign(self, recipient: str, body: bytes) -> bytes:
        place = ("mincemeat", channel_label(self.port, recipient))
        return self._keyring.sign("", "event", place, body)

    def _listen(self) -> None:
        with self._store.subscribe(channel_label(self.port, self.name)) as channel:
            while not self._ended.is_set():
                message = channel.get(_MESSAGE_WAIT_SECONDS)
                self._listening.set()  # the first call subscribes
                if message:
                    self._handle_message(message)
        self._store.server.close()

    def _handle_message(self, message: bytes) -> None:
        tag, body = message[:TAG_BYTES], message[TAG_BYTES:]
        if not hmac.compare_digest(tag, self._sign(self.name, body)):
            return
        try:
            recipient, sender, command, data, txn = pickle.loads(body)  # noqa: S301  just authenticated
            if recipient == self.name:
                self._on_command(sender, command, data, txn)
        except Exception:
            log.exception("a command failed")
