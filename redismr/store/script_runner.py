"""Runs the scripts of the protocol on the keys of a job."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redismr.errors import KeysAltered
from redismr.store.channel import ChannelStore
from redismr.store.chunks import ChunkStore
from redismr.store.job_index import JobIndexStore
from redismr.store.job_reads import JobReads
from redismr.store.keys import CONTROL
from redismr.store.reply_values import Answer
from redismr.store.round_trips import NO_PIGGYBACK, Argument, Piggyback, RedisCommand

MAX_CACHED_KEY_NAMES = 64
"""Jobs of which a store remembers the names of the control keys."""


class ScriptRunner(ChunkStore, JobReads, JobIndexStore, ChannelStore):
    """The common base of the verbs of the protocol."""

    now_ms: int | None
    _key_names: dict[str, dict[str, str]]

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
        return self.redis_client.call(verb, self._control_keys(job), named, rest, before, piggyback)

    def _run_each(
        self,
        verb: str,
        rest_by_job: Mapping[str, Sequence[Argument]],
        parse_reply: Callable[[str, list[Any]], Answer],
        **argv: Argument,
    ) -> dict[str, Answer | KeysAltered]:
        """Run one script for each job in one round trip; return job -> parsed reply."""
        calls = [(self._control_keys(job), rest) for job, rest in rest_by_job.items()]
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

    def _control_keys(self, job: str) -> dict[str, str]:
        if (names := self._key_names.get(job)) is None:
            if len(self._key_names) > MAX_CACHED_KEY_NAMES:
                self._key_names.clear()
            names = {name: self.keys.control(job, name) for name in CONTROL}
            names["end_"] = names["end"]  # `end` is a keyword of Lua
            self._key_names[job] = names
        return names


def raise_if_altered(answer: Answer | KeysAltered) -> Answer:
    """Return the answer; raise it if it is an error about altered keys."""
    if isinstance(answer, KeysAltered):
        raise answer
    return answer
