"""Keys that all jobs share: the index of jobs, wake-ups, rows of workers and of deleted jobs.

All of them are hints. A lost key delays a job by seconds and never decides anything.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redismr.core.model import DAY_MS, PROTOCOL
from redismr.core.printable import printable_text
from redismr.errors import KeysAltered
from redismr.store.connect import BLOCK_SECONDS
from redismr.store.reply_values import Answer, clear_int, reply_text, time_reply_ms
from redismr.store.round_trips import Argument, Piggyback, RedisCommand
from redismr.store.store_base import StoreBase

WakeTarget = tuple[int, str, str]
"""How many workers to wake, and their Python and secret (key id)."""

MAX_WAKE_TOKENS = 64
"""Most wake-up tokens in a list: more would only make idle workers look in vain."""

INDEX_TTL_MS = DAY_MS
"""How long the list of jobs, wake-ups and rows of workers live after their last use."""

PROLONG_CHANCE = 1 / 16
"""Probability that a heartbeat renews the rows' deadline; of hundreds of workers a few suffice."""

_JOB_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_EXECUTOR = re.compile(r"[^\s,]+ ([^\s,]+) [01]")  # as scripts write it, behind the token
_NUMBER_FIELDS = ("beat", "pid", "protocol", "executors", "native", "busy", "tasks", "every_ms")

HEARTBEAT_SECONDS = 5.0
"""How often a worker says that it is alive. Among many workers it is less often: see its row."""

LOST_AFTER_BEATS = 3
"""A worker that has missed so many beats is lost: killed, stopped, or cut off from its server."""

STALE_ROW_MS = 60_000
"""A row of a lost worker without a beat for this long: the next caller that lists it drops it."""

_MAX_HEARTBEAT_MS = 60_000
"""A row that tells of a longer time between two beats counts as telling of this."""

MAX_DELETED_ROWS = 1000
TRIM_CHANCE = 1 / 64
"""Probability that a deletion looks for rows beyond ``MAX_DELETED_ROWS``: it costs a round trip."""

HEAD_START_MS = 2000
"""A new job goes before jobs that were served in so many ms before its submission."""

UNLINK_UNLESS_TYPE = """#!lua flags=allow-oom
if redis.call('TYPE', KEYS[1]).ok ~= ARGV[1] then redis.call('UNLINK', KEYS[1]) end
"""
"""One script, because another client may already have repaired the key and written to it."""


class JobIndexStore(StoreBase):
    """Lists jobs, wakes workers, and keeps rows about workers and deleted jobs."""

    _heartbeat_sent = False

    @property
    def scope(self) -> str:
        """Namespace and database in words, for errors: workers may be in another one."""
        database = f", database {self.redis_client.db}" if self.redis_client.db else ""
        return f"namespace {self.keys.namespace}{database}"

    def server_ms(self) -> int:
        """Time of the server's clock, the only one that counts."""
        return time_reply_ms(self.redis_client.command("TIME"))

    def announce(
        self, job: str, priority: int, since_ms: int, *, wait_for_room: bool = False
    ) -> None:
        """List the job at its priority as one that may have work, unless it is listed already.

        Its turn comes as if it had been served a little before ``since_ms``, its submission: soon,
        yet after jobs that have waited long, which a stream of new jobs would starve otherwise.
        ``wait_for_room`` waits for room on a full server: for a caller that announces only once.
        """
        commands = self._announce_commands({job: (priority, since_ms)})
        if not wait_for_room:
            self._best_effort(*commands)
        elif self._command("ZSCORE", self.keys.jobs, job) is None:  # a full server refuses a repeat
            self._with_key_repair(self.keys.jobs, lambda: self.redis_client.pipeline(commands))

    def relist(self, jobs: Sequence[str]) -> None:
        """List jobs that executors work on again: the index may have lost them."""
        found = self.redis_client.pipeline(
            [("HMGET", self.keys.control(job, "meta"), "priority", "created_at") for job in jobs]
        )
        known = {
            job: (clear_int(priority), clear_int(created))
            for job, (priority, created) in zip(jobs, found, strict=True)
            if priority
        }
        if known:
            self._best_effort(*self._announce_commands(known))

    def _announce_commands(self, jobs: Mapping[str, tuple[int, int]]) -> list[RedisCommand]:
        return [
            *(
                ("ZADD", self.keys.jobs, "NX", _turn_score(priority, since_ms - HEAD_START_MS), job)
                for job, (priority, since_ms) in jobs.items()
            ),
            ("PEXPIRE", self.keys.jobs, INDEX_TTL_MS),
        ]

    def list_until(self, job: str, expire_at: int, now_ms: int) -> None:
        """Record that the job exists until its deadline; drop records that are over."""
        self._best_effort(*self._list_until_commands(job, expire_at, now_ms))

    def _list_until_commands(self, job: str, expire_at: int, now_ms: int) -> list[RedisCommand]:
        return [
            ("ZADD", self.keys.recent, expire_at, job),
            ("ZREMRANGEBYSCORE", self.keys.recent, "-inf", now_ms),
            ("PEXPIREAT", self.keys.recent, expire_at, "GT"),
            ("PEXPIREAT", self.keys.recent, expire_at, "NX"),
        ]

    def _listing_piggyback(
        self, job: str, priority: int, since_ms: int, expire_at: int
    ) -> Piggyback:
        """Announce and record a new job in the round trip of its ``create``.

        It is announced before it is created, too: if the server died in between, nothing but its
        ttl would tidy a job that is not listed. A listed job that does not exist is taken off by
        the supervisor that looks at it.
        """

        def send_again() -> None:  # one command at a time, which repairs altered keys
            self.announce(job, priority, since_ms)
            self.list_until(job, expire_at, since_ms)

        announce = self._announce_commands({job: (priority, since_ms)})
        listing = self._list_until_commands(job, expire_at, since_ms)
        return Piggyback(announce, [*announce, *listing], send_again)

    def runnable(self, limit: int = 512) -> list[str]:
        """Return jobs that may have work, in turn; drop entries that are no job id."""
        found = self._command("ZRANGE", self.keys.jobs, 0, limit - 1)
        if invalid := [job for job in found if not _JOB_ID.fullmatch(job)]:
            self._command("ZREM", self.keys.jobs, *invalid)
        return [reply_text(job) for job in found if _JOB_ID.fullmatch(job)]

    def take_turn(self, job: str, priority: int, now_ms: int) -> None:
        """Note that the job was served: other jobs of its priority come first now."""
        self._best_effort(("ZADD", self.keys.jobs, "XX", _turn_score(priority, now_ms), job))

    def move_last(self, job: str, now_ms: int) -> None:
        """Put a job that has ended last; supervisors drop it after a minute."""
        self._best_effort(("ZADD", self.keys.jobs, "XX", _LAST_SCORE + now_ms, job))

    def drop_jobs(self, *jobs: str) -> None:
        """Take jobs off the index: they have no more work."""
        self._command("ZREM", self.keys.jobs, *jobs)

    def unlist(self, job: str) -> None:
        """Take a job that does not exist any more off every list."""
        for command in self._unlist_commands(job):  # one at a time, which repairs altered keys
            self._command(*command)

    def _unlist_commands(self, job: str) -> list[RedisCommand]:
        return [("ZREM", key, job) for key in (self.keys.jobs, self.keys.recent)]

    def _deleted_row_commands(self, row: Mapping[str, str | int]) -> list[RedisCommand]:
        """Keep a row whose ``deleted`` is when the job was, and ``until`` when the row goes."""
        key, until = self.keys.deleted, int(row["until"])
        return [
            ("ZADD", key, until, json.dumps(row)),
            ("ZREMRANGEBYSCORE", key, "-inf", int(row["deleted"])),
            ("PEXPIREAT", key, until, "GT"),
            ("PEXPIREAT", key, until, "NX"),
        ]

    def deleted(self) -> tuple[int, list[dict[str, Any]]]:
        """Return the server's time in ms, and the rows of deleted jobs."""
        ask = [("ZRANGE", self.keys.deleted, 0, -1), ("TIME",)]
        found, clock = self._with_key_repair(
            self.keys.deleted, lambda: self.redis_client.pipeline(ask)
        )
        return time_reply_ms(clock), [row for raw in found if (row := _parse_object(raw))]

    def _trim_deleted_rows(self) -> None:
        if random.random() > TRIM_CHANCE:
            return
        if surplus := self._command("ZRANGE", self.keys.deleted, 0, -MAX_DELETED_ROWS - 1):
            self._command("ZREM", self.keys.deleted, *surplus)

    def recent(self) -> list[str]:
        """Return every job that may still exist, oldest deadline first."""
        found = self._command("ZRANGE", self.keys.recent, 0, -1)
        return [reply_text(job) for job in found if _JOB_ID.fullmatch(job)]

    def wake(self, count: int, python: str, key_id: str) -> None:
        """Wake up to ``count`` idle workers of this Python and secret."""
        if waking := self._wake_commands(count, python, key_id):
            self._best_effort(*waking)

    def _wake_commands(self, count: int, python: str, key_id: str) -> list[RedisCommand]:
        if count <= 0:
            return []
        key = self.keys.wake(PROTOCOL, python, key_id)
        return [
            ("RPUSH", key, *["1"] * min(count, MAX_WAKE_TOKENS)),
            ("LTRIM", key, 0, MAX_WAKE_TOKENS - 1),
            ("PEXPIRE", key, INDEX_TTL_MS),
        ]

    def wait_wake(self, python: str, key_id: str, seconds: float = BLOCK_SECONDS) -> bool:
        """Block until woken (True) or ``seconds`` are over; a lost token costs one such wait."""
        key = self.keys.wake(PROTOCOL, python, key_id)
        return self._command("BLPOP", key, min(seconds, BLOCK_SECONDS)) is not None  # type: ignore[arg-type]

    def heartbeat(self, worker: str, row: dict[str, Any]) -> int:
        """Write a worker's row in clear; return how many workers are listed, 0 if unknown."""
        key = self.keys.workers
        row_json = json.dumps({**row, "beat": self.server_ms()})
        # The first beat does, too: a worker that dies then must leave no key without a deadline.
        is_due = not self._heartbeat_sent or random.random() < PROLONG_CHANCE
        prolong = [("PEXPIRE", key, INDEX_TTL_MS)]
        commands = [("HSET", key, worker, row_json), *(prolong if is_due else ()), ("HLEN", key)]
        if not (replies := self._best_effort(*commands)):
            return 0
        new, *_, listed = replies
        if new and not is_due:  # the list was lost meanwhile
            self._best_effort(*prolong)
        self._heartbeat_sent = True
        return int(listed)

    def remove_worker(self, worker: str) -> None:
        """Drop the row of a worker that ends."""
        self._best_effort(("HDEL", self.keys.workers, worker))

    def worker_rows(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """Return the server's time in ms, and a row for each worker; drop stale rows.

        ``row["lost"]`` is True if the worker has missed three beats of the length in its row.
        """
        ask = [("HGETALL", self.keys.workers), ("TIME",)]
        found, clock = self._with_key_repair(
            self.keys.workers, lambda: self.redis_client.pipeline(ask)
        )
        now = time_reply_ms(clock)
        rows: dict[str, dict[str, Any]] = {}
        for worker, raw in found.items():
            row = _parse_worker_row(raw)
            silent_ms = now - row["beat"]
            beat_ms = min(row.get("every_ms") or HEARTBEAT_SECONDS * 1000, _MAX_HEARTBEAT_MS)
            if silent_ms < max(STALE_ROW_MS, (LOST_AFTER_BEATS + 1) * beat_ms):
                rows[reply_text(worker)] = row | {"lost": silent_ms > LOST_AFTER_BEATS * beat_ms}
            else:
                self.remove_worker(reply_text(worker))
        return now, rows

    def workers_holding(self, job: str) -> list[set[str]]:
        """Return, for each leased task of the job, the workers that hold it: one, or two.

        A task whose entry was altered has none.
        """
        found = self.redis_client.command("HGETALL", self.keys.control(job, "attempts"))
        return [
            {executor.rpartition(":")[0] for executor in _EXECUTOR.findall(reply_text(raw))}
            for raw in found.values()
        ]

    def _best_effort(self, *commands: RedisCommand) -> list[Any]:
        return self._with_key_repair(
            str(commands[0][1]), lambda: self.redis_client.best_effort(*commands)
        )

    def _command(self, *command: Argument) -> Any:
        return self._with_key_repair(str(command[1]), lambda: self.redis_client.command(*command))

    def _with_key_repair(self, key: str, ask: Callable[[], Answer]) -> Answer:
        """Return the answer of ``ask``; first unlink the key if it is of another type.

        All jobs share these keys: an altered one would stop every worker and submitter for good.
        """
        try:
            return ask()
        except KeysAltered:
            self.redis_client.command("EVAL", UNLINK_UNLESS_TYPE, 1, key, self.keys.index_type(key))
            return ask()


_LAST_SCORE = 2 * 10**16
"""Higher than the score of any priority."""


def _parse_worker_row(raw: bytes) -> dict[str, Any]:
    """Return a worker's row: numbers, and text that is safe on a terminal."""
    row = _parse_object(raw)
    if row is None:
        return {"beat": 0}
    return {
        printable_text(name, 40): printable_text(str(value), 300).replace("\n", " ")
        for name, value in row.items()
        if name not in _NUMBER_FIELDS
    } | {name: max(0, clear_int(row.get(name))) for name in _NUMBER_FIELDS}


def _parse_object(raw: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _turn_score(priority: int, now_ms: int) -> int:
    """Return the score in ``jobs``: higher priority first, then the longest wait."""
    return -priority * 10**13 + now_ms
