"""Pub/sub channels: hints that something has happened. What is true is in the keys."""

from __future__ import annotations

import os
import random
import time
from contextlib import suppress
from typing import Self

import redis
import redis.client

SUBSCRIBE_SECONDS = 5.0


class Subscription:
    """A pub/sub channel that reconnects by itself; what was said meanwhile is lost.

    Attributes:
        resubscribed: the last ``get`` subscribed, or subscribed again.
    """

    def __init__(self, client: redis.Redis, channel: str) -> None:
        self._client, self._channel = client, channel
        self._pubsub: redis.client.PubSub | None = None
        self._pid = os.getpid()
        self.resubscribed = False

    def __enter__(self) -> Self:
        """For ``with``."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def get(self, seconds: float) -> bytes | None:
        """The next message, or None when ``seconds`` are over or the line was cut.

        The call that subscribes, or subscribes again, returns None at once: read the truth then.
        Trouble of the channel is nobody's error, for it is a hint: then None comes a bit later.
        """
        self.resubscribed = False
        if self._pid != os.getpid():  # a forked child, which must not read its parent's line
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
            # A new one next time, on a new connection: to the new master after a failover.
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
