"""The task protocol as plain Python: a model of the scripts in ``store/lua``.

One method per verb takes the arguments of the script and returns its reply. There is no Redis here,
no clock and no randomness: a job is a few dicts and lists, and ``now`` is given. The state machine
(``steps.py``) takes the same random steps with a ``Model`` and with a real server, and compares
every answer and every key. To add a verb, add a method of its name.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from redismr.core.model import RUNNING_STATES, is_map_task
from redismr.store.limits import LIMITS

Reply = list[Any]


limits = SimpleNamespace(**{name: limit.value for name, limit in LIMITS.items()})


@dataclass(slots=True)
class LiveAttempt:
    """One attempt that holds a task."""

    token: str
    executor: str
    started: bool
    since: int

    def __str__(self) -> str:
        return f"{self.token} {self.executor} {int(self.started)} {self.since}"


@dataclass(slots=True)
class Model:
    """A job's control state. ``meta`` is empty when there is no such job."""

    meta: dict[str, Any] = field(default_factory=dict)
    ready: list[str] = field(default_factory=list)
    processing: list[str] = field(default_factory=list)
    lease: dict[str, float] = field(default_factory=dict)
    attempts: dict[str, list[LiveAttempt]] = field(default_factory=dict)
    done: dict[str, str] = field(default_factory=dict)
    result: dict[str, str] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)
    last_claims: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    budgets: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> Model:
        """Return a copy, a state to come back to."""
        return copy.deepcopy(self)

    def view(self) -> dict[str, Any]:
        """Return what Redis must hold, key by key."""
        return {
            "meta": {name: str(value) for name, value in self.meta.items()},
            "ready": list(self.ready),
            "processing": list(self.processing),
            "lease": dict(self.lease),
            "attempts": {task: ",".join(map(str, live)) for task, live in self.attempts.items()},
            "done": dict(self.done),
            "result": dict(self.result),
            "out": dict(self.out),
            "last_claims": {
                who: f"{last} {','.join(ids)}" for who, (last, ids) in self.last_claims.items()
            },
            "failures": dict(self.failures),
            "budgets": {name: str(value) for name, value in self.budgets.items()},
        }

    @property
    def state(self) -> str:
        """The job's state, empty if it is gone."""
        return self.meta.get("state", "")

    @property
    def running(self) -> bool:
        """True if the job has not ended."""
        return self.state in RUNNING_STATES

    # ------------------------------------------------------------------ the submitter's verbs

    def create(self, now: int, ttl_ms: int, submit_ms: int, **fields: Any) -> Reply:
        """Create the job; a repeat changes nothing."""
        if self.meta:
            return ["EXISTS", str(self.meta["expire_at"])]
        expire_at = now + ttl_ms
        self.meta = {
            "state": "submitting", "maps_added": 0, "created_at": now, "supervisor_seen_at": now,
            "expire_at": expire_at, "ttl_ms": ttl_ms, "submit_ms": submit_ms,
            "submit_until": now + submit_ms, **fields,
        }  # fmt: skip
        return ["OK", str(expire_at)]

    def add(
        self, now: int, first: int, last: int, input_added: str,
        workers: Sequence[str] = (),
    ) -> Reply:  # fmt: skip
        """Make each map task ready once; only the worker in ``workers`` may run it."""
        if not self.meta:
            return ["GONE", 0, 0, ""]
        added, finished = self.meta["maps_added"], len(self.done)
        if self.state != "submitting":
            return ["ENDED", added, finished, self.state]
        self.meta["submit_until"] = now + self.meta["submit_ms"]
        if input_added:
            self.meta["input_added"] = input_added
        if first > added:
            return ["SHORT", added, finished, self.state]
        for index in range(added, last):
            self.ready.append(f"m{index}")
            for worker in workers[index - first :][:1]:
                self.meta[f"assigned:{worker}"] = f"m{index}"
        self.meta["maps_added"] = max(added, last)
        return ["OK", self.meta["maps_added"], finished, self.state]

    def close(self, now: int, n: int, nonce: str, end_blob: str) -> Reply:
        """Set the number of maps, once."""
        if not self.meta:
            return ["GONE", "", 0, 0]
        added = self.meta["maps_added"]
        if self.state != "submitting":
            return ["OK" if self.running else "ENDED", self.state, added, 0]
        if added < n:
            return ["SHORT", self.state, added, 0]
        self.meta |= {"state": "mapping", "n_map": n}
        opened = self._advance(nonce, now)
        return ["OK", self.state, added, opened]

    def cancel(self, now: int) -> Reply:
        """End the job for the user; keep nothing."""
        if not self.meta:
            return ["GONE", ""]
        if not self.running:
            return ["ENDED", self.state]
        self.meta |= {"state": "cancelled", "ended_at": now}
        self.meta.pop("basis", None)
        self._clear("ready", "processing", "lease", "attempts", "done", "result", "out")
        self._clear("last_claims", "failures", "budgets")
        return ["OK", "cancelled"]

    def fail_job(self, now: int, cause: str, sealed_failure: str) -> Reply:
        """End the job for a fault that no task is to blame for."""
        if not self.meta:
            return ["GONE", ""]
        if not self.running:
            return ["ENDED", self.state]
        self.failures["job"] = sealed_failure
        self._end_failed(cause, now)
        return ["OK", "failed"]

    def extend(self, now: int) -> Reply:
        """Let a running job live for its ttl from now on."""
        if not self.meta:
            return ["GONE", 0, 0, 0]
        if not self.running:
            return ["ENDED", 0, 0, 0]
        self.meta["expire_at"] = now + self.meta["ttl_ms"]
        return ["OK", str(self.meta["expire_at"]), self.meta["maps_added"], self.meta["partitions"]]

    # ------------------------------------------------------------------ an executor's verbs

    def claim(
        self, now: int, executor: str, nonce: str, want: int, want_reduces: int, backup: int,
        include_spec: int,
    ) -> Reply:  # fmt: skip
        """Lease ready tasks under tokens of this nonce, or one task a second time."""
        if not self.meta:
            return ["GONE", "", "", 0, [], 0]
        before = self.state, self.meta.get("basis", "")
        want = self._together(want_reduces) if self.state == "reducing" else want
        ids = self._grant(now, executor, nonce, want, want, backup=bool(backup))
        sealed = ["spec", "code", "params"] if include_spec and ids else []
        first = ids and len(self.processing) == len(ids) and not self.done
        return ["OK", *before, now, sealed, *ids, len(self.ready) if first else 0]

    def commit(
        self, now: int, executor: str, next_nonce: str, want: int, min_want: int,
        want_reduces: int, commits: list[Any],
    ) -> Reply:  # fmt: skip
        """Count each attempt once or refuse it; then claim."""
        if not self.meta:
            return ["GONE", "", "", 0, 0, 0, []]
        statuses, last_token, took = [], None, 0
        for at in range(0, len(commits), 8):
            task, token, basis, chunks, shuffled, record, _, read = commits[at : at + 8]
            since = next((h.since for h in self.attempts.get(task, []) if h.token == token), now)
            statuses.append(self._settle(task, token, basis, chunks, record))
            if statuses[-1] == "OK":
                last_token, took = token, max(took, now - since)
                self.meta["shuffled"] = self.meta.get("shuffled", 0) + shuffled
                self.meta["input_read"] = self.meta.get("input_read", 0) + read
        opened = 0
        if last_token:
            stage = last_token[0]
            times = [*self._task_times(stage), took // len(statuses)]
            self.meta[f"task_times_{stage}"] = " ".join(
                map(str, times[-limits.TASK_TIME_SAMPLES :])
            )
            executor_ms = f"executor_ms_{stage}"
            self.meta[executor_ms] = self.meta.get(executor_ms, 0) + took
            opened = self._advance(last_token, now)
        state, basis = self.state, self.meta.get("basis", "")
        min_want = self._together(want_reduces) if state == "reducing" else min_want
        maps_just_ended = state == "reducing" and commits and commits[0][0] == "m"
        ids = self._grant(
            now, executor, next_nonce, min_want if maps_just_ended else want, min_want
        )
        map_outputs = ["end", dict(self.done)] if maps_just_ended and ids and self._small() else []
        return ["OK", state, basis, now, opened, len(statuses), *statuses, *ids, map_outputs]

    def fail(
        self, now: int, id: str, token: str, executor: str,  # noqa: A002 - as the script names it
        kind: str, signature: str, cause: str, sealed_failure: str, ordinal: str, note: str,
    ) -> Reply:  # fmt: skip
        """End one attempt; the task goes on without it, or the job ends."""
        if not self.meta:
            return ["GONE", ""]
        if id[1:] in self._records_of(id):
            return ["DONE", self.state]
        if not self.running:
            return ["ENDED", self.state]
        if not self._drop_token(id, token):
            return ["FENCED", self.state]
        ends = kind == "fatal"
        if kind == "error":
            before, by = self.budgets.get(f"signature:{id}", " ").split(" ")
            ends = self._charge(f"error:{id}") > self.meta["retries"]
            ends |= before == signature and by != executor
            self.budgets[f"signature:{id}"] = f"{signature} {executor}"
        elif kind == "lost":
            charge, allowed = 1, self.meta["lost_leases"]
            if ordinal and self.meta.get("skip_records") == 1:
                notes = self.failures.get(f"crash:{id}", "") + f"{ordinal} {token} {note},"
                ordinals = [each.split(" ")[0] for each in notes.split(",")[:-1]]
                if ordinals.count(ordinal) == limits.DEATHS_TO_BLAME_RECORD:
                    charge = -1  # the next attempt skips the record: both deaths are explained
                allowed = -1 if len(ordinals) > limits.MAX_EXPLAINED_DEATHS else max(allowed, 1)
                self.failures[f"crash:{id}"] = notes
            ends = self._charge(f"lost:{id}", charge) > allowed
        if ends:
            self.failures[id] = sealed_failure
            self._end_failed(cause, now)
            return ["DEAD", "failed"]
        self.meta["retried"] = self.meta.get("retried", 0) + 1
        self.failures[f"last:{id}"] = sealed_failure
        if id not in self.attempts:
            self._unlease(id)
            self.ready.append(id)
        return ["RETRY", self.state]

    def release(self, now: int, executor: str, nonce: str, ids: list[str]) -> Reply:
        """Give claimed tasks back to the head of the ready list, uncharged."""
        if not self.meta:
            return ["GONE", "", 0]
        last, given = self.last_claims.get(executor, ("", []))
        if not ids and last == nonce:
            ids = given
        released = 0
        for task in reversed(ids):
            if self._drop_token(task, f"{task}.{nonce}") and task not in self.attempts:
                self._unlease(task)
                self.ready.insert(0, task)
                released += 1
        return ["OK", self.state, released]

    def map_outputs(self, now: int) -> Reply:
        """Return what a reducer reads now."""
        if not self.meta:
            return ["GONE", "", "", None, []]
        basis = self.meta.get("basis", "")
        told = ("end", dict(self.done)) if self.state == "reducing" else (None, {})
        return ["OK", self.state, basis, *told]

    def invalidate(
        self,
        now: int,
        id: str,  # noqa: A002 - as above
        token: str,
        basis: str,
        missing: list[Any],
    ) -> Reply:
        """Close the reduce stage; maps run again, all of them if there is a result."""
        if not self.meta:
            return ["GONE", "", 0]
        if self.state != "reducing" or self.meta["basis"] != basis or not self._holds(id, token):
            return ["FENCED", self.state, 0]
        pairs = zip(missing[::2], missing[1::2], strict=True)
        gone = {str(index) for index, its in pairs if self._token_of(self.done, index) == its}
        if not gone:
            return ["STALE", self.state, 0]
        if self.result:
            gone = set(self.done)
            self._clear("result", "out")
        self._clear("ready", "processing", "lease", "attempts")
        self.meta["state"] = "mapping"
        del self.meta["basis"]
        before = len(self.done)
        for index in sorted(gone, key=int):
            del self.done[index]
            self.ready.append(f"m{index}")
            if self._charge(f"invalidated:m{index}") > limits.MAX_INVALIDATIONS:
                self.failures[f"m{index}"] = ""
                self._end_failed(
                    f"the segments of task m{index} vanished or were altered in Redis, again and"
                    " again (eviction, failover, or somebody without the secret)",
                    now,
                )
                return ["DEAD", "failed", 0]
        for figure in {"input_read", "executor_ms_m"} & self.meta.keys():
            self.meta[figure] = self.meta[figure] * len(self.done) // before
        self.meta.pop("executor_ms_r", None)
        return ["OK", "mapping", len(gone)]

    # ------------------------------------------------------------------ a supervisor's verbs

    def renew(self, now: int, held_leases: list[str]) -> Reply:
        """Prolong the named leases that the caller still holds."""
        if not self.meta:
            return ["GONE", "", 0]
        self._broke_silence(now)
        extend = self.meta["expire_at"] - now < self.meta["ttl_ms"] * limits.EXTEND_BELOW_TTL
        lost = []
        for task, token, started in zip(
            held_leases[::3], held_leases[1::3], held_leases[2::3], strict=True
        ):
            mine = [attempt for attempt in self.attempts.get(task, []) if attempt.token == token]
            for attempt in mine:
                if started == "1" and not attempt.started:
                    attempt.started, attempt.since = True, now
            if not mine:
                lost.append(task)
            elif task in self.lease:
                self.lease[task] = now + self.meta["lease_ms"]
        return ["OK", self.state, int(extend), *lost]

    def reclaim(self, now: int, limit: int) -> Reply:
        """Take back expired leases; charge tasks that had started."""
        if not self.meta:
            return ["GONE", "", 0, 0, 0, 0]
        lease_ms = self.meta["lease_ms"]
        if not self.running:
            return ["OK", self.state, 0, self.meta["ended_at"], 0, lease_ms]
        self._broke_silence(now)
        longest = now + lease_ms + limits.LEASE_MARGIN_MS
        for task in self._leased_by(lambda until: until > longest)[:limit]:
            self.lease[task] = longest
        if self.state == "submitting" and now > self.meta["submit_until"]:
            self._end_failed("SubmitterLost", now)
            return ["OK", "failed", 0, now, 0, lease_ms]
        if self.state == "mapping" and self.meta.get("each_worker") == 1:
            what = "what a worker did for it was lost or altered in Redis"
            self._end_failed(f"{what}, and no other may do it", now)
            return ["OK", "failed", 0, now, 0, lease_ms]
        reclaimed = 0
        for task in self._leased_by(lambda until: until <= now)[:limit]:
            started = [attempt for attempt in self.attempts.pop(task, []) if attempt.started]
            self._unlease(task)
            reclaimed += 1
            if not started:
                self.ready.insert(0, task)
            elif self._charge(f"lost:{task}") <= self.meta["lost_leases"]:
                self.ready.append(task)
                self.meta["retried"] = self.meta.get("retried", 0) + 1
            else:
                self.failures[task] = ""
                times = self.meta["lost_leases"] + 1
                who = f"at last executor {started[-1].executor}"
                advice = "see the log of that worker; lost_leases allows more"
                runner = f"the process that ran task {task}"
                cause = f"{runner} died or was cut off {times} times, {who}: {advice}"
                self._end_failed(cause, now)
                return ["OK", "failed", reclaimed, now, 0, lease_ms]
        if self.state != "submitting" and not self.ready and not self.lease:
            cause = "its tasks vanished from Redis, or their number was altered there"
            self._end_failed(cause, now)
            return ["OK", "failed", reclaimed, now, 0, lease_ms]
        return ["OK", self.state, reclaimed, 0, len(self.ready), lease_ms]

    def steal(self, now: int, worker: str) -> Reply:
        """With nothing ready, make late claims ready again, or count the slow tasks."""
        if not self.meta:
            return ["GONE", "", 0, 0, 0]
        if not self.running:
            return ["OK", self.state, 0, 0, 0]
        if self.ready or self._broke_silence(now):
            return ["OK", self.state, 0, len(self.ready), 0]
        late = [
            task for task, attempt in self._single_attempts()
            if not attempt.started and now - attempt.since >= limits.LATE_CLAIM_MS
        ]  # fmt: skip
        for task in late:
            del self.attempts[task]
            self._unlease(task)
        self.ready = late
        if late:
            return ["OK", self.state, len(late), len(late), 0]
        return ["OK", self.state, 0, 0, len(self._slow(now, f"{worker}:"))]

    def status(self, now: int, with_results: int) -> Reply:
        """Return where the job is."""
        if not self.meta:
            return ["GONE", now]
        counts = len(self.done), len(self.result), len(self.lease)
        found = ["end", dict(self.result)] if with_results and self.state == "succeeded" else []
        return ["OK", now, *counts, *self._at_work(now), found, self.view()["meta"]]

    def _at_work(self, now: int) -> tuple[int, int, int]:
        since: dict[str, int] = {}
        for attempt in (h for live in self.attempts.values() for h in live if h.started):
            since[attempt.executor] = min(since.get(attempt.executor, now), attempt.since)
        ages = [max(0, now - at) for at in since.values()]
        return len(ages), sum(ages), min(ages, default=0)

    # ------------------------------------------------------------------ what they are made of

    def _settle(self, task: str, token: str, basis: str, chunks: int, record: str) -> str:
        records, index = self._records_of(task), task[1:]
        if index in records:
            return "DUP_OK" if self._token_of(records, index) == token else "FENCED"
        if not self.running or not self._holds(task, token):
            return "FENCED"
        if not is_map_task(task):
            if basis != self.meta.get("basis"):
                return "FENCED"
            if any(f"{token}.{chunk}" not in self.out for chunk in range(chunks)):
                return "RESTAGE"
        records[index] = f"{token} {record}"
        del self.attempts[task]
        self._unlease(task)
        return "OK"

    def _advance(self, new_basis: str, now: int) -> int:
        n_map, partitions = self.meta.get("n_map"), self.meta["partitions"]
        opened = 0
        if self.state == "mapping" and len(self.done) == n_map:
            self.meta |= {"state": "reducing", "basis": new_basis}
            if n_map:
                new = [f"r{p}" for p in range(partitions) if str(p) not in self.result]
                self.ready += new
                opened = len(new)
        if self.state == "reducing" and (n_map == 0 or len(self.result) == partitions):
            self.meta |= {"state": "succeeded", "ended_at": now}
            del self.meta["basis"]
            self._clear("ready", "processing", "lease", "attempts", "done")
        return opened

    def _together(self, want_reduces: int) -> int:
        return want_reduces if self._small() else min(1, want_reduces)

    def _small(self) -> bool:
        return (
            self.meta.get("shuffled", 0) <= limits.SMALL_SHUFFLE_BYTES
            and self.meta["n_map"] <= limits.SMALL_JOB_MAPS
        )

    def _grant(
        self, now: int, executor: str, nonce: str, want: int, least: int, *, backup: bool = False
    ) -> list[str]:
        if not nonce:
            return []
        last, given = self.last_claims.get(executor, ("", []))
        if last == nonce:
            return [task for task in given if self._holds(task, f"{task}.{nonce}")]
        if not self.running:
            return []
        ids: list[str] = []
        want = min(want, max(1, least, int(len(self.ready) * limits.MAX_SHARE_OF_READY)))
        while len(ids) < want and (task := self._next_for(executor)):
            alone = f"lost:{task}" in self.budgets
            if alone and ids:
                break
            self.ready.remove(task)
            self.processing.append(task)
            self.lease[task] = now + self.meta["lease_ms"]
            self.attempts[task] = [LiveAttempt(f"{task}.{nonce}", executor, not ids, now)]
            ids.append(task)
            if alone:
                break
        slow = self._slow(now, executor) if backup and want and not ids else []
        if slow:
            task = max(slow, key=lambda pair: pair[1])[0]
            self.attempts[task].append(
                LiveAttempt(f"{task}.{nonce}", executor, started=True, since=now)
            )
            self._unlease(task)
            self.processing.append(task)
            self.lease[task] = now + self.meta["lease_ms"]
            ids.append(task)
        self.last_claims[executor] = (nonce, ids)
        return list(ids)

    def _next_for(self, executor: str) -> str:
        """Return the next ready task for an executor: the first one, or its worker's own."""
        if self.meta.get("each_worker") != 1 or self.state == "reducing":
            return self.ready[0] if self.ready else ""
        own = str(self.meta.get(f"assigned:{executor.rpartition(':')[0]}", ""))
        return own if own in self.ready else ""

    def _single_attempts(self) -> list[tuple[str, LiveAttempt]]:
        """Return tasks with one attempt, the oldest claim first; none without backups."""
        if self.meta.get("backup") != 1:
            return []
        return [
            (task, self.attempts[task][0])
            for task in self.processing
            if len(self.attempts[task]) == 1
        ]

    def _slow(self, now: int, executor: str) -> list[tuple[str, int]]:
        """Return tasks that this executor may run a second time, and their age."""
        claims, worker = self._single_attempts(), executor.rpartition(":")[0]
        if not claims:
            return []
        times = sorted(self._task_times(claims[0][0][0]))
        median = times[(len(times) - 1) // 2] if times else 0
        limit = max(limits.SLOW_TASK_MS, limits.SLOW_TASK_MEDIANS * median)
        slow = []
        for task, attempt in claims:
            same = attempt.executor.rpartition(":")[0] == worker
            age = now - attempt.since - (limits.SAME_WORKER_DELAY_MS if same else 0)
            if attempt.started and attempt.executor != executor and age >= limit:
                slow.append((task, age))
        return slow

    def _task_times(self, stage: str) -> list[int]:
        return [int(word) for word in str(self.meta.get(f"task_times_{stage}", "")).split()]

    def _broke_silence(self, now: int) -> bool:
        silence, lease_ms = now - self.meta["supervisor_seen_at"], self.meta["lease_ms"]
        self.meta["supervisor_seen_at"] = now
        if silence > self.meta["submit_ms"] * limits.OUTAGE_PART_OF_LEASE:
            self.meta["submit_until"] = now + self.meta["submit_ms"]
        if silence <= lease_ms * limits.OUTAGE_PART_OF_LEASE:
            return False
        for task, until in self.lease.items():
            if (rearmed := until % 1) < limits.MAX_REARMED:
                self.lease[task] = now + lease_ms + rearmed + limits.REARM_STEP
                for attempt in self.attempts[task]:
                    attempt.since = now
        return True

    def _end_failed(self, cause: str, now: int) -> None:
        self.meta |= {"state": "failed", "cause": cause, "ended_at": now}
        self.meta.pop("basis", None)
        self._clear("ready", "processing", "lease", "attempts")

    def _records_of(self, task: str) -> dict[str, str]:
        return self.done if is_map_task(task) else self.result

    def _token_of(self, records: dict[str, str], index: object) -> str:
        return records.get(str(index), "").partition(" ")[0]

    def _holds(self, task: str, token: str) -> bool:
        return any(attempt.token == token for attempt in self.attempts.get(task, []))

    def _drop_token(self, task: str, token: str) -> bool:
        held = self._holds(task, token)
        if held:
            self.attempts[task] = [
                attempt for attempt in self.attempts[task] if attempt.token != token
            ]
            if not self.attempts[task]:
                del self.attempts[task]
        return held

    def _unlease(self, task: str) -> None:
        self.lease.pop(task, None)
        if task in self.processing:
            self.processing.remove(task)

    def _leased_by(self, test: Any) -> list[str]:
        return sorted(
            (t for t in self.lease if test(self.lease[t])), key=lambda t: (self.lease[t], t)
        )

    def _charge(self, budget: str, by: int = 1) -> int:
        self.budgets[budget] = self.budgets.get(budget, 0) + by
        return int(self.budgets[budget])

    def _clear(self, *names: str) -> None:
        for name in names:
            getattr(self, name).clear()
