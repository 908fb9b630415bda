"""What lives in other slots than the job's: the index of jobs, wake-ups, workers, events.

All of it is hints. Losing any of it delays a job by seconds and never decides anything.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from redismr.core.model import PROTOCOL
from redismr.core.printable import printable_text
from redismr.errors import KeysAltered
from redismr.store.connect import BLOCK_SECONDS
from redismr.store.reply_values import Answer, number, reply_text, time_reply_ms
from redismr.store.round_trips import Argument, Piggyback, RedisCommand

if TYPE_CHECKING:
    from redismr.store.keys import Keys
    from redismr.store.retrying_client import RetryingClient

WakeTarget = tuple[int, str, str]
"""How many to wake, of which Python and secret."""

MAX_WAKE_TOKENS = 64
"""Most wake-up tokens kept: more would only make idle workers look in vain."""

INDEX_TTL_MS = 86_400_000
PROLONG_CHANCE = 1 / 16
"""How many of the beats prolong the life of the list: of hundreds of workers, each need not."""

_JOB_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_EXECUTOR = re.compile(r"[^\s,]+ ([^\s,]+) [01]")  # as the scripts write it behind its token
_NUMBER_FIELDS = ("beat", "pid", "protocol", "executors", "busy", "tasks", "every_ms")

HEARTBEAT_SECONDS = 5.0
"""How often a worker says that it is alive; in a crowd more seldom, and its row says how often."""

LOST_AFTER_BEATS = 3
"""A worker that has missed so many beats is lost: killed, stopped, or cut off from its server."""

STALE_ROW_MS = 60_000
"""A lost worker's row without a beat for this long is dropped by whoever lists workers."""

_MAX_HEARTBEAT_MS = 60_000
"""No worker rests longer between two beats, whatever its row says."""

MAX_DELETED_ROWS = 1000
TRIM_CHANCE = 1 / 64
"""How many of the deletions look for rows beyond ``MAX_DELETED_ROWS``, which takes a round trip."""

HEAD_START_MS = 2000
"""A new job goes before those that were served in so many ms before it came."""


UNLINK_UNLESS_TYPE = """#!lua flags=allow-oom
if redis.call('TYPE', KEYS[1]).ok ~= ARGV[1] then redis.call('UNLINK', KEYS[1]) end
"""
"""One step: another client may have mended the key, and written to it, since we saw it altered."""


class JobIndexStore:
    """Announce, wake, beat, publish."""

    server: RetryingClient
    keys: Keys
    _heartbeat_sent = False

    @property
    def scope(self) -> str:
        """What part of its server it is about: who meets nobody there may be in another one."""
        database = f", database {self.server.db}" if self.server.db else ""
        return f"namespace {self.keys.namespace}{database}"

    def server_ms(self) -> int:
        """The server's clock, the only one that counts."""
        return time_reply_ms(self.server.command("TIME"))

    def announce(
        self, job: str, priority: int, since_ms: int, *, wait_for_room: bool = False
    ) -> None:
        """The job may have work: listed at its priority unless it is listed already.

        Its turn comes as if it had last been served a little before ``since_ms``, its submission:
        soon, and yet not before jobs that have waited long, or a stream of new ones starved them.
        ``wait_for_room`` waits for room if the server is full: for who will not say it again.
        """
        commands = self._announce_commands({job: (priority, since_ms)})
        if wait_for_room:
            if self._command("ZSCORE", self.keys.jobs, job) is not None:
                return  # a full server would refuse to hear it again
            self._with_key_repair(self.keys.jobs, lambda: self.server.pipeline(commands))
        else:
            self._best_effort(*commands)

    def relist(self, jobs: Sequence[str]) -> None:
        """Jobs that are worked on are in the index: it is in another slot, and may lose them."""
        found = self.server.pipeline(
            [("HMGET", self.keys.control(job, "meta"), "priority", "created_at") for job in jobs]
        )
        known = {
            job: (number(priority), number(created))
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
        """The job exists until its deadline: for listings. Trims what is over."""
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
        """A job that is made is announced and recorded in the same round trip.

        Announced also ahead: a job that exists unlisted, as its server died in between, would be
        tidied by its ttl alone. Whoever finds it listed and not there takes it off the list.
        """

        def send_again() -> None:  # one at a time, which mends
            self.announce(job, priority, since_ms)
            self.list_until(job, expire_at, since_ms)

        announce = self._announce_commands({job: (priority, since_ms)})
        listing = self._list_until_commands(job, expire_at, since_ms)
        return Piggyback(announce, [*announce, *listing], send_again)

    def runnable(self, limit: int = 512) -> list[str]:
        """Jobs that may have work, first the one whose turn it is. Drops what is no job id."""
        found = self._command("ZRANGE", self.keys.jobs, 0, limit - 1)
        if invalid := [job for job in found if not _JOB_ID.fullmatch(job)]:
            self._command("ZREM", self.keys.jobs, *invalid)
        return [reply_text(job) for job in found if _JOB_ID.fullmatch(job)]

    def take_turn(self, job: str, priority: int, now_ms: int) -> None:
        """The job was served: others of its priority come first now."""
        self._best_effort(("ZADD", self.keys.jobs, "XX", _turn_score(priority, now_ms), job))

    def move_last(self, job: str, now_ms: int) -> None:
        """The job has ended: looked at last. Supervisors forget it after a minute."""
        self._best_effort(("ZADD", self.keys.jobs, "XX", _LAST_SCORE + now_ms, job))

    def drop_jobs(self, *jobs: str) -> None:
        """The jobs have no more work."""
        self._command("ZREM", self.keys.jobs, *jobs)

    def unlist(self, job: str) -> None:
        """The job does not exist any more."""
        for command in self._unlist_commands(job):  # one at a time, which mends
            self._command(*command)

    def _unlist_commands(self, job: str) -> list[RedisCommand]:
        return [("ZREM", key, job) for key in (self.keys.jobs, self.keys.recent)]

    def _deleted_row_commands(self, row: Mapping[str, str | int] | None) -> list[RedisCommand]:
        """A job is ``deleted`` at that time, and its row listed ``until`` another."""
        if row is None:
            return []
        key, until = self.keys.deleted, int(row["until"])
        return [
            ("ZADD", key, until, json.dumps(row)),
            ("ZREMRANGEBYSCORE", key, "-inf", int(row["deleted"])),
            ("PEXPIREAT", key, until, "GT"),
            ("PEXPIREAT", key, until, "NX"),
        ]

    def deleted(self) -> tuple[int, list[dict[str, Any]]]:
        """The server's time in ms, and the rows of jobs that were deleted."""
        ask = [("ZRANGE", self.keys.deleted, 0, -1), ("TIME",)]
        found, clock = self._with_key_repair(self.keys.deleted, lambda: self.server.pipeline(ask))
        return time_reply_ms(clock), [row for raw in found if (row := _parse_object(raw))]

    def _trim_deleted_rows(self) -> None:
        """Of the rows of jobs that were deleted only the last ones are kept."""
        if random.random() > TRIM_CHANCE:
            return
        if surplus := self._command("ZRANGE", self.keys.deleted, 0, -MAX_DELETED_ROWS - 1):
            self._command("ZREM", self.keys.deleted, *surplus)

    def recent(self) -> list[str]:
        """Every job that may still exist, oldest deadline first."""
        found = self._command("ZRANGE", self.keys.recent, 0, -1)
        return [reply_text(job) for job in found if _JOB_ID.fullmatch(job)]

    def wake(self, count: int, python: str, key_id: str) -> None:
        """Wake up to ``count`` idle workers that can use it."""
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
        """Block until woken or ``seconds`` are over. A lost token costs one such wait."""
        key = self.keys.wake(PROTOCOL, python, key_id)
        return self._command("BLPOP", key, min(seconds, BLOCK_SECONDS)) is not None  # type: ignore[arg-type]

    def heartbeat(self, worker: str, row: dict[str, Any]) -> int:
        """Say that a worker is alive, in clear; returns how many are listed, 0 if nobody knows."""
        key = self.keys.workers
        row_json = json.dumps({**row, "beat": self.server_ms()})
        # With the first beat: who dies after it must leave no key without a deadline.
        prolong = not self._heartbeat_sent or random.random() < PROLONG_CHANCE
        prolong_commands = [("PEXPIRE", key, INDEX_TTL_MS)]
        commands = [
            ("HSET", key, worker, row_json),
            *(prolong_commands if prolong else ()),
            ("HLEN", key),
        ]
        if not (replies := self._best_effort(*commands)):
            return 0
        new, *_, listed = replies
        if new and not prolong:  # the list was lost meanwhile
            self._best_effort(*prolong_commands)
        self._heartbeat_sent = True
        return int(listed)

    def remove_worker(self, worker: str) -> None:
        """The worker is gone."""
        self._best_effort(("HDEL", self.keys.workers, worker))

    def worker_rows(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """The server's time in ms, and a row for each worker; drops stale rows.

        ``row["lost"]`` is whether it has missed three beats, at the pace that it has told.
        """
        ask = [("HGETALL", self.keys.workers), ("TIME",)]
        found, clock = self._with_key_repair(self.keys.workers, lambda: self.server.pipeline(ask))
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
        """For each leased task of the job the workers that hold it: one, or two at most.

        None of a task for which something else was written there.
        """
        found = self.server.command("HGETALL", self.keys.control(job, "attempts"))
        return [
            {executor.rpartition(":")[0] for executor in _EXECUTOR.findall(reply_text(raw))}
            for raw in found.values()
        ]

    def _best_effort(self, *commands: RedisCommand) -> list[Any]:
        return self._with_key_repair(
            str(commands[0][1]), lambda: self.server.best_effort(*commands)
        )

    def _command(self, *command: Argument) -> Any:
        return self._with_key_repair(str(command[1]), lambda: self.server.command(*command))

    def _with_key_repair(self, key: str, ask: Callable[[], Answer]) -> Answer:
        """The answer; a key that somebody made of another type goes first.

        All jobs share these keys: left so, it would stop every worker and submitter for good.
        """
        try:
            return ask()
        except KeysAltered:
            self.server.command("EVAL", UNLINK_UNLESS_TYPE, 1, key, self.keys.index_type(key))
            return ask()


_LAST_SCORE = 2 * 10**16  # behind every priority


def _parse_worker_row(raw: bytes) -> dict[str, Any]:
    """A worker's row: numbers, and text fit for a terminal, whoever wrote it."""
    row = _parse_object(raw)
    if row is None:
        return {"beat": 0}
    return {
        printable_text(name, 40): printable_text(str(value), 300).replace("\n", " ")
        for name, value in row.items()
        if name not in _NUMBER_FIELDS
    } | {name: max(0, number(row.get(name))) for name in _NUMBER_FIELDS}


def _parse_object(raw: bytes) -> dict[str, Any] | None:
    """A JSON object; None for what is none."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _turn_score(priority: int, now_ms: int) -> int:
    """The score in ``jobs``: higher priority first, then who waited longest."""
    return -priority * 10**13 + now_ms
