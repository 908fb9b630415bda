"""The server's side of the state machine: the scripts, and all keys of the job at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redismr.store import Store
from redismr.store.keys import CONTROL

_LOOK = """
local found = {}
for i, key in ipairs(KEYS) do
  local kind, held = redis.call('TYPE', key).ok, {}
  if kind == 'hash' then held = redis.call('HGETALL', key)
  elseif kind == 'list' then held = redis.call('LRANGE', key, 0, -1)
  elseif kind == 'zset' then held = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end
  found[i] = { redis.call('PEXPIRETIME', key), held }
end
return found
"""
_LISTS = ("ready", "processing")


class ServerJob:
    """A ``Store`` under the clock of the test; reads everything as text."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._look = ""

    def now(self) -> int:
        """Return the server's time, for absolute deadlines."""
        self.store.now_ms = None
        return self.store.server_ms()

    def begin(self, job: str, partitions: int) -> None:
        """Use this job from here on."""
        self.job, self.partitions = job, partitions
        self.names = [*CONTROL, *(f"shuffle{p}" for p in range(partitions))]
        keys = self.store.keys
        self.keys = [keys.control(job, name) for name in CONTROL] + keys.bulk(job, 0, partitions)
        self._look = self.store.redis_client.client.script_load(_LOOK)

    def call(self, verb: str, now: int, argv: dict[str, Any]) -> list[Any]:
        """Run one verb, with the argument names of its script's header."""
        self.store.now_ms = now
        rest: list[Any] = []
        named = dict(argv)
        for name in ("commits", "missing", "held_leases", "ids", "workers"):
            rest += named.pop(name, [])
        for name, value in named.pop("fields", {}).items():
            rest += (name, value)
        if verb == "commit":
            named |= {"channel": "c", "all_channel": "a", "reducing": "r", "succeeded": "s"}
        if verb == "create":
            named |= {"channel": "c", "all_channel": "a", "event": "n"} | {
                "spec_blob": "spec",
                "code_blob": "code",
                "params_blob": "params",
            }
        reply = [_text(part) for part in self.store._run(verb, self.job, rest, **named)]
        if reply[0] == "OK" and verb in ("status", "map_outputs"):
            reply[-1] = _pairs(reply[-1])
        if reply[0] == "OK" and verb == "status" and reply[-2]:
            reply[-2][1] = _pairs(reply[-2][1])
        if reply[0] == "OK" and verb == "commit" and reply[-1]:
            reply[-1][1] = _pairs(reply[-1][1])
        return reply

    def view(self) -> dict[str, Any]:
        """Return every key of the job and its deadline, in one round trip."""
        found = self.store.redis_client.client.evalsha(self._look, len(self.keys), *self.keys)
        view: dict[str, Any] = {"deadlines": {}}
        for name, (deadline, held) in zip(self.names, found, strict=True):
            view["deadlines"][name] = deadline
            words = [word.decode() for word in held]
            if name in _LISTS:
                view[name] = words
            elif name == "lease":
                view[name] = {task: float(until) for task, until in _pairs(words).items()}
            else:
                view[name] = _pairs(words)
        return view

    @contextmanager
    def full(self) -> Iterator[None]:
        """Make the server full: verbs that add nothing must still work. A fake has no limit."""
        client, patience = self.store.redis_client.client, self.store.redis_client.patience
        if "Fake" in type(client).__name__:
            yield
            return
        self.store.redis_client.patience = 0
        client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            client.config_set("maxmemory", "0")
            self.store.redis_client.patience = patience

    # ------------------------------------------------------------------ bulk data

    def stage(self, fields: Sequence[tuple[int, str]], token: str, deadline: int) -> None:
        """Write segments."""
        parts = {p: {name: token.encode()} for p, name in fields}
        self.store.put_segments(self.job, parts, deadline)

    def stage_result(self, names: Sequence[str], token: str, deadline: int) -> None:
        """Write result chunks."""
        self.store.put_result(self.job, dict.fromkeys(names, token.encode()), deadline)

    def segments(self, partition: int, names: Sequence[str]) -> list[str | None]:
        """Read segments."""
        return [
            blob if blob is None else blob.decode()
            for blob in self.store.get_segments(self.job, partition, names)
        ]

    def drop(self, fields: Sequence[tuple[int, str]]) -> None:
        """Delete segments."""
        parts: dict[int, list[str]] = {}
        for p, name in fields:
            parts.setdefault(p, []).append(name)
        self.store.drop_segments(self.job, parts)

    def drop_result(self, names: Sequence[str]) -> None:
        """Delete result chunks."""
        self.store.drop_result(self.job, names)

    def extend_bulk(self, n_map: int, deadline: int) -> None:
        """Extend the bulk keys, as the caller of ``extend`` does."""
        self.store.extend_bulk(self.job, n_map, self.partitions, deadline)

    def delete(self) -> None:
        """Delete the job."""
        self.store.delete(self.job, 10, self.partitions)

    # ------------------------------------------------------------------ going back in time

    def save(self) -> tuple[Any, Any]:
        """Return copies of the control keys and of the segments."""
        with self.store.redis_client.client.pipeline(transaction=False) as pipe:
            for key in self.keys:
                pipe.dump(key)
                pipe.pexpiretime(key)
            found = pipe.execute()
        saved = list(zip(self.keys, found[::2], found[1::2], strict=True))
        return saved[: len(CONTROL)], saved[len(CONTROL) :]

    def restore(self, saved: Any) -> None:
        """Put the copies back, with their deadlines."""
        with self.store.redis_client.client.pipeline(transaction=True) as pipe:
            for key, dump, deadline in saved:
                if dump is None:
                    pipe.delete(key)
                else:
                    pipe.restore(key, 0, dump, replace=True)
                    pipe.pexpireat(key, deadline)
            pipe.execute()


def _text(part: Any) -> Any:
    if isinstance(part, bytes):
        return part.decode()
    return [_text(each) for each in part] if isinstance(part, list) else part


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
