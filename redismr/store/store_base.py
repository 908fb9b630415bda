"""What all parts of the store share: the connections, and a way to run scripts on a job's keys."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Self

from redismr.config import Connection
from redismr.errors import KeysAltered
from redismr.store.connect import BLOCK_SECONDS
from redismr.store.keys import CONTROL, KeyNames
from redismr.store.reply_values import Answer
from redismr.store.retrying_client import PATIENCE_SECONDS, RetryingClient
from redismr.store.round_trips import NO_PIGGYBACK, Argument, Piggyback, RedisCommand


class StoreBase:
    """A connection to the server.

    ``now_ms`` replaces the server's clock in tests; nothing else sets it.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        patience: float | None = PATIENCE_SECONDS,
        name: str = "redismr",
        timeout: float = BLOCK_SECONDS + 10,
        now_ms: int | None = None,
        on_wait: Callable[[str, float], None] | None = None,
    ) -> None:
        self.redis_client = RetryingClient(
            connection, patience=patience, name=name, timeout=timeout, on_wait=on_wait
        )
        self.keys = KeyNames(connection.namespace)
        self.now_ms = now_ms

    def with_patience(self, seconds: float | None) -> Self:
        """Return a store on the same connections that waits so long for a server that is away."""
        store = object.__new__(type(self))
        store.__dict__ = {**self.__dict__, "redis_client": self.redis_client.with_patience(seconds)}
        return store

    def _run(
        self,
        verb: str,
        job: str,
        rest: Sequence[Argument] = (),
        /,
        before: Sequence[RedisCommand] = (),
        piggyback: Piggyback = NO_PIGGYBACK,
        **argv: Argument,
    ) -> list[Any]:
        named = {"now_ms": self._now, **argv}
        return self.redis_client.call(
            verb, _control_keys(self.keys.namespace, job), named, rest, before, piggyback
        )

    def _run_each(
        self,
        verb: str,
        rest_by_job: Mapping[str, Sequence[Argument]],
        parse_reply: Callable[[str, list[Any]], Answer],
        **argv: Argument,
    ) -> dict[str, Answer | KeysAltered]:
        """Run one script for each job in one round trip; return job -> parsed reply."""
        calls = [
            (_control_keys(self.keys.namespace, job), rest) for job, rest in rest_by_job.items()
        ]
        named = {"now_ms": self._now, **argv}
        found: dict[str, Answer | KeysAltered] = {}
        replies = self.redis_client.call_each(verb, calls, named)
        for job, reply in zip(rest_by_job, replies, strict=True):
            try:
                found[job] = parse_reply(job, raise_if_altered(reply))
            except KeysAltered as exc:
                found[job] = exc
        return found

    @property
    def _now(self) -> Argument:
        """The test's time in ms, or empty: then scripts read the server's clock."""
        return "" if self.now_ms is None else self.now_ms


@lru_cache(maxsize=64)
def _control_keys(namespace: str, job: str) -> dict[str, str]:
    """Return the keys of a job by the names that scripts give them."""
    keys = KeyNames(namespace)
    names = {name: keys.control(job, name) for name in CONTROL}
    return names | {"end_": names["end"]}  # `end` is a keyword of Lua


def raise_if_altered(answer: Answer | KeysAltered) -> Answer:
    """Return the answer; raise it if it is an error about altered keys."""
    if isinstance(answer, KeysAltered):
        raise answer
    return answer
