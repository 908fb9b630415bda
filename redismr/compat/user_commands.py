"""User commands between a server and its clients: signed messages over pub/sub, a channel for each.

An endpoint is connected if it listens to its channel: no list is kept, so none can be wrong. An
endpoint that is not connected misses what is published meanwhile, as it would with a closed socket.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import multiprocessing.connection
import os
import pickle
import socket
import threading
from collections.abc import Callable
from typing import Any

from redismr.compat import timers
from redismr.compat.doorway import TAG_BYTES, Connection, Keyring, Store, pickle_by_value
from redismr.errors import ConfigError, StoreError

log = logging.getLogger("mincemeat")

SERVER = "server"
ALL_CLIENTS = "*"
_MAX_COMMAND_BYTES = 16 << 20
"""Limit of one command. Redis disconnects a listener that leaves 32 MB of messages unread."""
_MESSAGE_WAIT_SECONDS = 0.25

RelayAddress = tuple[str, bytes]
"""The path of a socket that only this user can open, and the key that opens a connection."""


def channel_label(port: int, name: str) -> str:
    """Return the label of the channel of one endpoint: the server's, or that of a client."""
    return f"mincemeat:{port}:{SERVER if name == SERVER else f'client:{name}'}"


class CommandBus:
    """Sends the commands of one endpoint, and calls ``on_command`` with those it receives.

    ``on_command(sender, command, data, txn)`` is called in a thread of the bus. Nothing is
    unpickled that was not signed with the server's secret.
    """

    def __init__(
        self, connection: Connection, port: int, name: str, on_command: Callable[..., object]
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

        Nothing is raised if the server has ended: a daemon that pings may notice the end later.

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
            label = channel_label(self.port, name)
            try:
                self._store.publish_to(label, self._sign(name, body) + body)
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


class CommandSender:
    """An object with ``send_command`` and a ``name``: a server, a client, or a channel."""

    def name(self) -> str:
        """Return the name that texts use."""
        raise NotImplementedError

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send the other end a command. Call it from any thread."""
        raise NotImplementedError

    def send_command_backchannel(
        self, command: str, data: Any = None, txn: Any = None, timeout: float | None = None
    ) -> None:
        """Send the other end a command; the same as ``send_command``, which any thread may call."""
        del timeout
        self.send_command(command, data, txn)

    def ping(
        self, message: Any = None, payload: Any = None, now: float | None = None, **_: Any
    ) -> None:
        """Ask the other end to answer; ``pong`` is called with the answer."""
        ping_data = message or f"from {socket.getfqdn()}", payload or self.name()
        self.send_command("ping", ping_data, f"{now or timers.timer():.6f}")

    @staticmethod
    def ping_delay(txn: Any, now: float | None = None) -> tuple[float, str]:
        """Return how long ago the ping of this pong was sent, in seconds and as text."""
        try:
            delay = (timers.timer() if now is None else now) - float(txn)
        except (TypeError, ValueError):
            return 0.0, "?"
        return delay, f"{delay:.3f} s" if delay >= 0 else "?"


class Channel(CommandSender):
    """The server's end of the line to one client. Channels to the same client are equal."""

    def __init__(self, command_bus: CommandBus, client_name: str) -> None:
        self.client_name, self._command_bus = client_name, command_bus
        host, _, process = client_name.partition(":")
        self.addr = host, process

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Channel) and self.client_name == other.client_name

    def __hash__(self) -> int:
        return hash(self.client_name)

    def name(self) -> str:
        """Return the name that texts use."""
        return f"SvrChn>{self.client_name}"

    @property
    def closed(self) -> bool:
        """True if the client is no longer connected."""
        return self.client_name not in self._command_bus.connected_clients()

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send the client a command. Call it from any thread."""
        self._command_bus.send(self.client_name, command, data, txn)

    def handle_close(self) -> None:
        """Make the client leave."""
        self.send_command("disconnect")

    close = handle_close


class Relay:
    """Calls ``send`` for each ``send_through_relay`` in another process of this machine."""

    def __init__(self, send: Callable[[str, Any, Any], None]) -> None:
        self._send, self._ended = send, False
        key = os.urandom(32)
        self._listener = multiprocessing.connection.Listener(family="AF_UNIX", authkey=key)
        self.address: RelayAddress = str(self._listener.address), key
        threading.Thread(target=self._listen, name="mincemeat-relay", daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._ended = True
        with contextlib.suppress(OSError):  # accept() does not notice that the listener is closed
            multiprocessing.connection.Client(self.address[0]).close()
        self._listener.close()

    def _listen(self) -> None:
        while not self._ended:
            # The sender may have left before accept(), or has another key.
            gone = EOFError, OSError, multiprocessing.AuthenticationError
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
    address: RelayAddress | None, command: str, data: Any = None, txn: Any = None
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
    with multiprocessing.connection.Client(address[0], authkey=address[1]) as conn:
        conn.send_bytes(pickle_by_value.dumps((command, data, txn)))
        error = conn.recv()
    if error is not None:
        raise error


def _can_be_pickled(error: Exception) -> bool:
    try:
        return isinstance(pickle.loads(pickle.dumps(error)), Exception)  # noqa: S301  made here
    except Exception:  # noqa: BLE001  the class of the error may raise anything
        return False
