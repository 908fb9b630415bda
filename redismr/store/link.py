"""One client to the server, and the rule of what happens when it does not answer.

Everything sent through ``Link.safely`` may be repeated without harm (scripts by token or nonce,
HSETs of the same bytes, reads), so a lost reply is answered by sending it again, with jitter, until
patience runs out. redis-py's errors end here: above this room there are only ours.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import redis
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)

from redismr.config import Connection
from redismr.errors import KeysAltered, StoreError, StoreFull, StoreUnavailable
from redismr.store.connect import BLOCK_SECONDS, check_server, connect, replicas
from redismr.store.scripts import script

T = TypeVar("T")
Argument = str | bytes | int

AWAY = (
    redis.ConnectionError,
    redis.TimeoutError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    TryAgainError,
    OSError,
)
"""Faults that pass: the server is down, starting, failing over, or the line was cut."""

FULL_SECONDS = 120.0
"""How long a write refused for lack of memory is tried again before it is an error."""


class Link:
    """A client, the scripts on it, and patience. Thread-safe: redis-py keeps a pool.

    ``patience`` is in seconds; None waits for ever (workers do), 0 never repeats.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        patience: float | None = 30.0,
        name: str = "redismr",
        timeout: float = BLOCK_SECONDS + 10,
        on_wait: Callable[[str], None] | None = None,
    ) -> None:
        self.connection = connection
        self.client = connect(connection, name=name, timeout=timeout)
        self.patience = patience
        self._on_wait = on_wait

    @property
    def where(self) -> str:
        """The server's address for messages, without passwords."""
        kwargs = self.client.connection_pool.connection_kwargs
        if "path" in kwargs:
            return f"unix socket {kwargs['path']}"
        return f"{kwargs.get('host')}:{kwargs.get('port')}"

    @property
    def db(self) -> int:
        """The database index."""
        return int(self.client.connection_pool.connection_kwargs.get("db") or 0)

    def check(self) -> None:
        """Raise if there is no server, or none that may hold jobs."""
        check_server(self.client, self.where)

    def replicas(self) -> int:
        """How many replicas follow the server."""
        return self.safely(lambda: replicas(self.client))

    def close(self) -> None:
        """Close every connection of the pool."""
        self.client.connection_pool.disconnect()

    def safely(self, send: Callable[[], T]) -> T:
        """The answer of ``send``, which is repeated while the server is away or full.

        Raises:
            StoreUnavailable: patience ran out.
            StoreFull: the server stayed at maxmemory for ``FULL_SECONDS``.
            StoreError: the server refused the command for another reason.
        """
        started, attempt = time.monotonic(), 0
        while True:
            try:
                return send()
            except AWAY as exc:
                waited = time.monotonic() - started
                if self.patience is not None and waited >= self.patience:
                    raise StoreUnavailable(f"Redis at {self.where} does not answer: {exc}") from exc
                self._pause(attempt, f"Redis at {self.where} does not answer ({exc}); trying again")
            except OutOfMemoryError as exc:
                if time.monotonic() - started >= FULL_SECONDS:
                    raise StoreFull(
                        f"Redis at {self.where} is at maxmemory and stayed so for "
                        f"{FULL_SECONDS:.0f} s: give it more memory, or delete finished jobs"
                    ) from exc
                self._pause(attempt, f"Redis at {self.where} is full; waiting for room")
            except RedisError as exc:
                if _of_the_keys(str(exc)):
                    raise KeysAltered(
                        "a key in Redis does not hold what redismr puts there; something else "
                        f"wrote to it ({exc})"
                    ) from exc
                raise StoreError(f"Redis at {self.where} refused: {exc}") from exc
            attempt += 1

    def call(
        self,
        name: str,
        keys: Mapping[str, str],
        argv: Mapping[str, Argument],
        rest: Sequence[Argument] = (),
    ) -> list[Any]:
        """Run a script by name: one atomic step, safe to repeat."""
        its = script(name)
        arguments = [keys[key] for key in its.keys] + its.arguments(argv, rest)

        def send() -> list[Any]:
            try:
                reply = self.client.evalsha(its.sha, len(its.keys), *arguments)
            except NoScriptError:
                reply = self.client.eval(its.source, len(its.keys), *arguments)
            return list(reply)

        return self.safely(send)

    def together(
        self, commands: Sequence[Sequence[Argument]], *, atomic: bool = False
    ) -> list[Any]:
        """Several plain commands in one round trip; ``atomic`` puts them in MULTI/EXEC."""

        def send() -> list[Any]:
            with self.client.pipeline(transaction=atomic) as pipe:
                for command in commands:
                    pipe.execute_command(*command)  # type: ignore[no-untyped-call]
                return pipe.execute()

        return self.safely(send) if commands else []

    def one(self, *command: Argument) -> Any:
        """One plain command that is safe to repeat."""
        return self.safely(lambda: self.client.execute_command(*command))  # type: ignore[no-untyped-call]

    def _pause(self, attempt: int, text: str) -> None:
        if attempt >= 2 and self._on_wait:
            self._on_wait(text)
        # Full jitter: a thousand workers must not come back in step.
        time.sleep(random.uniform(0.005, min(1.0, 0.02 * 2 ** min(attempt, 8))))


def _of_the_keys(refusal: str) -> bool:
    """Whether a command failed on the data, not on the state of the server (MISCONF, BUSY...)."""
    if refusal.startswith("WRONGTYPE"):
        return True
    return "user_script" in refusal and not re.match(r"[A-Z]{3,} ", refusal)


def number(value: object, default: int = 0) -> int:
    """A clear number of Redis as an int; ``default`` for what is none: anybody may write there."""
    try:
        found = int(text(value))
    except ValueError:
        return default
    return found if abs(found) < 1 << 53 else default


def text(value: object) -> str:
    """A reply as text; nil is empty."""
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
