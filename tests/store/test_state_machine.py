"""Random steps on a real server: after each, the invariants of ARCHITECTURE.md hold.

Each map record holds its own token, and each result the tokens it was "made from", so that a
result that mixed two attempts of a map, or missed one, would be seen (the ghost check).
"""

from __future__ import annotations

import itertools
import json

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from jobs import LEASE_MS, make_job

from redismr.config import Connection
from redismr.store import Commit, Store

MAPS, PARTITIONS = 3, 2
_serial = itertools.count()


class Protocol(RuleBasedStateMachine):
    """Three executors, three maps, two partitions, with lost replies, zombies and lost segments."""

    store: Store

    def __init__(self):
        super().__init__()
        self.job = make_job(self.store, f"sm{next(_serial)}", partitions=PARTITIONS)
        self.added = 0
        self.closed = False
        self.nonces = itertools.count()
        self.attempts: list[tuple[str, str, str, str]] = []  # executor, task, nonce, basis
        self.read: dict[str, dict[int, str]] = {}  # reduce token -> the map tokens it read

    def remember(self, executor, claim):
        for task in claim.tasks if claim else ():
            attempt = (executor, task, claim.nonce, claim.basis)
            if attempt not in self.attempts:
                self.attempts.append(attempt)

    @rule(n=st.integers(1, 2))
    def add(self, n):
        last = min(MAPS, self.added + n)
        self.store.add(self.job, 0, last)
        self.added = max(self.added, last)

    @rule()
    def close(self):
        if self.added == MAPS:
            self.store.close(self.job, MAPS, f"close{next(self.nonces)}", b"end")
            self.closed = True

    @rule(executor=st.sampled_from(["e1", "e2", "e3"]), want=st.integers(1, 3), lost=st.booleans())
    def claim(self, executor, want, lost):
        nonce = f"n{next(self.nonces)}"
        first = self.store.claim(self.job, executor, nonce, want)
        if lost:  # the reply never came: the same question has the same answer
            again = self.store.claim(self.job, executor, nonce, want)
            assert again.tasks == first.tasks
            if executor == "e3":
                return  # and this one died before it asked again
        self.remember(executor, first)

    def record(self, task, nonce, basis):
        token = f"{task}.{nonce}"
        if task[0] == "m":
            return token.encode()
        if token not in self.read:
            state, now, names = self.store.names(self.job)
            if state != "reducing" or now != basis or len(names) < MAPS:
                return None
            self.read[token] = {i: r.split(b" ")[0].decode() for i, r in names.items()}
        return json.dumps(self.read[token]).encode()

    @rule(data=st.data(), twice=st.booleans())
    def commit(self, data, twice):
        if not self.attempts:
            return
        executor, task, nonce, basis = data.draw(st.sampled_from(self.attempts))
        record = self.record(task, nonce, basis)
        if record is None:
            return
        commit = Commit(task, f"{task}.{nonce}", record, basis=basis)
        following = f"n{next(self.nonces)}"
        first = self.store.commit(self.job, executor, [commit], following, 1)
        if twice and first:
            before = self.snapshot()
            again = self.store.commit(self.job, executor, [commit], following, 1)
            assert again.claim.tasks == first.claim.tasks
            if first.statuses == ("OK",) and first.claim.state in ("mapping", "reducing"):
                assert again.statuses == ("DUP_OK",)
            assert self.snapshot() == before
        if first:
            self.remember(executor, first.claim)

    @rule(data=st.data(), kind=st.sampled_from(["error", "lost"]))
    def fail(self, data, kind):
        if self.attempts:
            executor, task, nonce, _ = data.draw(st.sampled_from(self.attempts))
            self.store.fail(
                self.job, task, f"{task}.{nonce}", executor,
                kind=kind, signature=nonce, cause="test", failure=b"",
            )  # fmt: skip

    @rule(data=st.data())
    def release(self, data):
        if self.attempts:
            executor, task, nonce, _ = data.draw(st.sampled_from(self.attempts))
            self.store.release(self.job, executor, nonce, [task])

    @rule(data=st.data())
    def read_then_wait(self, data):
        """A reducer reads its names early and commits much later."""
        if self.attempts:
            _, task, nonce, basis = data.draw(st.sampled_from(self.attempts))
            if task[0] == "r":
                self.record(task, nonce, basis)

    @rule(data=st.data(), index=st.integers(0, MAPS - 1))
    def invalidate(self, data, index):
        reducers = [a for a in self.attempts if a[1][0] == "r"]
        if reducers:
            _, task, nonce, basis = data.draw(st.sampled_from(reducers))
            record = self.record(task, nonce, basis)
            if record:
                token = self.read[f"{task}.{nonce}"][index]
                self.store.invalidate(self.job, task, f"{task}.{nonce}", basis, {index: token})

    @rule(part=st.integers(1, 4))
    def time_passes(self, part):
        self.store.now_ms += LEASE_MS * part // 4
        self.store.reclaim(self.job, 2)

    def snapshot(self):
        get, key = self.store.link.one, lambda name: self.store.keys.control(self.job, name)
        return {
            "meta": self.store.look(self.job).meta,
            "ready": [x.decode() for x in get("LRANGE", key("ready"), 0, -1)],
            "processing": sorted(x.decode() for x in get("LRANGE", key("processing"), 0, -1)),
            "lease": sorted(x.decode() for x in get("ZRANGE", key("lease"), 0, -1)),
            "own": {k.decode(): v.decode() for k, v in get("HGETALL", key("own")).items()},
            "done": {int(k): v for k, v in get("HGETALL", key("done")).items()},
            "result": {int(k): v for k, v in get("HGETALL", key("result")).items()},
        }

    @invariant()
    def holds(self):
        s = self.snapshot()
        state = s["meta"]["state"]
        assert s["processing"] == s["lease"] == sorted(s["own"]), "I2_lease_is_own"
        assert all(1 <= len(v.split(",")) <= 2 for v in s["own"].values()), "I2_lease_is_own"
        assert len(set(s["ready"])) == len(s["ready"]), "I1_one_place"
        assert ("basis" in s["meta"]) == (state == "reducing"), "I7_basis"
        tokens = {i: r.split(b" ")[0].decode() for i, r in s["done"].items()}
        if state in ("submitting", "mapping"):
            places = s["ready"] + s["lease"] + [f"m{i}" for i in s["done"]]
            assert sorted(places) == [f"m{i}" for i in range(self.added)], "I1_one_place"
            assert not s["result"], "I8_closed_stage"
        if state == "reducing":
            assert len(s["done"]) == MAPS, "I3_reducing_is_mapped"
            places = s["ready"] + s["lease"] + [f"r{p}" for p in s["result"]]
            assert sorted(places) == [f"r{p}" for p in range(PARTITIONS)], "I1_one_place"
        made_from = [json.loads(r.split(b" ", 1)[1]) for r in s["result"].values()]
        for names in made_from:
            read = {int(i): token for i, token in names.items()}
            assert sorted(read) == list(range(MAPS)), "a result with a hole"
            assert state == "succeeded" or read == tokens, "I4_results_of_present_maps"
        assert all(read == made_from[0] for read in made_from), "partitions mix attempts"
        if state == "succeeded":
            assert len(made_from) == PARTITIONS
        if state in ("succeeded", "failed", "cancelled"):
            assert not (s["ready"] or s["lease"] or s["own"]), "I9_ended_is_empty"
        elif self.closed:
            assert s["ready"] or s["lease"], "I10_never_idle"


def test_invariants_hold_after_every_step(server):
    store = Store(Connection(url=server.url, secret=server.secret), patience=5)
    store.now_ms = store.server_ms()

    class Bound(Protocol):
        pass

    Bound.store = store
    run_state_machine_as_test(
        Bound, settings=settings(max_examples=60, stateful_step_count=60, deadline=None)
    )
    store.link.close()
