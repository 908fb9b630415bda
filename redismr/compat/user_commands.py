"""User commands between a server and its clients: signed messages over pub/sub, a channel for each.

An endpoint is connected if it listens to its channel: no list is kept, so none can be wrong. An
endpoint that is not connected misses what is published meanwhile, as it would with a closed socket.
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
"""Limit of one command. Redis disconnects a listener that leaves 32 MB of messages unread."""
_MESSAGE_WAIT_SECONDS = 0.25

CommandHandler = Callable[[str, str, Any, Any], None]


def channel_label(port: int, name: str) -> str:
    """Return the label of the channel of one endpoint: the server's, or that of a client."""
    return f"mincemeat:{port}:{SERVER if name == SERVER else f'client:{name}'}"


class CommandBus:
    """Sends the commands of one endpoint, and calls ``on_command`` with those it receives.

    ``on_command(sender, command, data, txn)`` is called in a thread of the bus. Nothing is
    unpickled that was not signed with the server's secret.
    """

    def __init__(
        self, connection: Connection, port: int, name: str, on_command: CommandHandler
    ) -> None:
        self.name, self.port, self._on_command = name, port, on_command
        self._store = Store(connection, name=f"mincemeat-{name}", patience=5.0)
        self._keyring = Keyring(connection.secret, connection.namespace)
        self._ended, self._listening = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, name=f"commands-{name}", daemon=True).start()

    def wait_until_listening(self, timeout: float = 5.0) -> bool:
        """Wait until this endpoint listens, and return True if it does within ``timeout`` seconds.

        Every command that is published from then on arrives.
        """
        return self._listening.wait(timeout)

    def send(self, recipient: str, command: str, data: Any = None, txn: Any = None) -> None:
        """Publish one command for the server, for one client, or for ``ALL_CLIENTS``.

        If the server has ended, nothing is raised: a daemon that pings may notice the end a moment
        later.

        Raises:
            ValueError: the command is too large.
        """
        # A command is signed for one recipient: a command for all is sent to each.
        for name in self.connected_clients() if recipient == ALL_CLIENTS else [recipient]:
            body = pickle_by_value.dumps((name, self.name, command, data, txn))
            if len(body) > _MAX_COMMAND_BYTES:
                raise ValueError(
                    f"the command {command!r} takes {len(body) / 1e6:.0f} MB, and at most "
                    f"{_MAX_COMMAND_BYTES / 1e6:.0f} can be sent: put large data into a file or job"
                )
            if self._ended.is_set():
                return
            try:
                self._store.publish_to(
                    channel_label(self.port, name), self._sign(name, body) + body
                )
            except StoreError as exc:
                log.info("the command %r was not sent: %s", command, exc)

    def connected_clients(self) -> list[str]:
        """Return the clients that listen; [] if this end is closed or the server has ended."""
        if self._ended.is_set():
            return []
        try:
            return self._store.listened_txns(channel_label(self.port, ""))
        except StoreError as exc:
            log.info("cannot list the connected clients: %s", exc)
            return []

    def close(self) -> None:
        """Stop listening."""
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
        self._store.redis_client.close()

    def _handle_message(self, message: bytes) -> None:
        tag, body = message[:TAG_BYTES], message[TAG_BYTES:]
        if not hmac.compare_digest(tag, self._sign(self.name, body)):
            return
        try:
            recipient, sender, command, data, txn = pickle.loads(body)  # noqa: S301  just authenticated
            if recipient == self.name:
                self._on_command(sender, command, data, txn)
        except Exception:
            log.exception("the handler of a command failed")
