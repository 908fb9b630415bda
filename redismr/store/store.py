"""The task protocol: one method per verb, each one atomic step on the server.

Every method may be repeated with the same arguments.
"""

from collections.abc import Callable
from typing import Self

from redismr.config import Connection
from redismr.store.connect import BLOCK_SECONDS
from redismr.store.executor_verbs import ExecutorVerbs
from redismr.store.keys import KeyNames
from redismr.store.retrying_client import PATIENCE_SECONDS, RetryingClient
from redismr.store.submitter_verbs import SubmitterVerbs


class Store(SubmitterVerbs, ExecutorVerbs):
    """A connection to the server that speaks in the verbs of the protocol.

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
        self._key_names = {}

    def with_patience(self, seconds: float | None) -> Self:
        """Return a store on the same connections that waits so long for a server that is away."""
        store = object.__new__(type(self))
        store.__dict__ = {**self.__dict__, "redis_client": self.redis_client.with_patience(seconds)}
        return store
