"""Every clear field and every control key, altered and deleted, at every stage of a job's life."""

from __future__ import annotations

import contextlib
import queue
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import redis
from support import Server, eventually
from system.processes import SECRET

import redismr
from chaos.kit import (
    DEADLINE,
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
from redismr.core.model import PROTOCOL
from redismr.core.seal import Keyring
from redismr.store.keys import CONTROL, KeyNames

EACH = 18
JOBS_AT_ONCE = 6
PHASES = ("submitting", "mapping", "reducing", "succeeded")
HOME = {
    **dict.fromkeys(
        ("processing", "lease", "attempts", "last_claims", "done", "failures", "budgets"),
        PHASES[1:3],
    ),
    **dict.fromkeys(("ready", "wake"), PHASES[:2]),
    **dict.fromkeys(("result", "out"), PHASES[2:]),
    "end": PHASES[1:],
}
"""Phases in which a key exists, for keys that do not exist in all phases."""

HINTS = ("jobs", "recent", "workers", "wake")
KEYS = KeyNames("redismr")

ENDED = [b"succeeded", b"failed", b"cancelled"]
STATES = [b"submitting", b"mapping", b"reducing", *ENDED, b"done"]
NUMBERS = [b"0", b"1", b"2", b"-1", b"-99999999999", b"7", b"1000000", b"1e300", b"nan", b"1.5",
           b"99999999999999", b"9" * 40, b"0x10"]  # fmt: skip
GARBAGE = [b"", b"x", b" ", b"\xff\xfe\x00", b"\x1b[2J", b"y" * 5000, b"m0.x", b"-", b"None"]
BOGUS = [
    b"m0",
    b"m1",
    b"m3",
    b"m999999",
    b"r0",
    b"r1",
    b"r77",
    b"m-1",
    b"",
    b"job",
    b"m\xb2",
    b"\xff",
]


@dataclass(frozen=True, slots=True)
class Target:
    """The field of meta, or the key, to alter."""

    kind: str
    name: str


class FieldCorrupter:
    """Alters or deletes one target of one job, once, and tells what it did."""

    def __init__(self, server: Server, rng: random.Random) -> None:
        self.client, self.rng = server.client(), rng
        self.did, self.deleted = "", 0

    def alter(self, target: Target, job: str) -> None:
        """Replace the value of the target, or delete it."""
        with contextlib.suppress(redis.ResponseError):  # it was gone or of another type by then
            if target.kind == "field":
                self._field(KEYS.control(job, "meta"), target.name)
            else:
                self._key(_key_of(target, job), target.name)

    def delete(self, target: Target, job: str) -> None:
        """Delete the target as soon as it exists."""
        key, meta = _key_of(target, job), KEYS.control(job, "meta")

        def gone() -> bool:
            self.deleted = self.client.delete(key)
            return bool(self.deleted) or self.client.hget(meta, "state") in ENDED

        with contextlib.suppress(AssertionError):  # it may not come to be in this job
            eventually(gone, 5)
        self.did = f"{target.name}: deleted {self.deleted}"

    def _field(self, meta: str, field: str) -> None:
        before = self.client.hget(meta, field)
        chosen = self.rng.choice([STATES, NUMBERS, NUMBERS, GARBAGE, [None]])
        if field == "state":
            chosen = self.rng.choice([STATES, STATES, GARBAGE, [None]])
        elif before and before.isdigit() and self.rng.random() < 0.4:
            by = self.rng.choice([-1, 1, 10, -10, 86_400_000, -86_400_000])
            chosen = [b"%d" % (int(before) + by)]
        value = self.rng.choice([v for v in chosen if v != before] or [b"?"])
        self.did = f"{field}: {before!r} -> {str(value)[:60]}"
        if value is None:
            self.client.hdel(meta, field)
        else:
            self.client.hset(meta, field, value)

    def _key(self, key: str, name: str) -> None:
        kind = self.client.type(key)
        ways: list[Callable[[str], str]] = [
            self._retype,
            self._lifetime,
            self._set_back,
            self._swap,
        ]
        ways += {
            b"list": [self._list] * 3, b"zset": [self._zset] * 3, b"hash": [self._hash] * 3,
            b"string": [self._string] * 2, b"none": [self._create],
        }[kind]  # fmt: skip
        self.did = f"{name} ({kind.decode()}): {self.rng.choice(ways)(key)}"

    def _lifetime(self, key: str) -> str:
        if self.rng.random() < 0.3:
            return f"lives for ever {self.client.persist(key)}"
        left = self.rng.choice([1, 100, 86_400_000 * 300])
        return f"lives for {left} ms {self.client.pexpire(key, left)}"

    def _set_back(self, key: str) -> str:
        """Set the key back as it was a moment ago."""
        before = self.client.dump(key)
        with contextlib.suppress(AssertionError):
            eventually(lambda: self.client.dump(key) != before, 0.2)
        return self._restore(key, before, "set back")

    def _swap(self, key: str) -> str:
        """Put the key of another job there, which runs the same code on tasks of the same names."""
        name = key.rpartition(":")[2]
        others = sorted(set(self.client.scan_iter(f"redismr:{{*}}:{name}", 1000)) - {key.encode()})
        other = self.rng.choice(others) if others else b""
        return self._restore(key, self.client.dump(other), f"that of {other!r}")

    def _restore(self, key: str, dump: bytes | None, what: str) -> str:
        if dump is None:
            return f"{what}, gone {self.client.delete(key)}"
        self.client.restore(key, 60_000, dump, replace=True)
        return what

    def _retype(self, key: str) -> str:
        self.client.delete(key)
        return self._create(key)

    def _create(self, key: str) -> str:
        other, bogus = self.rng.randrange(4), self.rng.choice(BOGUS)
        if other == 0:
            self.client.set(key, b"x")
        elif other == 1:
            self.client.rpush(key, bogus)
        elif other == 2:
            self.client.hset(key, bogus, b"x")
        else:
            self.client.zadd(key, {bogus: 1.0})
        return f"made a {('string', 'list', 'hash', 'zset')[other]} with {bogus!r}"

    def _string(self, key: str) -> str:
        self.client.set(key, self.rng.choice([*GARBAGE, *NUMBERS]), keepttl=True)
        return "overwritten"

    def _list(self, key: str) -> str:
        way, bogus = self.rng.randrange(4), self.rng.choice(BOGUS)
        if way == 0:
            self.client.lpush(key, bogus)
            return f"pushed {bogus!r}"
        if way == 1:
            return f"popped {self.client.rpop(key)!r}"
        if way == 2:
            again = self.client.lindex(key, 0) or bogus
            self.client.rpush(key, *[again] * 3)
            return f"{again!r} three times more"
        self.client.lset(key, 0, bogus) if self.client.llen(key) else None
        return f"head is {bogus!r}"

    def _zset(self, key: str) -> str:
        found = self.client.zrange(key, 0, -1)
        one = self.rng.choice(found) if found else b"m0"
        way = self.rng.randrange(3)
        if way == 0:
            return f"removed {self.client.zrem(key, one)} {one!r}"
        one = one if way == 1 else self.rng.choice(BOGUS)
        score = self.rng.choice([float("inf"), float("-inf"), 0.0, 1e300, -5.0, 4e12])
        self.client.zadd(key, {one: score})
        return f"{one!r} at {score}"

    def _hash(self, key: str) -> str:
        fields = sorted(self.client.hkeys(key))
        field = self.rng.choice(fields) if fields else b"m0"
        way = self.rng.randrange(4)
        if way == 0:
            return f"{field!r} dropped {self.client.hdel(key, field)}"
        if way == 1:
            field = self.rng.choice(
                [*BOGUS, b"0", b"1", b"99", b"lost:m0", b"invalidated:m0", b"error:m0"]
            )
        values = [*GARBAGE, *NUMBERS, b"m0.tok worker 1", b"m0.a b 1,m0.c d 0", b"nonce m0,m1,r0"]
        if way == 2 and len(fields) > 1:
            values = [self.client.hget(key, self.rng.choice(fields)) or b""]
        value = self.rng.choice(values)
        self.client.hset(key, field, value)
        return f"{field!r} = {value[:40]!r}"


def _key_of(target: Target, job: str) -> str:
    return _hint(target.name) if target.name in HINTS else KEYS.control(job, target.name)


def _hint(name: str) -> str:
    if name == "wake":
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return KEYS.wake(PROTOCOL, python, Keyring(SECRET, "redismr").key_id)
    return str(getattr(KEYS, name))


def fields_of_a_job(server: Server, client: redismr.Client, plan: Plan) -> list[str]:
    """Return every field that meta has in any phase of a job, and the fields of failed jobs."""
    fields, corrupter = {"cause", "ended_at", "retried"}, server.client()

    def look(job: str) -> None:
        fields.update(field.decode() for field in corrupter.hkeys(KEYS.control(job, "meta")))

    for phase in PHASES:
        job = _run_to_phase(client, _case(plan.rng("fields", phase)), phase, look, server)
        job.result(timeout=DEADLINE)
        job.delete()
    return sorted(fields)


def _slowly(_key: str, values: list[Any]) -> Any:
    import time

    import redismr

    redismr.count("reduced")
    time.sleep(0.004)
    return list(values)


def _flaky(item: Any) -> Iterator[tuple[str, Any]]:
    import random

    from chaos.kit import _emit_pairs

    chance = random.SystemRandom()
    if chance.random() < 0.1:  # never twice the same error: that would be the record's fault
        raise RuntimeError(chance.randbytes(8).hex())
    return _emit_pairs(item)


def _case(rng: random.Random, target: Target | None = None) -> Case:
    """Make a job that has every target, and a reduce stage long enough to alter it."""
    name = target.name if target else ""
    if name in ("failures", "budgets"):
        case = make_case(rng, tasks=16, on_error="fail", retries=100)
        return replace(case, functions={**case.functions, "mapfn": _flaky})
    case = make_case(rng, tasks=16)
    while name == "out" and case.name != "big":  # smaller results travel in their manifest
        case = make_case(rng, tasks=16)
    if case.name == "sum":
        return case
    return replace(case, functions={**case.functions, "reducefn": _slowly})


def _run_to_phase(
    client: redismr.Client, case: Case, phase: str, act: Callable[[str], object], server: Server
) -> redismr.Job:
    """Submit the job and act on it in this phase."""
    watch = server.client()
    state = lambda: watch.hget(KEYS.control(job.id, "meta"), "state")
    if phase == "submitting":
        txn = f"txn{id(case)}"
        items = _interrupted(case.items, lambda: act(_job_of(watch, txn)))
        job = submit(client, replace(case, items=items, options={**case.options, "txn": txn}))  # type: ignore[arg-type]
    else:
        job = submit(client, case)
        if phase == "reducing":
            # Somebody must wait for it: with its entry in ``jobs`` lost, nobody lists it again.
            eventually(lambda: job.wait(0.005) or state() == b"reducing", DEADLINE)
        elif phase == "succeeded":
            job.wait(DEADLINE)
        act(job.id)
    watch.close()
    return job


def _interrupted(items: list[Any], act: Callable[[], object]) -> Iterator[Any]:
    for number, item in enumerate(items):
        if number == len(items) // 2:
            act()
        yield item


def _job_of(watch: Any, txn: str) -> str:
    """Return the id of the job that is being submitted."""
    for key in watch.scan_iter(match="redismr:{*}:meta", count=1000):
        if watch.type(key) == b"hash" and watch.hget(key, "txn") == txn.encode():
            return str(key.decode().partition("{")[2].partition("}")[0])
    raise LookupError(txn)


class Attacks:
    """Runs attacks on daemon threads: a thread that hangs ends with the process."""

    def __init__(self, plan: Plan, server: Server, client: redismr.Client) -> None:
        self.plan, self.server, self.client = plan, server, client
        self.todo: queue.Queue[tuple[Target, int]] = queue.Queue()
        self.found: queue.Queue[tuple[Target, Outcome]] = queue.Queue()

    def start(self, todo: list[tuple[Target, int]]) -> None:
        """Start the threads."""
        for attack in todo:
            self.todo.put(attack)
        for _ in range(JOBS_AT_ONCE):
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            try:
                target, number = self.todo.get_nowait()
            except queue.Empty:
                return
            try:
                found = self._run_job(target, number)
            except Exception as error:  # of the row itself
                found = Outcome({"s slowest": 0}, missed=[repr(error)])
            self.found.put((target, found))

    def _run_job(self, target: Target, number: int) -> Outcome:
        """Run one job with one alteration; return what became of it."""
        rng = self.plan.rng("fields", target, number)
        # Every other time a key is deleted, while there is one.
        delete = target.kind == "key" and (number + len(target.name)) % 2 == 0
        phases = HOME.get(target.name, PHASES) if delete else PHASES
        phase = phases[(number // (1 + delete) if number else rng.randrange(4)) % len(phases)]
        found, corrupter, case = Outcome(), FieldCorrupter(self.server, rng), _case(rng, target)
        job, act, began = None, corrupter.delete if delete else corrupter.alter, time.monotonic()
        try:
            job = _run_to_phase(self.client, case, phase, lambda job: act(target, job), self.server)
            results = job.result(timeout=DEADLINE)
            told = problems(case, results, results.counters)
            found.wrong += [f"job {job.id}: {text}" for text in told]
            found.add("right", not told)
        except TimeoutError as error:
            found.missed.append(f"stuck: {error!r}, {job and job.progress()}")
        except redismr.RedismrError as error:
            found.add("named errors")
            if len(str(error)) < 20:
                found.missed.append(repr(error))
        except Exception as error:  # a bug of ours is to be shown, whatever it raises
            found.missed.append(repr(error))
        seconds = time.monotonic() - began
        found.missed = [f"{phase}, {corrupter.did}: {text}" for text in found.missed]
        found.wrong = [f"{phase}, {corrupter.did}: {text}" for text in found.wrong]
        found.figures["s slowest"] = round(seconds, 1)
        found.figures["deleted"] = corrupter.deleted
        if job:
            job.delete()
        corrupter.client.close()
        return found


def run(plan: Plan) -> Outcome:
    """Attack every target EACH times, in every phase."""
    outcome, server = Outcome(), Server("valkey")
    outcome.figures = {"right": 0, "named errors": 0}
    times: Counter[Target] = Counter()
    deleted: Counter[Target] = Counter()
    slowest = 0.0
    try:
        with fleet(server.url, plan, "fields") as workers, client_of(server.url) as client:
            for _ in range(2):
                workers.join(2)
            names = [*CONTROL, *HINTS]
            targets = [Target("field", name) for name in fields_of_a_job(server, client, plan)]
            outcome.figures |= {"fields": len(targets), "keys": len(names)}
            targets += [Target("key", name) for name in names]
            attacks = Attacks(plan, server, client)
            todo = [(target, number) for number in range(plan.amount(EACH)) for target in targets]
            attacks.start(todo)
            for _ in todo:
                target, found = attacks.found.get(timeout=3 * DEADLINE)
                times[target] += 1
                deleted[target] += found.figures.get("deleted", 0)
                for name in ("right", "named errors"):
                    outcome.add(name, found.figures.get(name, 0))
                slowest = max(slowest, found.figures["s slowest"])
                outcome.wrong += found.wrong
                outcome.missed += found.missed
    finally:
        server.close()
    outcome.figures |= {"times each, at least": min(times.values()), "s slowest": slowest}
    outcome.figures["keys deleted, at least"] = min(deleted[t] for t in times if t.kind == "key")
    outcome.floor("times each, at least", plan.amount(EACH))
    outcome.floor("keys deleted, at least", int(5 * plan.scale))
    outcome.floor("right", len(times) * plan.amount(EACH) / 4)
    return outcome


ROWS = [
    Row(
        "fields",
        "each clear field and each control key altered or deleted, in every phase",
        "each at least 5 times, 0 wrong, none stuck",
        "Clear fields only schedule: altering them costs time or ends the job with a named error.",
        run,
    )
]
