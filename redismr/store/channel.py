"""Pub/sub channels: hints that something has happened. The keys hold the truth."""

import os
import random
import re
import time
from contextlib import AbstractContextManager, suppress

import redis
import redis.client

from redismr.store.store_base import StoreBase

SUBSCRIBE_SECONDS = 5.0


class Subscription(AbstractContextManager["Subscription"]):
    """A pub/sub channel that reconnects by itself; messages of the meantime are lost.

    Attributes:
        resubscribed: True if the last ``get`` subscribed, or subscribed again.
    """

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._client, self._channel = client, channel
        self._pubsub: redis.client.PubSub | None = None
        self._pid = os.getpid()
        self.resubscribed = False

    def __exit__(self, *_: object) -> None:
        self.close()

    def get(self, seconds: float) -> bytes | None:
        """Return the next message, or None after ``seconds`` or if the connection was cut.

        The call that subscribes, or subscribes again, returns None at once: the caller must read
        the keys then. A channel carries only hints, so no error of it is raised: the call pauses
        and returns None.
        """
        self.resubscribed = False
        if self._pid != os.getpid():  # a forked child must not read from its parent's connection
            self._pid, self._pubsub = os.getpid(), None
        try:
            if self._pubsub is None:
                self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
                self._pubsub.subscribe(self._channel)
                self._pubsub.get_message(timeout=min(SUBSCRIBE_SECONDS, max(0.1, seconds)))
                self.resubscribed = True
                return None
            message = self._pubsub.get_message(timeout=seconds)
        except (redis.RedisError, OSError):
            # The next call makes a new connection: after a failover, to the new master.
            self.close()
            time.sleep(max(0.0, min(seconds, random.uniform(0.02, 0.1))))
            return None
        if message and message["type"] == "message":
            return bytes(message["data"])
        return None

    def close(self) -> None:
        """Leave the channel."""
        if self._pubsub is not None:
            with suppress(redis.RedisError, OSError):
                self._pubsub.close()
            self._pubsub = None


class ChannelStore(StoreBase):
    """Publishes and subscribes. A channel belongs to one transaction, or is that of all of them."""

    def publish(self, txn: str, message: bytes) -> None:
        """Publish to listeners of this transaction and of all; a lost message changes nothing."""
        channels = self._event_channels(txn)
        self.redis_client.best_effort(*(("PUBLISH", channel, message) for channel in channels))

    def publish_to(self, txn: str, message: bytes) -> None:
        """Publish to listeners of this transaction alone.

        Raises:
            StoreError: the server did not take the message.
        """
        self.redis_client.command("PUBLISH", self._channel(txn), message)

    def has_listener(self, txn: str) -> bool:
        """True if a client is subscribed to the transaction's own channel."""
        return bool(self.redis_client.command("PUBSUB", "NUMSUB", self._channel(txn))[1])

    def listened_txns(self, prefix: str) -> list[str]:
        """Transactions that begin with ``prefix`` and have a listener, each without the prefix."""
        start = self._channel(prefix)
        pattern = re.sub(r"([][*?\\])", r"\\\1", start) + "*"
        channels = self.redis_client.command("PUBSUB", "CHANNELS", pattern)
        return sorted(name[len(start.encode()) :].decode(errors="replace") for name in channels)

    def subscribe(self, txn: str | None) -> Subscription:
        """Messages of one transaction, or of all, from the first ``get`` on; for ``with``."""
        return Subscription(self.redis_client.client, self._channel(txn))

    def _event_channels(self, txn: str) -> tuple[str, str]:
        return self._channel(txn), self._channel(None)

    def _channel(self, txn: str | None) -> str:
        return self.keys.events(self.redis_client.db, txn)
