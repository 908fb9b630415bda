"""The keys of one job without a script: bulk data to read and write, control keys to read.

Bulk data are splits, segments and result chunks, under field names that hold a token. They are
written first, control last: no chunk counts until a commit names it, so plain pipelined writes are
enough. A write and its deadline go in one MULTI, so that no key is ever left without a deadline.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

from redismr.core.model import RUNNING_STATES
from redismr.errors import KeysAltered
from redismr.store.replies import EndAndRecords
from redismr.store.reply_values import clear_int, parse_records, reply_text
from redismr.store.round_trips import RedisCommand
from redismr.store.store_base import StoreBase

Fields = Mapping[str, bytes]

COMMAND_ITEMS = 1000
"""Most fields or keys of one command, and jobs of one pipeline: others wait meanwhile."""


class JobDataStore(StoreBase):
    """Reads and writes data that is too big for a script; reads clear fields and sealed values."""

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
        key = self.keys.shuffle(job, partition)
        return self.redis_client.command("HMGET", key, *fields) if fields else []

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
        key = self.keys.control(job, "out")
        return self.redis_client.command("HMGET", key, *fields) if fields else []

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

    def get_sealed(self, job: str, name: str) -> bytes | None:
        """Return a sealed string of the job: ``spec``, ``end``, ``code`` or ``params``."""
        return self.redis_client.command("GET", self.keys.control(job, name))  # type: ignore[no-any-return]

    def get_code_and_params(self, job: str) -> list[bytes | None]:
        """Return the sealed code and the sealed params."""
        names = ("code", "params")
        return self.redis_client.pipeline([("GET", self.keys.control(job, name)) for name in names])

    def meta(self, job: str, *fields: str) -> dict[str, str]:
        """Return clear fields of the job; no fields if the job is gone.

        A field that is missing is empty text.
        """
        values = self.redis_client.command("HMGET", self.keys.control(job, "meta"), *fields)
        if all(value is None for value in values):
            return {}
        return {field: reply_text(value) for field, value in zip(fields, values, strict=True)}

    def states(self, jobs: Sequence[str]) -> dict[str, str]:
        """Return job -> state in clear, without jobs that are gone or whose keys were altered."""
        found: dict[str, str] = {}
        for batch in split_batches(list(jobs), COMMAND_ITEMS):
            found |= self._states(batch)
        return found

    def _states(self, jobs: Sequence[str]) -> dict[str, str]:
        try:
            values = self.redis_client.pipeline(
                [("HGET", self.keys.control(job, "meta"), "state") for job in jobs]
            )
        except KeysAltered:  # of one of these jobs: find the others all the same
            half = len(jobs) // 2
            return self._states(jobs[:half]) | self._states(jobs[half:]) if half else {}
        return {job: reply_text(state) for job, state in zip(jobs, values, strict=True) if state}

    def ready_count(self, job: str) -> int:
        """Number of tasks of the job that wait to be claimed."""
        return int(self.redis_client.command("LLEN", self.keys.control(job, "ready")))

    def budget_used(self, job: str, task: str, kind: str) -> int:
        """Number of charges to one budget (``error`` or ``lost``) of a task so far."""
        key = self.keys.control(job, "budgets")
        return clear_int(self.redis_client.command("HGET", key, f"{kind}:{task}"))

    def failures(self, job: str) -> dict[str, bytes]:
        """Return task id -> sealed failure.

        ``job`` stands for a failure of the whole job, ``last:<id>`` for the last failure of a task
        that is tried again.
        """
        found = self.redis_client.command("HGETALL", self.keys.control(job, "failures"))
        return {reply_text(t): blob for t, blob in found.items() if not t.startswith(b"crash:")}

    def crash_notes(self, job: str, task: str) -> list[tuple[str, bytes]]:
        """Return (token, sealed note) of each attempt of a task whose process died in a record."""
        key = self.keys.control(job, "failures")
        found = self.redis_client.command("HGET", key, f"crash:{task}") or b""
        crashes = list[tuple[str, bytes]]()
        for note in found.split(b","):
            with contextlib.suppress(ValueError):  # not what the script wrote
                _, token, blob = reply_text(note).split(" ")
                crashes.append((token, bytes.fromhex(blob)))
        return crashes

    def committed_maps(self, job: str) -> dict[int, bytes]:
        """Return map index -> committed record; a job that has succeeded has none."""
        found = self.redis_client.command("HGETALL", self.keys.control(job, "done"))
        return parse_records(found.items())

    def committed_results(
        self, job: str, partitions: Iterable[int] | None = None
    ) -> dict[int, bytes]:
        """Return partition -> committed record, of all partitions or of the given ones."""
        key = self.keys.control(job, "result")
        if partitions is None:
            return parse_records(self.redis_client.command("HGETALL", key).items())
        if not (wanted := list(partitions)):
            return {}
        found = self.redis_client.command("HMGET", key, *wanted)
        return {p: record for p, record in zip(wanted, found, strict=True) if record is not None}

    def end_and_results(self, job: str) -> EndAndRecords:
        """Return the sealed end and the result records of a job that has succeeded."""
        end, found = self.redis_client.pipeline(
            [("GET", self.keys.control(job, "end")), ("HGETALL", self.keys.control(job, "result"))]
        )
        return EndAndRecords(end, parse_records(found.items()))


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
