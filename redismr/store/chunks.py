"""Bulk data: splits, segments, result chunks. Plain pipelined writes under names that hold a token.

Bulk first, control last: nothing written here counts until a commit names it, so these need no
script. A write and its deadline go in one MULTI, so that no key is ever left without one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from redismr.core.model import RUNNING_STATES
from redismr.errors import KeysAltered
from redismr.store.keys import Keys
from redismr.store.replies import EndAndRecords
from redismr.store.retrying_client import Argument, RetryingClient, number, text

Fields = Mapping[str, bytes]


class ChunkStore:
    """Reads and writes of what is too big for a script."""

    def __init__(self, server: RetryingClient, keys: Keys) -> None:
        self.server = server
        self.keys = keys
        self._key_names: dict[str, dict[str, str]] = {}

    def with_patience(self, seconds: float | None) -> Self:
        """The same connections, for who waits so long for a server that is away."""
        store = object.__new__(type(self))
        store.__dict__ = {**self.__dict__, "server": self.server.with_patience(seconds)}
        return store

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
                for batch in _batches(list(fields), 1000)
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

    def result_records(self, job: str, partitions: Iterable[int] | None = None) -> dict[int, bytes]:
        """Partition -> committed record, of all partitions or of those asked for."""
        key = self.keys.control(job, "result")
        if partitions is None:
            return parse_records(self.server.command("HGETALL", key).items())
        if not (wanted := list(partitions)):
            return {}
        found = self.server.command("HMGET", key, *wanted)
        return {p: record for p, record in zip(wanted, found, strict=True) if record is not None}

    def end_and_results(self, job: str) -> EndAndRecords:
        """What is read of a job that has succeeded."""
        end, found = self.server.pipeline(
            [("GET", self.keys.control(job, "end")), ("HGETALL", self.keys.control(job, "result"))]
        )
        return end, parse_records(found.items())

    def get_sealed(self, job: str, name: str) -> bytes | None:
        """A sealed string of the job: spec, end, code or params."""
        return self.server.command("GET", self.keys.control(job, name))  # type: ignore[no-any-return]

    def get_code_and_params(self, job: str) -> list[bytes | None]:
        """Sealed code and params."""
        names = ("code", "params")
        return self.server.pipeline([("GET", self.keys.control(job, name)) for name in names])

    def meta(self, job: str, *fields: str) -> dict[str, str]:
        """Clear scheduling fields; empty text where there is none, no fields if the job is gone."""
        values = self.server.command("HMGET", self.keys.control(job, "meta"), *fields)
        if all(value is None for value in values):
            return {}
        return {field: text(value) for field, value in zip(fields, values, strict=True)}

    def ready_count(self, job: str) -> int:
        """Number of tasks of the job that wait to be claimed."""
        return int(self.server.command("LLEN", self.keys.control(job, "ready")))

    def budget_used(self, job: str, task: str, kind: str) -> int:
        """Number of charges to one budget (``error`` or ``lost``) of a task so far."""
        key = self.keys.control(job, "budgets")
        return number(self.server.command("HGET", key, f"{kind}:{task}"))

    def states(self, jobs: Sequence[str]) -> dict[str, str]:
        """Job -> its state in clear; what is gone, or altered, is left out. 1000 a round trip."""
        found: dict[str, str] = {}
        for batch in _batches(list(jobs), 1000):
            found |= self._states(batch)
        return found

    def _states(self, jobs: Sequence[str]) -> dict[str, str]:
        try:
            values = self.server.pipeline(
                [("HGET", self.keys.control(job, "meta"), "state") for job in jobs]
            )
        except KeysAltered:  # those of one of them: the others are found all the same
            half = len(jobs) // 2
            return self._states(jobs[:half]) | self._states(jobs[half:]) if half else {}
        return {job: text(state) for job, state in zip(jobs, values, strict=True) if state}

    def failures(self, job: str) -> dict[str, bytes]:
        """Task id (or ``job``, or ``last:<id>`` of one still tried) -> sealed failure."""
        found = self.server.command("HGETALL", self.keys.control(job, "failures"))
        return {text(t): blob for t, blob in found.items() if not t.startswith(b"crash:")}

    def crash_notes(self, job: str, task: str) -> list[tuple[str, bytes]]:
        """(token, sealed note) of each attempt of a task whose process died in a record."""
        found = (
            self.server.command("HGET", self.keys.control(job, "failures"), f"crash:{task}") or b""
        )
        crashes = list[tuple[str, bytes]]()
        for note in found.split(b","):
            with contextlib.suppress(ValueError):  # not what the script wrote
                _, token, blob = text(note).split(" ")
                crashes.append((token, bytes.fromhex(blob)))
        return crashes

    def map_records(self, job: str) -> dict[int, bytes]:
        """Map index -> committed record, as long as the job has not succeeded."""
        return parse_records(self.server.command("HGETALL", self.keys.control(job, "done")).items())

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
                if text(same.hget(meta, "state")) not in RUNNING_STATES:
                    for batch in _batches(keys, 1000):
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


def staging_commands(by_key: Mapping[str, Fields], expire_at: int) -> list[Sequence[Argument]]:
    """The commands that write these fields: for one transaction, with their deadline."""
    commands: list[Sequence[Argument]] = []
    for key, fields in by_key.items():
        if fields:
            commands.append(("HSET", key, *(x for pair in fields.items() for x in pair)))
            commands.append(("PEXPIREAT", key, expire_at))
    return commands


def parse_records(pairs: Iterable[tuple[bytes, bytes]]) -> dict[int, bytes]:
    """Index -> record; what is no index is not ours."""
    return {int(index): record for index, record in pairs if index.isdigit()}


def _batches(items: list[str], size: int) -> Iterable[list[str]]:
    return (items[i : i + size] for i in range(0, len(items), size))
