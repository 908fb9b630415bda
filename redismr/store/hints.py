"""What lives in other slots than the job's: the index of jobs, wake-ups, workers, events.

All of it is hints. Losing any of it delays a job by seconds and never decides anything.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from redismr.core.model import PROTOCOL
from redismr.core.trace import clean
from redismr.errors import KeysAltered
from redismr.store.channel import Subscription
from redismr.store.connect import BLOCK_SECONDS
from redismr.store.link import Along, Argument, milliseconds, number, text

if TYPE_CHECKING:
    from redismr.store.keys import Keys
    from redismr.store.link import Link

T = TypeVar("T")
Waking = tuple[int, str, str]
"""How many to wake, of which Python and secret."""

WAKE_CAP = 64
"""Most wake-up tokens kept: more would only make idle workers look in vain."""

FEW_TASKS = 8
"""A job whose first tasks are so few wakes one worker, and who claims first wakes others for what
it leaves: mostly nothing. With two executors on two cores a job of eight items took 0.91 of the
time, and 0.87 of the processor time: the second one had looked in vain."""

HINT_TTL_MS = 86_400_000
PROLONGED = 1 / 16
"""How many of the beats prolong the life of the list: of hundreds of workers, each need not."""

_JOB_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")
_EXECUTOR = re.compile(r"[^\s,]+ ([^\s,]+) [01]")  # as the scripts write it behind its token
_NUMBERS = ("beat", "pid", "protocol", "executors", "busy", "tasks", "every_ms")

BEAT_SECONDS = 5.0
"""How often a worker says that it is alive; in a crowd more seldom, and its row says how often."""

LOST_BEATS = 3
"""A worker that has missed so many beats is lost: killed, stopped, or cut off from its server."""

STALE_MS = 60_000
"""A lost worker's row without a beat for this long is dropped by whoever lists workers."""

_MOST_BEAT_MS = 60_000
"""No worker rests longer between two beats, whatever its row says."""

DELETED_ROWS = 1000
TRIMMED = 1 / 64
"""How many of the deletions look for rows beyond ``DELETED_ROWS``, which takes a round trip."""

HEAD_START_MS = 2000
"""A new job goes before those that were served in so many ms before it came."""


UNLINK_UNLESS = """#!lua flags=allow-oom
if redis.call('TYPE', KEYS[1]).ok ~= ARGV[1] then redis.call('UNLINK', KEYS[1]) end
"""
"""One step: another client may have mended the key, and written to it, since we saw it altered."""


class HintStore:
    """Announce, wake, beat, publish."""

    link: Link
    keys: Keys
    _beaten = False

    @property
    def scope(self) -> str:
        """What part of its server it is about: who meets nobody there may be in another one."""
        database = f", database {self.link.db}" if self.link.db else ""
        return f"namespace {self.keys.namespace}{database}"

    def server_ms(self) -> int:
        """The server's clock, the only one that counts."""
        return milliseconds(self.link.one("TIME"))

    def announce(self, job: str, priority: int, since_ms: int, *, surely: bool = False) -> None:
        """The job may have work: listed at its priority unless it is listed already.

        Its turn comes as if it had last been served a little before ``since_ms``, its submission:
        soon, and yet not before jobs that have waited long, or a stream of new ones starved them.
        ``surely`` waits for room if the server is full: for who will not say it again.
        """
        commands = self._announcing({job: (priority, since_ms)})
        if surely:
            if self._one("ZSCORE", self.keys.jobs, job) is not None:
                return  # a full server would refuse to hear it again
            self._mended(self.keys.jobs, lambda: self.link.together(commands))
        else:
            self._hint(*commands)

    def relist(self, jobs: Sequence[str]) -> None:
        """Jobs that are worked on are in the index: it is in another slot, and may lose them."""
        found = self.link.together(
            [("HMGET", self.keys.control(job, "meta"), "priority", "created_at") for job in jobs]
        )
        known = {
            job: (number(priority), number(created))
            for job, (priority, created) in zip(jobs, found, strict=True)
            if priority
        }
        if known:
            self._hint(*self._announcing(known))

    def _announcing(self, jobs: Mapping[str, tuple[int, int]]) -> list[Sequence[Argument]]:
        return [
            *(
                ("ZADD", self.keys.jobs, "NX", _turn(priority, since_ms - HEAD_START_MS), job)
                for job, (priority, since_ms) in jobs.items()
            ),
            ("PEXPIRE", self.keys.jobs, HINT_TTL_MS),
        ]

    def record(self, job: str, expire_at: int, now_ms: int) -> None:
        """The job exists until its deadline: for listings. Trims what is over."""
        self._hint(*self._recording(job, expire_at, now_ms))

    def _recording(self, job: str, expire_at: int, now_ms: int) -> list[Sequence[Argument]]:
        return [
            ("ZADD", self.keys.recent, expire_at, job),
            ("ZREMRANGEBYSCORE", self.keys.recent, "-inf", now_ms),
            ("PEXPIREAT", self.keys.recent, expire_at, "GT"),
            ("PEXPIREAT", self.keys.recent, expire_at, "NX"),
        ]

    def _introducing(self, job: str, priority: int, since_ms: int, expire_at: int) -> Along:
        """A job that is made is announced and recorded in the same round trip.

        Announced also ahead: a job that exists unlisted, as its server died in between, would be
        tidied by its ttl alone. Whoever finds it listed and not there takes it off the list.
        """

        def again() -> None:  # one at a time, which mends
            self.announce(job, priority, since_ms)
            self.record(job, expire_at, since_ms)

        announcing = self._announcing({job: (priority, since_ms)})
        recording = self._recording(job, expire_at, since_ms)
        return Along(announcing, [*announcing, *recording], again)

    def runnable(self, limit: int = 512) -> list[str]:
        """Jobs that may have work, first the one whose turn it is. Drops what is no job id."""
        found = self._one("ZRANGE", self.keys.jobs, 0, limit - 1)
        if strange := [job for job in found if not _JOB_ID.fullmatch(job)]:
            self._one("ZREM", self.keys.jobs, *strange)
        return [text(job) for job in found if _JOB_ID.fullmatch(job)]

    def take_turn(self, job: str, priority: int, now_ms: int) -> None:
        """The job was served: others of its priority come first now."""
        self._hint(("ZADD", self.keys.jobs, "XX", _turn(priority, now_ms), job))

    def retire(self, job: str, now_ms: int) -> None:
        """The job has ended: looked at last. Supervisors forget it after a minute."""
        self._hint(("ZADD", self.keys.jobs, "XX", _LAST + now_ms, job))

    def forget(self, *jobs: str) -> None:
        """The jobs have no more work."""
        self._one("ZREM", self.keys.jobs, *jobs)

    def unlist(self, job: str) -> None:
        """The job does not exist any more."""
        for command in self._unlisting(job):  # one at a time, which mends
            self._one(*command)

    def _unlisting(self, job: str) -> list[Sequence[Argument]]:
        return [("ZREM", key, job) for key in (self.keys.jobs, self.keys.recent)]

    def _remembering(self, row: Mapping[str, str | int] | None) -> list[Sequence[Argument]]:
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
        found, clock = self._mended(self.keys.deleted, lambda: self.link.together(ask))
        return milliseconds(clock), [row for raw in found if (row := _object(raw))]

    def _trim_now_and_then(self) -> None:
        """Of the rows of jobs that were deleted only the last ones are kept."""
        if random.random() > TRIMMED:
            return
        if surplus := self._one("ZRANGE", self.keys.deleted, 0, -DELETED_ROWS - 1):
            self._one("ZREM", self.keys.deleted, *surplus)

    def recent(self) -> list[str]:
        """Every job that may still exist, oldest deadline first."""
        found = self._one("ZRANGE", self.keys.recent, 0, -1)
        return [text(job) for job in found if _JOB_ID.fullmatch(job)]

    def wake(self, count: int, python: str, key_id: str) -> None:
        """Wake up to ``count`` idle workers that can use it."""
        if waking := self._waking(count, python, key_id):
            self._hint(*waking)

    def _waking(self, count: int, python: str, key_id: str) -> list[Sequence[Argument]]:
        if count <= 0:
            return []
        key = self.keys.wake(PROTOCOL, python, key_id)
        return [
            ("RPUSH", key, *["1"] * min(count, WAKE_CAP)),
            ("LTRIM", key, 0, WAKE_CAP - 1),
            ("PEXPIRE", key, HINT_TTL_MS),
        ]

    def wait_wake(self, python: str, key_id: str, seconds: float = BLOCK_SECONDS) -> bool:
        """Block until woken or ``seconds`` are over. A lost token costs one such wait."""
        key = self.keys.wake(PROTOCOL, python, key_id)
        return self._one("BLPOP", key, min(seconds, BLOCK_SECONDS)) is not None  # type: ignore[arg-type]

    def beat(self, worker: str, row: dict[str, Any]) -> int:
        """Say that a worker is alive, in clear; returns how many are listed, 0 if nobody knows."""
        key = self.keys.workers
        said = json.dumps({**row, "beat": self.server_ms()})
        # With the first beat: who dies after it must leave no key without a deadline.
        prolong = not self._beaten or random.random() < PROLONGED
        prolonging = [("PEXPIRE", key, HINT_TTL_MS)]
        commands = [("HSET", key, worker, said), *(prolonging if prolong else ()), ("HLEN", key)]
        if not (replies := self._hint(*commands)):
            return 0
        new, *_, listed = replies
        if new and not prolong:  # the list was lost meanwhile
            self._hint(*prolonging)
        self._beaten = True
        return int(listed)

    def leave(self, worker: str) -> None:
        """The worker is gone."""
        self._hint(("HDEL", self.keys.workers, worker))

    def worker_rows(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """The server's time in ms, and a row for each worker; drops stale rows.

        ``row["lost"]`` is whether it has missed three beats, at the pace that it has told.
        """
        ask = [("HGETALL", self.keys.workers), ("TIME",)]
        found, clock = self._mended(self.keys.workers, lambda: self.link.together(ask))
        now = milliseconds(clock)
        rows: dict[str, dict[str, Any]] = {}
        for worker, raw in found.items():
            row = _row(raw)
            silent_ms = now - row["beat"]
            beat_ms = min(row.get("every_ms") or BEAT_SECONDS * 1000, _MOST_BEAT_MS)
            if silent_ms < max(STALE_MS, (LOST_BEATS + 1) * beat_ms):
                rows[text(worker)] = row | {"lost": silent_ms > LOST_BEATS * beat_ms}
            else:
                self.leave(text(worker))
        return now, rows

    def holders(self, job: str) -> list[set[str]]:
        """For each leased task of the job the workers that hold it: one, or two at most.

        None of a task for which something else was written there.
        """
        found = self.link.one("HGETALL", self.keys.control(job, "own"))
        return [
            {executor.rpartition(":")[0] for executor in _EXECUTOR.findall(text(raw))}
            for raw in found.values()
        ]

    def publish(self, txn: str, message: bytes) -> None:
        """Tell listeners of this transaction and of all. At most once: truth is in the keys."""
        self.link.hint(*self._publishing(txn, message))

    def _publishing(self, txn: str, message: bytes) -> list[Sequence[Argument]]:
        return [("PUBLISH", channel, message) for channel in self._channels(txn)]

    def _channels(self, txn: str) -> tuple[str, str]:
        """That of the transaction, and that of all."""
        return self.keys.events(self.link.db, txn), self.keys.events(self.link.db)

    def subscribed(self, txn: str | None) -> Subscription:
        """Messages of one transaction, or of all, from its first ``get`` on; for ``with``."""
        return Subscription(self.link.client, self.keys.events(self.link.db, txn))

    def _hint(self, *commands: Sequence[Argument]) -> list[Any]:
        return self._mended(str(commands[0][1]), lambda: self.link.hint(*commands))

    def _one(self, *command: Argument) -> Any:
        return self._mended(str(command[1]), lambda: self.link.one(*command))

    def _mended(self, key: str, ask: Callable[[], T]) -> T:
        """The answer; a key that somebody made of another type goes first.

        All jobs share these keys: left so, it would stop every worker and submitter for good.
        """
        try:
            return ask()
        except KeysAltered:
            self.link.one("EVAL", UNLINK_UNLESS, 1, key, self.keys.hint_type(key))
            return ask()


_LAST = 2 * 10**16  # behind every priority


def _row(raw: bytes) -> dict[str, Any]:
    """A worker's row: numbers, and text fit for a terminal, whoever wrote it."""
    row = _object(raw)
    if row is None:
        return {"beat": 0}
    return {
        clean(name, 40): clean(str(value), 300).replace("\n", " ")
        for name, value in row.items()
        if name not in _NUMBERS
    } | {name: max(0, number(row.get(name))) for name in _NUMBERS}


def _object(raw: bytes) -> dict[str, Any] | None:
    """A JSON object; None for what is none."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _turn(priority: int, now_ms: int) -> int:
    """The score in ``jobs``: higher priority first, then who waited longest."""
    return -priority * 10**13 + now_ms
