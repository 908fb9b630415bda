"""One client of the server, and the rule for a server that does not answer.

Every command that goes through ``RetryingClient.with_retries`` may be repeated without harm:
scripts by token or nonce, HSETs of the same bytes, reads. So after a lost reply the client sends
the command again, with jitter, until patience runs out. redis-py's errors end here: callers meet
only ours.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError, RedisError

from redismr.confidential import Unpicklable
from redismr.config import Connection
from redismr.errors import KeysAltered, StoreError, StoreFull, StoreUnavailable
from redismr.store.acl_rules import Role
from redismr.store.connect import BLOCK_SECONDS, address, connect
from redismr.store.error_kinds import (
    DEMOTED_WORDS,
    NO_ANSWER_ERRORS,
    TEMPORARY_WORDS,
    ErrorKind,
    error_kind,
)
from redismr.store.reply_values import Answer
from redismr.store.round_trips import NO_PIGGYBACK, Argument, Piggyback, RedisCommand
from redismr.store.scripts import script
from redismr.store.sentinel import is_sentinel_url
from redismr.store.server_fitness import check_server

PATIENCE_SECONDS = 30.0
"""Default time to wait for an answer."""

MAX_CHECKS = 3
"""How often a server is checked before the error says that there is none."""

QUICK_CHECK_SECONDS = 0.5
"""A check that fails after a longer time is not repeated."""

FULL_PATIENCE_SECONDS = 120.0
"""How long a client with the usual patience, or more, repeats a write that a full server refuses. A
client with less (a supervisor must not keep its leases waiting) gives up after its own patience."""

REPLICAS_CHECK_SECONDS = 5.0
"""How often a server without a replica is asked whether it has one by now."""


class RetryingClient(Unpicklable):
    """A client that repeats commands, with the scripts. Thread-safe: redis-py keeps a pool.

    ``patience`` is in seconds; None waits for ever (workers do), 0 never repeats. ``on_wait`` is
    called before each further try, with the reason and the seconds since the first try.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        patience: float | None = PATIENCE_SECONDS,
        name: str = "redismr",
        timeout: float = BLOCK_SECONDS + 10,
        on_wait: Callable[[str, float], None] | None = None,
    ) -> None:
        self.connection = connection
        self.client = connect(connection, name=name, timeout=timeout)
        self.patience = patience
        self._on_wait = on_wait
        self._replicated = is_sentinel_url(connection.url)
        self._replicas_checked_at = -REPLICAS_CHECK_SECONDS
        self._checked = False
        self._roles: set[Role] = set()

    def with_patience(self, seconds: float | None) -> RetryingClient:
        """Return a client on the same connections with another patience."""
        copy = object.__new__(RetryingClient)
        copy.__dict__ = {**self.__dict__, "patience": seconds}
        return copy

    @property
    def shown_address(self) -> str:
        """Address of the server for messages, without passwords."""
        return address(self.connection.url, self.client)

    @property
    def db(self) -> int:
        """Index of the database."""
        return int(self.client.connection_pool.connection_kwargs.get("db") or 0)

    def check(self, role: Role) -> None:
        """Raise if there is no server, an unfit one, or one that refuses commands of the role.

        A cut connection does not mean that the server is away, so a quick failure is repeated.
        """
        self._checked = True
        for checks in range(1, MAX_CHECKS + 1):
            began = time.monotonic()
            try:
                check_server(self.connection, role)
                break
            except StoreUnavailable:
                if checks == MAX_CHECKS or time.monotonic() - began > QUICK_CHECK_SECONDS:
                    raise
            time.sleep(random.uniform(0.05, 0.15))
        self._roles.add(role)

    def require(self, role: Role) -> None:
        """Check once for each role, unless the server was never checked: it is our own then.

        A server that was there, and is away now, is waited for, as by any command.
        """
        started = time.monotonic()
        while self._checked and role not in self._roles:
            try:
                self.check(role)
            except StoreUnavailable as away:
                waited = time.monotonic() - started
                if self.patience is not None and waited >= self.patience:
                    raise
                if self._on_wait:
                    self._on_wait(f"{away}; waiting for it", waited)

    def may_fail_over(self) -> bool:
        """True if a failover may put a server here that has forgotten some writes.

        That is so under sentinels, and for good once a replica was seen: right after a failover the
        new master has none, and just then it may have forgotten what this client knows.
        """
        now = time.monotonic()
        if not self._replicated and now - self._replicas_checked_at >= REPLICAS_CHECK_SECONDS:
            found = self.with_retries(lambda: self.client.info("replication"))
            self._replicated = int(found.get("connected_slaves", 0)) > 0
            self._replicas_checked_at = now
        return self._replicated

    def is_full(self) -> bool:
        """True if the server is at its memory limit, and refuses commands that store more."""
        memory = self.with_retries(lambda: self.client.info("memory"))
        return 0 < int(memory.get("maxmemory", 0)) <= int(memory.get("used_memory", 0))

    def close(self) -> None:
        """Close every connection of the pool."""
        self.client.connection_pool.disconnect()

    def with_retries(self, send: Callable[[], Answer]) -> Answer:
        """Return the answer of ``send``; repeat it while the server is away or full.

        Raises:
            StoreUnavailable: patience ran out.
            StoreFull: the server stayed full for ``FULL_PATIENCE_SECONDS``, or patience ran out.
            KeysAltered: a key has another type than redismr gave it.
            StoreError: the server refused the command for another reason.
        """
        started, attempt, full = time.monotonic(), 0, False
        while True:
            try:
                return send()
            except (*NO_ANSWER_ERRORS, RedisError) as exc:
                kind = error_kind(exc)
                if (kind.word == "OOM") != full:  # another trouble, another patience
                    full, started = not full, time.monotonic()
                self._pause_or_raise(exc, kind, time.monotonic() - started, attempt)
            attempt += 1

    def _pause_or_raise(self, exc: Exception, kind: ErrorKind, waited: float, attempt: int) -> None:
        """Sleep if the command may be repeated; otherwise raise the matching StoreError."""
        # A wrong password is a ConnectionError, but stays.
        away = isinstance(exc, NO_ANSWER_ERRORS) and not isinstance(exc, redis.AuthenticationError)
        if kind.word == "OOM":
            limit = FULL_PATIENCE_SECONDS
            if self.patience is not None and self.patience < PATIENCE_SECONDS:
                limit = self.patience
            if waited >= limit:
                raise StoreFull(
                    f"Redis at {self.shown_address} is at its memory limit (maxmemory) and stayed so for "  # noqa: E501
                    f"{waited:.0f} s: give it more memory, or delete finished jobs"
                ) from exc
            text = f"Redis at {self.shown_address} is full; waiting for room"
        elif away or kind.word in TEMPORARY_WORDS:
            # Connect again: Sentinel, or DNS, knows the new master by now.
            if kind.word in DEMOTED_WORDS:
                self.client.connection_pool.disconnect(inuse_connections=False)
            if self.patience is not None and waited >= self.patience:
                gone = f"Redis at {self.shown_address} {_unavailable_text(kind, waited)}"
                raise StoreUnavailable(gone) from exc
            text = f"Redis at {self.shown_address} {_unavailable_text(kind)}"
            if self.patience:
                text = f"{text.rstrip('.')}; waiting for it, {self.patience:g} s at most"
        elif kind.is_altered:
            raise _keys_altered(kind.message) from exc
        else:
            raise StoreError(f"Redis at {self.shown_address} refused: {kind.full_text}") from exc
        if attempt >= 2 and self._on_wait:
            self._on_wait(text, waited)
        # Full jitter: a thousand workers must not come back in step. Short pauses at first: nobody
        # renews the tasks of a claim whose reply was lost until the claim is repeated.
        time.sleep(random.uniform(0.005, min(1.0, max(0.02, waited / 4))))

    def call(
        self,
        name: str,
        keys: Mapping[str, str],
        argv: Mapping[str, Argument],
        rest: Sequence[Argument] = (),
        before: Sequence[RedisCommand] = (),
        piggyback: Piggyback = NO_PIGGYBACK,
    ) -> list[Any]:
        """Run a script by name: one atomic step, safe to repeat.

        Plain commands in ``before`` are done in the same transaction, or not at all; those of the
        ``piggyback`` are outside of it.
        """
        loaded = script(name)
        arguments = loaded.arguments(keys, argv, rest)

        def send() -> tuple[Any, bool]:
            if before:  # EVAL with the full text: inside MULTI it is too late for NOSCRIPT
                step = (("MULTI",), *before, ("EVAL", loaded.source, *arguments), ("EXEC",))
                replies, refused = self._send_step(step, piggyback)
                return replies[-1], refused
            try:
                return self._send_step((("EVALSHA", loaded.sha, *arguments),), piggyback)
            except NoScriptError:
                return self._send_step((("EVAL", loaded.source, *arguments),), piggyback)

        reply, refused = self.with_retries(send)
        if refused:
            piggyback.on_refused()
        return list(reply)

    def call_each(
        self, name: str, many: Sequence[tuple[Mapping[str, str], Sequence[Argument]]],
        argv: Mapping[str, Argument],
    ) -> list[list[Any] | KeysAltered]:  # fmt: skip
        """Run one script for each (keys, rest), in one round trip: each is a step of its own.

        A call that meets an altered key has this error as its answer; the others are unaffected.
        """
        loaded = script(name)
        arguments = [loaded.arguments(keys, argv, rest) for keys, rest in many]

        def ask(*how: str) -> list[Any]:
            with self.client.pipeline(transaction=False) as pipe:
                for each in arguments:
                    pipe.execute_command(*how, *each)  # type: ignore[no-untyped-call]
                return pipe.execute(raise_on_error=False)

        def send() -> list[Any]:
            replies = ask("EVALSHA", loaded.sha)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                replies = ask("EVAL", loaded.source)
            for i, reply in enumerate(replies):
                if isinstance(reply, RedisError):
                    if not error_kind(reply).is_altered:
                        raise reply
                    replies[i] = _keys_altered(str(reply))
            return replies

        return self.with_retries(send) if many else []

    def pipeline(self, commands: Sequence[RedisCommand], *, atomic: bool = False) -> list[Any]:
        """Send plain commands in one round trip; ``atomic`` puts them in MULTI/EXEC."""
        return (
            self.with_retries(lambda: self._pipeline(commands, atomic=atomic)) if commands else []
        )

    def best_effort(self, *commands: RedisCommand) -> list[Any]:
        """Send plain commands that may be lost; return their answers, or none if they were lost.

        A full server drops them and nobody waits: the caller could be the one that makes room. A
        command that this user may not send is dropped as well: a monitor gives no hints.
        """

        def send() -> list[Any]:
            try:
                return self._pipeline(commands, atomic=False)
            except RedisError as exc:
                if error_kind(exc).word not in ("OOM", "NOPERM"):
                    raise
                return []

        return self.with_retries(send)

    def command(self, *command: Argument) -> Any:
        """Send one plain command that is safe to repeat."""
        return self.with_retries(lambda: self.client.execute_command(*command))  # type: ignore[no-untyped-call]

    def _send_step(
        self, commands: Sequence[RedisCommand], piggyback: Piggyback
    ) -> tuple[Any, bool]:
        """Return the answer to the last command, and True if a command behind them was refused."""
        if len(commands) == 1 and piggyback is NO_PIGGYBACK:
            return self.client.execute_command(*commands[0]), False  # type: ignore[no-untyped-call]
        with self.client.pipeline(transaction=False) as pipe:
            for each in (*piggyback.commands_before, *commands, *piggyback.commands_after):
                pipe.execute_command(*each)  # type: ignore[no-untyped-call]
            replies = pipe.execute(raise_on_error=False)
        end = len(piggyback.commands_before) + len(commands)
        answers = replies[len(piggyback.commands_before) : end]
        last = answers[-1]
        for answer in (*answers, *(last if isinstance(last, list) else ())):
            if isinstance(answer, Exception):
                raise answer
        return last, any(isinstance(reply, Exception) for reply in replies[end:])

    def _pipeline(self, commands: Sequence[RedisCommand], *, atomic: bool) -> list[Any]:
        with self.client.pipeline(transaction=atomic) as pipe:
            for command in commands:
                pipe.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipe.execute()


def _unavailable_text(kind: ErrorKind, waited: float = 0.0) -> str:
    """Say that a server refuses, or does not answer, and for how long (once patience is over)."""
    long = f" for {waited:.0f} s" if waited >= 1 else ""
    if kind.word:
        return f"{f'has refused{long}' if long else 'refuses for now'}: {kind.full_text}"
    return f"{f'has not answered{long}' if long else 'does not answer'}: {kind.message}"


def _keys_altered(message: str) -> KeysAltered:
    return KeysAltered(
        f"a key in Redis does not hold what redismr puts there; something else wrote to it ({message})"  # noqa: E501
    )
