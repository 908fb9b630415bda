"""Bulk data: splits, segments, result chunks. Plain pipelined writes under names that hold a token.

Bulk first, control last: nothing written here counts until a commit names it, so these need no
script. A write and its deadline go in one MULTI, so that no key is ever left without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from redismr.core.model import RUNNING_STATES
from redismr.store.reply_values import reply_text

if TYPE_CHECKING:
    from redismr.store.keys import Keys
    from redismr.store.retrying_client import RetryingClient
    from redismr.store.round_trips import RedisCommand

Fields = Mapping[str, bytes]


class ChunkStore:
    """Reads and writes of what is too big for a script."""

    server: RetryingClient
    keys: Keys

    def get_inputs(self, job: str, tasks: Sequence[str]) -> list[bytes | None]:
        """The first piece of each task's split; None where there is none."""
        return self._get_fields(
            [(self.keys.input(job, int(task[1:])), f"{task}.0") for task in tasks]
        )

    def get_input_piece(self, job: str, task: str, piece: int) -> bytes | None:
        """A further piece of a split larger than one chunk."""
        key = self.keys.input(job, int(task[1:]))
        return self.server.command("HGET", key, f"{task}.{piece}")  # type: ignore[no-any-return]

    def put_segments(self, job: str, parts: Mapping[int, Fields], expire_at: int) -> None:
        """Stage chunks of a map attempt: partition -> field -> sealed chunk."""
        by_key = {self.keys.shuffle(job, p): f for p, f in parts.items()}
        self.server.pipeline(staging_commands(by_key, expire_at), atomic=True)

    def get_segments(self, job: str, partition: int, fields: Sequence[str]) -> list[bytes | None]:
        """The named chunks of one partition, in the order named."""
        if not fields:
            return []
        return self.server.command("HMGET", self.keys.shuffle(job, partition), *fields)  # type: ignore[no-any-return]

    def drop_segments(self, job: str, parts: Mapping[int, Iterable[str]]) -> None:
        """Delete exactly the named chunks: read to their end, or staged by a refused attempt."""
        self.server.pipeline(
            [
                ("HDEL", self.keys.shuffle(job, p), *batch)
                for p, fields in parts.items()
                for batch in split_batches(list(fields), 1000)
            ]
        )

    def put_result(self, job: str, fields: Fields, expire_at: int) -> None:
        """Stage chunks of a reduce attempt's result."""
        by_key = {self.keys.control(job, "out"): fields}
        self.server.pipeline(staging_commands(by_key, expire_at), atomic=True)

    def get_result(self, job: str, fields: Sequence[str]) -> list[bytes | None]:
        """The named result chunks, in the order named."""
        if not fields:
            return []
        return self.server.command("HMGET", self.keys.control(job, "out"), *fields)  # type: ignore[no-any-return]

    def drop_result(self, job: str, fields: Sequence[str]) -> None:
        """Delete the chunks that a refused reduce attempt staged."""
        if fields:
            self.server.command("HDEL", self.keys.control(job, "out"), *fields)

    def extend_bulk(self, job: str, n_map: int, partitions: int, expire_at: int) -> None:
        """Every input and shuffle hash lives until ``expire_at``."""
        self.server.pipeline(
            [("PEXPIREAT", key, expire_at) for key in self.bulk_keys(job, n_map, partitions)]
        )

    def free_bulk(self, job: str, n_map: int, partitions: int) -> None:
        """Unlink the bulk of a job that has ended or is gone. May be repeated.

        Whoever saw the end may come with this after a failover took it back: then the job runs
        again, and needs its input. So it is looked at once more, on the connection that a failover
        would have cut. Not in a transaction: a full server takes none.
        """
        meta, keys = self.keys.control(job, "meta"), self.bulk_keys(job, n_map, partitions)

        def send() -> None:
            with self.server.client.client() as same:  # type: ignore[no-untyped-call]
                if reply_text(same.hget(meta, "state")) not in RUNNING_STATES:
                    for batch in split_batches(keys, 1000):
                        same.unlink(*batch)

        self.server.with_retries(send)

    def bulk_keys(self, job: str, n_map: int, partitions: int) -> list[str]:
        """The keys of a job's input and of its shuffle."""
        return self.keys.inputs(job, n_map) + self.keys.shuffles(job, partitions)

    def _get_fields(self, places: Sequence[tuple[str, str]]) -> list[bytes | None]:
        """One field from each (key, field), in order, in one round trip."""
        by_key: dict[str, list[int]] = {}
        for position, (key, _) in enumerate(places):
            by_key.setdefault(key, []).append(position)
        replies = self.server.pipeline(
            [
                ("HMGET", key, *(places[i][1] for i in positions))
                for key, positions in by_key.items()
            ]
        )
        found: list[bytes | None] = [None] * len(places)
        for positions, values in zip(by_key.values(), replies, strict=True):
            for position, value in zip(positions, values, strict=True):
                found[position] = value
        return found


def staging_commands(by_key: Mapping[str, Fields], expire_at: int) -> list[RedisCommand]:
    """The commands that write these fields: for one transaction, with their deadline."""
    commands: list[RedisCommand] = []
    for key, fields in by_key.items():
        if fields:
            commands.append(("HSET", key, *(x for pair in fields.items() for x in pair)))
            commands.append(("PEXPIREAT", key, expire_at))
    return commands


def split_batches(items: list[str], size: int) -> Iterable[list[str]]:
    """Yield the items in order, at most ``size`` at a time."""
    return (items[i : i + size] for i in range(0, len(items), size))
