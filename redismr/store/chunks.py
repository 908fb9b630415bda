"""Bulk data: splits, segments and result chunks, under field names that hold a token.

Bulk first, control last: no chunk counts until a commit names it, so plain pipelined writes are
enough. A write and its deadline go in one MULTI, so that no key is ever left without a deadline.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from redismr.core.model import RUNNING_STATES
from redismr.store.reply_values import reply_text
from redismr.store.round_trips import RedisCommand
from redismr.store.store_base import StoreBase

Fields = Mapping[str, bytes]

COMMAND_ITEMS = 1000
"""Fields or keys that one command names at most: the server does nothing else meanwhile."""


class ChunkStore(StoreBase):
    """Reads and writes data that is too big for a script."""

    def get_inputs(self, job: str, tasks: Sequence[str]) -> list[bytes | None]:
        """Return the first piece of each task's split; None where it is missing."""
        by_key: dict[str, list[str]] = {}
        for task in tasks:
            by_key.setdefault(self.keys.input(job, int(task[1:])), []).append(task)
        replies = self.redis_client.pipeline(
            [("HMGET", key, *(f"{task}.0" for task in its)) for key, its in by_key.items()]
        )
        found: dict[str, bytes | None] = {}
        for its, values in zip(by_key.values(), replies, strict=True):
            found.update(zip(its, values, strict=True))
        return [found[task] for task in tasks]

    def get_input_piece(self, job: str, task: str, piece: int) -> bytes | None:
        """Return a further piece of a split that is larger than one chunk."""
        key = self.keys.input(job, int(task[1:]))
        return self.redis_client.command("HGET", key, f"{task}.{piece}")  # type: ignore[no-any-return]

    def put_segments(self, job: str, parts: Mapping[int, Fields], expire_at: int) -> None:
        """Stage chunks of a map attempt; ``parts`` is partition -> field -> sealed chunk."""
        by_key = {self.keys.shuffle(job, p): f for p, f in parts.items()}
        self.redis_client.pipeline(staging_commands(by_key, expire_at), atomic=True)

    def get_segments(self, job: str, partition: int, fields: Sequence[str]) -> list[bytes | None]:
        """Return the named chunks of one partition, in this order; None where one is missing."""
        if not fields:
            return []
        return self.redis_client.command("HMGET", self.keys.shuffle(job, partition), *fields)  # type: ignore[no-any-return]

    def drop_segments(self, job: str, parts: Mapping[int, Iterable[str]]) -> None:
        """Delete exactly the named chunks: a reducer has read them, or an attempt was refused."""
        self.redis_client.pipeline(
            [
                ("HDEL", self.keys.shuffle(job, p), *batch)
                for p, fields in parts.items()
                for batch in split_batches(list(fields), COMMAND_ITEMS)
            ]
        )

    def put_result(self, job: str, fields: Fields, expire_at: int) -> None:
        """Stage result chunks of a reduce attempt; ``fields`` is field -> sealed chunk."""
        by_key = {self.keys.control(job, "out"): fields}
        self.redis_client.pipeline(staging_commands(by_key, expire_at), atomic=True)

    def get_result(self, job: str, fields: Sequence[str]) -> list[bytes | None]:
        """Return the named result chunks, in this order; None where one is missing."""
        if not fields:
            return []
        return self.redis_client.command("HMGET", self.keys.control(job, "out"), *fields)  # type: ignore[no-any-return]

    def drop_result(self, job: str, fields: Sequence[str]) -> None:
        """Delete result chunks that a refused reduce attempt staged."""
        if fields:
            self.redis_client.command("HDEL", self.keys.control(job, "out"), *fields)

    def extend_bulk(self, job: str, n_map: int, partitions: int, expire_at: int) -> None:
        """Let every input and shuffle hash live until ``expire_at``."""
        self.redis_client.pipeline(
            [("PEXPIREAT", key, expire_at) for key in self.keys.bulk(job, n_map, partitions)]
        )

    def free_bulk(self, job: str, n_map: int, partitions: int) -> None:
        """Unlink the bulk of a job that has ended or is gone; may be repeated.

        A failover may take the end back that the caller has seen: then the job runs again, and
        needs its input. So the state is read once more, on the connection of the unlinking, which
        a failover would cut. No transaction is used: a full server refuses it.
        """
        meta, keys = self.keys.control(job, "meta"), self.keys.bulk(job, n_map, partitions)

        def send() -> None:
            with self.redis_client.client.client() as connection:  # type: ignore[no-untyped-call]
                if reply_text(connection.hget(meta, "state")) not in RUNNING_STATES:
                    for batch in split_batches(keys, COMMAND_ITEMS):
                        connection.unlink(*batch)

        self.redis_client.with_retries(send)


def staging_commands(by_key: Mapping[str, Fields], expire_at: int) -> list[RedisCommand]:
    """Return commands, for one transaction, that write key -> fields with their deadline."""
    commands: list[RedisCommand] = []
    for key, fields in by_key.items():
        if fields:
            commands.append(("HSET", key, *(x for pair in fields.items() for x in pair)))
            commands.append(("PEXPIREAT", key, expire_at))
    return commands


def split_batches(items: list[str], size: int) -> Iterable[list[str]]:
    """Yield the items in order, at most ``size`` at a time."""
    return (items[i : i + size] for i in range(0, len(items), size))
