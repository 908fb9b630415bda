"""What lives in other slots than the job's: the index of jobs, wake-ups, workers, events.

All of it is hints. Losing any of it delays a job by seconds and never decides anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis

from redismr.core.model import PROTOCOL
from redismr.core.trace import clean
from redismr.store.connect import BLOCK_SECONDS
from redismr.store.link import AWAY, number, text

if TYPE_CHECKING:
    from redismr.store.keys import Keys
    from redismr.store.link import Link

WAKE_CAP = 64
"""Most wake-up tokens kept: more would only make idle workers look in vain."""

HINT_TTL_MS = 86_400_000
_JOB_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_NUMBERS = ("beat", "pid", "protocol", "executors", "busy", "tasks")

STALE_MS = 60_000
"""A worker row without a beat for this long is dropped by whoever lists workers."""


class HintStore:
    """Announce, wake, beat, publish."""

    link: Link
    keys: Keys

    def server_ms(self) -> int:
        """The server's clock, the only one that counts."""
        seconds, micros = self.link.one("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def announce(self, job: str, priority: int) -> None:
        """The job may have work: listed at its priority unless it is listed already."""
        self.link.together(
            [
                ("ZADD", self.keys.jobs, "NX", _turn(priority, 0), job),
                ("PEXPIRE", self.keys.jobs, HINT_TTL_MS),
            ]
        )

    def record(self, job: str, expire_at: int, now_ms: int) -> None:
        """The job exists until its deadline: for listings. Trims what is over."""
        self.link.together(
            [
                ("ZADD", self.keys.recent, expire_at, job),
                ("ZREMRANGEBYSCORE", self.keys.recent, "-inf", now_ms),
                ("PEXPIREAT", self.keys.recent, expire_at, "GT"),
                ("PEXPIREAT", self.keys.recent, expire_at, "NX"),
            ]
        )

    def runnable(self, limit: int = 512) -> list[str]:
        """Jobs that may have work, first the one whose turn it is. Drops what is no job id."""
        found = self.link.one("ZRANGE", self.keys.jobs, 0, limit - 1)
        if strange := [job for job in found if not _JOB_ID.fullmatch(job)]:
            self.link.one("ZREM", self.keys.jobs, *strange)
        return [text(job) for job in found if _JOB_ID.fullmatch(job)]

    def take_turn(self, job: str, priority: int, now_ms: int) -> None:
        """The job was served: others of its priority come first now."""
        self.link.one("ZADD", self.keys.jobs, "XX", _turn(priority, now_ms), job)

    def retire(self, job: str, now_ms: int) -> None:
        """The job has ended: looked at last. Supervisors forget it after a minute."""
        self.link.one("ZADD", self.keys.jobs, "XX", _LAST + now_ms, job)

    def forget(self, job: str) -> None:
        """The job has no more work."""
        self.link.one("ZREM", self.keys.jobs, job)

    def recent(self) -> list[str]:
        """Every job that may still exist, oldest deadline first."""
        found = self.link.one("ZRANGE", self.keys.recent, 0, -1)
        return [text(job) for job in found if _JOB_ID.fullmatch(job)]

    def wake(self, count: int, python: str, key_id: str) -> None:
        """Wake up to ``count`` idle workers that can use it."""
        if count <= 0:
            return
        key = self.keys.wake(PROTOCOL, python, key_id)
        self.link.together(
            [
                ("RPUSH", key, *["1"] * min(count, WAKE_CAP)),
                ("LTRIM", key, 0, WAKE_CAP - 1),
                ("PEXPIRE", key, HINT_TTL_MS),
            ]
        )

    def wait_wake(self, python: str, key_id: str, seconds: float = BLOCK_SECONDS) -> bool:
        """Block until woken or ``seconds`` are over. A lost token costs one such wait."""
        key = self.keys.wake(PROTOCOL, python, key_id)
        return self.link.one("BLPOP", key, min(seconds, BLOCK_SECONDS)) is not None  # type: ignore[arg-type]

    def beat(self, worker: str, row: dict[str, Any]) -> int:
        """Say that a worker is alive, in clear; returns the server's time in ms."""
        now = self.server_ms()
        self.link.together(
            [
                ("HSET", self.keys.workers, worker, json.dumps({**row, "beat": now})),
                ("PEXPIRE", self.keys.workers, HINT_TTL_MS),
            ]
        )
        return now

    def leave(self, worker: str) -> None:
        """The worker is gone."""
        self.link.one("HDEL", self.keys.workers, worker)

    def worker_rows(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """The server's time in ms, and the rows of workers that are alive; drops stale rows."""
        (seconds, micros), found = self.link.together([("TIME",), ("HGETALL", self.keys.workers)])
        now = int(seconds) * 1000 + int(micros) // 1000
        rows: dict[str, dict[str, Any]] = {}
        for worker, raw in found.items():
            row = _row(raw)
            if now - row["beat"] < STALE_MS:
                rows[text(worker)] = row
            else:
                self.leave(text(worker))
        return now, rows

    def publish(self, txn: str, message: bytes) -> None:
        """Tell listeners of this transaction and of all. At most once: truth is in the keys."""
        channels = (self.keys.events(self.link.db, txn), self.keys.events(self.link.db))
        self.link.together([("PUBLISH", channel, message) for channel in channels])

    @contextmanager
    def subscribed(self, txn: str | None) -> Iterator[Subscription]:
        """Messages of one transaction, or of all, from now on."""
        pubsub = self.link.client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
        try:
            yield Subscription(pubsub, self.keys.events(self.link.db, txn))
        finally:
            pubsub.close()


class Subscription:
    """A pub/sub channel that reconnects by itself; what was said meanwhile is lost."""

    def __init__(self, pubsub: redis.client.PubSub, channel: str) -> None:
        self._pubsub = pubsub
        self._channel = channel
        self._subscribed = False

    def get(self, seconds: float) -> bytes | None:
        """The next message, or None when ``seconds`` are over or the line was cut.

        The first call subscribes and returns None at once: read the truth then.
        """
        try:
            if not self._subscribed:
                self._pubsub.subscribe(self._channel)
                self._pubsub.get_message(timeout=5)
                self._subscribed = True
                return None
            message = self._pubsub.get_message(timeout=seconds)
        except AWAY:
            self._subscribed = False
            return None
        if message and message["type"] == "message":
            return bytes(message["data"])
        return None


_LAST = 2 * 10**16  # behind every priority


def _row(raw: bytes) -> dict[str, Any]:
    """A worker's row: numbers, and text fit for a terminal, whoever wrote it."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        return {"beat": 0}
    return {
        clean(name, 40): clean(str(value), 300).replace("\n", " ")
        for name, value in row.items()
        if name not in _NUMBERS
    } | {name: max(0, number(row.get(name))) for name in _NUMBERS}


def _turn(priority: int, now_ms: int) -> int:
    """The score in ``jobs``: higher priority first, then who waited longest."""
    return -priority * 10**13 + now_ms
