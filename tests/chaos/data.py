"""Sealed data, deleted or altered while jobs run and after their end."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from support import Server, eventually

import redismr
from chaos.kit import (
    DEADLINE,
    LEASE,
    Case,
    Outcome,
    Plan,
    Row,
    client_of,
    fleet,
    make_case,
    problems,
    submit,
)
from redismr.store.keys import CONTROL, KeyNames

KEYS = KeyNames("redismr")
ALTERED = 600
JOBS_AT_ONCE = 4
SLOWEST = 20.0
"""Longest time of a job, whatever was altered: an idle worker looks again every 10 s."""

WEIGHTS = {
    "shuffle": 8, "done": 3, "result": 3, "out": 3, "input": 2,
    "spec": 1, "end": 1, "code": 1, "params": 1,
}  # fmt: skip
"""Every kind of sealed data, and how often it is chosen."""

SEGMENTS = {"shuffle": 1}
"""Half of the jobs lose only segments: redismr makes these, and nothing else, again."""

RERUNS = 3
"""How often at least a map's segments may be lost before the job fails."""

HSET_IF_PRESENT = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
"""
"""A key that was just freed must not come back: it would have no deadline."""


class DataCorrupter:
    """Alters sealed values of a job, and remembers values to put them back later or elsewhere.

    Now and then it puts some control keys, clear ones too, back as they were at an earlier call: as
    if the server had lost writes of these keys only.
    """

    def __init__(
        self,
        server: Server,
        rng: random.Random,
        memory: dict[str, list[bytes]],
        weights: dict[str, int],
    ) -> None:
        self.client, self.rng, self.memory = server.client(), rng, memory
        self.weights = weights
        #: Some corrupters do only this: other damage would make tasks run again, and so repair it.
        self.only_way = rng.choice(["", "", "swapped", "swapped", "another's"])
        self.seen: dict[tuple[bytes, bytes], bytes] = {}
        self.earlier_dumps: list[dict[str, bytes | None]] = []
        self.done: list[str] = []

    def corrupt_one(self, job: str) -> None:
        """Alter one existing value."""
        if self.weights is WEIGHTS and not self.only_way and self._put_back_keys(job):
            return
        keys = self._victims(job)
        if self.weights is SEGMENTS:  # there for some ms only
            with contextlib.suppress(AssertionError):
                keys = eventually(lambda: self._victims(job), 0.3)
        while keys:
            (kind,) = self.rng.choices(list(keys), [self.weights[kind] for kind in keys])
            key = self.rng.choice(sorted(keys.pop(kind)))
            if what := self._alter(kind, key):
                self.done.append(f"{kind} {what}")
                return

    def _victims(self, job: str) -> dict[str, list[bytes]]:
        keys: dict[str, list[bytes]] = {}
        for key in self.client.scan_iter(match=f"redismr:{{{job}*", count=1000):
            kind = key.rpartition(b":")[2].decode()
            if kind in self.weights:
                keys.setdefault(kind, []).append(key)
        return keys

    def _put_back_keys(self, job: str) -> bool:
        names = [KEYS.control(job, name) for name in CONTROL]
        now = {name: self.client.dump(name) for name in names}
        changed = [
            name
            for name in names
            if self.earlier_dumps and self.earlier_dumps[-1][name] != now[name]
        ]
        self.earlier_dumps.append(now)
        if not changed or self.rng.random() < 0.6:
            return False
        chosen = self.rng.sample(changed, self.rng.randint(1, len(changed)))
        earlier = self.rng.choice(self.earlier_dumps[:-1])
        with self.client.pipeline() as pipeline:
            for name in chosen:
                pipeline.delete(name)
                if dump := earlier[name]:
                    pipeline.restore(name, 60_000, dump)
            pipeline.execute()
        kinds = (name.rpartition(":")[2] for name in chosen)
        self.done.append(f"put back: {' '.join(sorted(kinds))}")
        return True

    def _alter(self, kind: str, key: bytes) -> str:
        if self.client.type(key) == b"string":
            value = self.client.get(key)
            if not value:
                return ""
            what, new = self._choose_alteration(kind, key, b"", value)
            if not what:
                return ""
            if new is None:
                return what if self.client.delete(key) else ""
            return what if self.client.set(key, new, keepttl=True, xx=True) else ""
        fields = self.client.hkeys(key)
        if not fields:
            return ""
        if not self.only_way and self.rng.random() < 0.05:
            return "key deleted" if self.client.delete(key) else ""
        field = self.rng.choice(sorted(fields))
        value = self.client.hget(key, field)
        if value is None:
            return ""
        what, new = self._choose_alteration(kind, key, field, value)
        if not what:
            return ""
        if new is None:
            return what if self.client.hdel(key, field) else ""
        return what if self.client.eval(HSET_IF_PRESENT, 1, key, field, new) else ""

    def _choose_alteration(
        self, kind: str, key: bytes, field: bytes, value: bytes
    ) -> tuple[str, bytes | None]:
        """Return a way to alter the value, and the new value (None: delete it)."""
        ways: dict[str, Callable[[], bytes | None]] = {
            "deleted": lambda: None,
            "grown": lambda: value + b"\0",
        }
        if value:
            ways["bit flipped"] = lambda: self._flip_bit(value)
            ways["cut"] = lambda: value[: self.rng.randrange(len(value))]
            ways["emptied"] = lambda: b""
        if others := [v for v in self.memory.get(kind, []) if v != value]:
            ways["another's"] = lambda: self.rng.choice(others)
        older = self.seen.get((key, field), value)
        if older != value:
            ways["older"] = lambda: older
        if field:
            beside = self.client.hget(key, self.rng.choice(sorted(self.client.hkeys(key)) or [b""]))
            if beside not in (None, value):
                ways["swapped"] = lambda: beside
        if kind in ("done", "result") and b" " in value:
            ways["token altered"] = lambda: value.replace(b" ", b"x ", 1)
        self._remember(kind, key, field, value)
        if self.only_way:
            ways = {way: ways[way] for way in ways if way == self.only_way}
        if not ways:
            return "", None
        what = "older" if "older" in ways and self.rng.random() < 0.5 else self.rng.choice([*ways])
        return what, ways[what]()

    def _flip_bit(self, value: bytes) -> bytes:
        at = self.rng.randrange(len(value))
        return value[:at] + bytes([value[at] ^ 1 << self.rng.randrange(8)]) + value[at + 1 :]

    def _remember(self, kind: str, key: bytes, field: bytes, value: bytes) -> None:
        self.seen.setdefault((key, field), value)
        self.memory.setdefault(kind, []).append(value)
        del self.memory[kind][:-20]


def _emit_random(item: tuple[int, float]) -> Iterator[tuple[str, Any]]:
    import os
    import time

    import redismr

    number, seconds = item
    redismr.count("mapped")
    time.sleep(seconds)
    nonce = os.urandom(700).hex()
    for key in range(6):
        yield f"k{key}", (number, nonce)


def _keep_list(_key: str, values: list[Any]) -> Any:
    import redismr

    redismr.count("reduced")
    return list(values)


def unrepeatable_case(rng: random.Random) -> Case:
    """Make a job whose maps never emit the same twice, which shows a mix of two attempts."""
    items = [(number, rng.uniform(0, 0.008)) for number in range(40)]
    options = {"lease": LEASE, "partitions": rng.choice([3, 5]), "chunk": 2}
    functions = {"mapfn": _emit_random, "reducefn": _keep_list}
    return Case("dice", items, functions, options, {f"k{key}": None for key in range(6)})


def mixed_attempts(job_case: Case, found: dict[str, Any], counters: dict[str, int]) -> list[str]:
    """Return why a result cannot come from one attempt of each map; [] if it can."""
    wrong = []
    if set(found) != set(job_case.expected):
        wrong.append(f"dice: keys {sorted(found)}")
    if any([number for number, _ in values] != list(range(40)) for values in found.values()):
        wrong.append("dice: values are missing, doubled or out of order")
    if any(values != found["k0"] for values in found.values()):
        wrong.append("dice: partitions are of different attempts")
    if counters != job_case.counts:
        wrong.append(f"dice: {counters} counted")
    return wrong


def run(plan: Plan) -> Outcome:
    """Run several jobs at a time, each with its corrupter, until enough was altered."""
    outcome, server = Outcome(), Server("valkey")
    wanted, memory = plan.amount(ALTERED), dict[str, list[bytes]]()
    kinds: set[str] = set()
    outcome.figures = {"altered": 0, "right": 0, "maps run again": 0, "named errors": 0}
    outcome.figures["s slowest"] = 0
    try:
        with fleet(server.url, plan, "data") as workers, client_of(server.url) as client:
            for _ in range(2):
                workers.join(2)
            number = 0
            with ThreadPoolExecutor(JOBS_AT_ONCE) as threads:
                while outcome.figures["altered"] < wanted and not outcome.missed:
                    corrupters = [
                        DataCorrupter(server, plan.rng("data", number, n), memory, weights)
                        for n, weights in enumerate((SEGMENTS, WEIGHTS) * (JOBS_AT_ONCE // 2))
                    ]
                    for found in threads.map(lambda v: _run_job(client, v), corrupters):
                        for name in ("altered", "right", "maps run again", "named errors"):
                            outcome.add(name, found.figures.get(name, 0))
                        slowest = max(outcome.figures["s slowest"], found.figures["s slowest"])
                        outcome.figures["s slowest"] = slowest
                        outcome.wrong += found.wrong
                        outcome.missed += found.missed
                    kinds |= {
                        what.partition(":")[0]
                        for corrupter in corrupters
                        for what in corrupter.done
                    }
                    number += 1
    finally:
        server.close()
    outcome.figures["ways"] = len(kinds)
    outcome.floor("altered", wanted)
    outcome.floor("maps run again", plan.amount(100))
    outcome.ceiling("s slowest", SLOWEST)
    return outcome


def _run_job(client: redismr.Client, corrupter: DataCorrupter) -> Outcome:
    """Corrupt one job while it runs, before it is collected, and while it is read."""
    rng, found = corrupter.rng, Outcome(figures={"s slowest": 0})
    job_case = (
        unrepeatable_case(rng)
        if corrupter.weights is SEGMENTS or rng.random() < 0.2
        else make_case(rng)
    )
    job = submit(client, job_case)
    began = time.monotonic()
    try:
        for _ in range(rng.randrange(2 if corrupter.weights is SEGMENTS else 0, 7)):
            time.sleep(rng.uniform(0, 0.06))
            corrupter.corrupt_one(job.id)
        if not job.wait(DEADLINE):
            found.missed.append(
                f"{job_case.name} job {job.id}: stuck, {job.progress()}, {corrupter.done}"
            )
            return found
        if rng.random() < 0.3:
            corrupter.corrupt_one(job.id)
        results = job.result(timeout=DEADLINE)
        if rng.random() < 0.3:
            corrupter.corrupt_one(job.id)
        counters = dict(results.counters)
        complaints = (
            mixed_attempts(job_case, dict(results), counters)
            if job_case.name == "dice"
            else problems(job_case, results, counters)
        )
        found.wrong += [f"job {job.id}: {text} after {corrupter.done}" for text in complaints]
        found.add("right", not complaints)
    except redismr.RedismrError as error:
        found.add("named errors")
        again = corrupter.weights is SEGMENTS and max(_reruns(corrupter, job), default=0) <= RERUNS
        if not corrupter.done or len(str(error)) < 20 or again:
            found.missed.append(f"{job_case.name} job {job.id}: {error!r} after {corrupter.done}")
    except Exception as error:  # a bug of ours is to be shown, whatever it raises
        found.missed.append(f"{job_case.name} job {job.id}: {error!r} after {corrupter.done}")
    found.figures["s slowest"] = round(time.monotonic() - began, 1)
    found.figures["altered"] = len(corrupter.done)
    found.add("maps run again", sum(_reruns(corrupter, job)))
    job.delete()
    corrupter.client.close()
    return found


def _reruns(corrupter: DataCorrupter, job: redismr.Job) -> list[int]:
    """Return how often each map was sent to run again."""
    budgets = corrupter.client.hgetall(KEYS.control(job.id, "budgets"))
    return [int(n) for what, n in budgets.items() if what.startswith(b"invalidated:")]


ROWS = [
    Row(
        "data",
        "sealed data of each kind, input, code, spec and end deleted, altered, swapped, replayed",
        ">= 500 altered, 0 wrong, none stuck, jobs that lost only segments end right",
        "Whatever is sealed is right, or computed again, or the job ends with an error saying so.",
        run,
    )
]
