"""Random steps of a job, which the model and the scripts on a server must answer alike.

A ``RandomJob`` is one job. Each step is a method; it draws what it needs from a ``Choices``
(Hypothesis, or
a seeded generator), so both drivers take the same steps. After every call the answer and all keys
of the job are compared with the model; the invariants are checked on what the server holds.

What executors know (``attempts``, answers they wait for) is never rewound: a failover takes Redis
back in time, and nobody else.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from store.invariants import Step, check, tokens_in, tokens_made_from
from store.model import Model
from store.server import ServerJob

from redismr.core.model import Stage, is_map_task, task_stage

T = TypeVar("T")
EXECUTORS = ("a:1", "a:2", "b:1")
WORKERS = ("a", "b", "c")


class Choices(Protocol):
    """The source of random choices."""

    def choose(self, options: Sequence[T]) -> T: ...
    def chance(self, percent: int) -> bool: ...


@dataclass(slots=True, eq=False)
class Attempt:
    """A task that an executor was granted, as the executor knows it."""

    executor: str
    task: str
    nonce: str
    basis: str
    record: str = ""
    chunks: int = 0
    #: What a reducer found missing: map index -> token.
    missing: tuple[tuple[str, str], ...] = ()
    fields: tuple[tuple[int, str], ...] = ()

    @property
    def token(self) -> str:
        return f"{self.task}.{self.nonce}"


@dataclass(slots=True)
class Checkpoint:
    """A state that a failover may bring back."""

    control: Any
    segments: Any
    model: Model
    shuffle: list[dict[str, str]]
    issued: set[str]


class RandomJob:
    """One job under random steps."""

    def __init__(self, subject: ServerJob, job: str, choices: Choices, seen: Counter[str]) -> None:
        self.subject, self.job, self.seen = subject, job, seen
        # A batch is a quarter of what is ready: eight tasks make batches of two; of three if 48 are
        # wanted.
        self.maps = choices.choose((0, 1, 2, 2, 2, 3, 3, 8, 8, 12, 12))
        self.partitions = choices.choose((1, 2, 2, 3, 8))
        self.lease_ms = choices.choose((1000, 6000))
        #: Segments do not last; there is a record that ends each process; who is stopped now.
        self.leaky, self.deadly, self.stopped = choices.chance(15), choices.chance(30), ""
        #: One map task for each worker; that of one that is gone is claimed in its name.
        self.each = choices.chance(15)
        self.executors = EXECUTORS
        if self.each:
            self.maps, self.executors = min(self.maps, len(WORKERS)), (*EXECUTORS, "c:gone")
        self.model, self.now = Model(), subject.now()
        self.shuffle: list[dict[str, str]] = [{} for _ in range(self.partitions)]
        self.numbers = itertools.count()
        self.attempts: list[Attempt] = []
        #: Executor -> what it has asked, and the tasks that it was given, which it has not heard.
        self.unanswered: dict[str, tuple[str, dict[str, Any], list[str]]] = {}
        self.last: tuple[str, dict[str, Any]]
        self.checkpoints: list[Checkpoint] = []
        self.issued: set[str] = set()
        self.rewound = False
        self.owners: dict[str, str] = {}
        subject.begin(job, self.partitions)
        self.view = subject.view()
        self.call(
            "create",
            ttl_ms=3_600_000,
            submit_ms=choices.choose((3000, 15_000, 15_000)),
            fields={
                "partitions": self.partitions,
                "lease_ms": self.lease_ms,
                "retries": choices.choose((0, 1, 3, 3, 3)),
                "lost_leases": choices.choose((0, 1, 3, 3, 3)),
                "backup": choices.choose((0, 1, 1)),
                "skip_records": choices.choose((0, 1)),
                "each_worker": int(self.each),
            },
        )
        if choices.chance(50):
            self.add(0, self.maps)
            if choices.chance(40):
                self.stop(choices)

    @property
    def over(self) -> bool:
        """True if the job has little more to show."""
        return not self.model.running

    # ------------------------------------------------------------------ both sides

    def call(self, verb: str, *, repeated: bool = False, **argv: Any) -> list[Any]:
        """Make the same call on the model and the server; compare answers and states."""
        # Nothing the model is given may be shared with the server's side.
        fields = argv.get("fields")
        expected_argv = {k: v for k, v in argv.items() if k != "fields"} | (fields or {})
        expected = getattr(self.model, verb)(self.now, **expected_argv)
        reply = self.subject.call(verb, self.now, argv)
        assert reply == expected, f"{verb}{argv}: the server says {reply}, the model {expected}"
        before, self.last = self.view, (verb, argv)
        self.compare(verb, reply, repeated=repeated, possible_bases=self._possible_bases(argv))
        self.seen.update(coverage_of(verb, reply, before, self.view))
        return reply

    def compare(
        self,
        verb: str,
        reply: list[Any],
        *,
        repeated: bool = False,
        possible_bases: tuple[str, ...] = (),
    ) -> None:
        """Check that the server holds what the model says, and that the invariants hold."""
        before, self.view = self.view, self.subject.view()
        wanted = self.model.view() | {f"shuffle{p}": f for p, f in enumerate(self.shuffle)}
        for key, value in wanted.items():
            assert self.view[key] == value, f"after {verb}: {key} is {self.view[key]}, not {value}"
        if verb == "rewind":
            before = self.view
        check(Step(verb, reply, before, self.view, self.issued, possible_bases, repeated))
        for task, live in self.model.attempts.items():
            for attempt in live:
                owner = self.owners.setdefault(attempt.token, attempt.executor)
                assert owner == attempt.executor, f"I6_tokens_once: {task} {attempt}"
        self.issued.update(tokens_in(self.view))

    def _possible_bases(self, argv: dict[str, Any]) -> tuple[str, ...]:
        return (argv.get("nonce", ""), *argv.get("commits", ())[1::8])

    def nonce(self) -> str:
        return f"n{next(self.numbers)}"

    def note_granted(self, executor: str, nonce: str, basis: str, tasks: Sequence[str]) -> None:
        """Note the tasks that an executor believes to be granted."""
        known = {attempt.token for attempt in self.attempts}
        for task in tasks:
            if f"{task}.{nonce}" not in known:
                self.attempts.append(Attempt(executor, task, nonce, basis))
        del self.attempts[:-24]

    def held_by(self, executor: str) -> list[Attempt]:
        """Return the tasks that an executor knows of and still holds."""
        return [
            a for a in self.attempts
            if a.executor == executor and self.model._holds(a.task, a.token)
        ]  # fmt: skip

    def pick_attempt(
        self, choices: Choices, stages: Sequence[Stage] = ("map", "reduce")
    ) -> Attempt | None:
        """Pick an attempt of an executor that waits for no answer; live ones twice as often."""
        busy = {self.stopped, *self.unanswered}
        free = [a for a in self.attempts if task_stage(a.task) in stages and a.executor not in busy]
        live = [a for a in free if self.model._holds(a.task, a.token)]
        if live and choices.chance(70):
            return choices.choose(live)
        return choices.choose(free) if free else None

    # ------------------------------------------------------------------ the submitter

    def submit(self, choices: Choices) -> None:
        """Add a range, a repeat, a gap or nothing; or close, also too early and twice."""
        if self.model.state == "submitting" and self.model.meta["maps_added"] < self.maps:
            first = choices.choose(
                (0, self.model.meta["maps_added"], self.model.meta["maps_added"] + 1)
            )
            last = min(self.maps, first + choices.choose((0, 1, 2, 9)))
            self.add(min(first, last), last)
        elif choices.chance(20):
            self.add(0, self.maps)
        if self.each and choices.chance(90) and len(self.model.done) < self.maps:
            return  # closed when all is done
        if choices.chance(40):
            # Closing takes what was added as the whole input: nobody closes with fewer.
            self.call("close", n=self.maps, nonce=self.nonce(), end_blob="end")

    def add(self, first: int, last: int) -> None:
        """Add these tasks, with their workers where each worker gets one."""
        workers = WORKERS[first:last] if self.each else ()
        self.call("add", first=first, last=last, input_added=f"{last} 1 0 0", workers=workers)

    def create(self, choices: Choices) -> None:
        """Repeat the submitter's create."""
        if self.model.meta:
            self.call("create", ttl_ms=1, submit_ms=1, fields={"partitions": 9})

    def cancel(self, choices: Choices) -> None:
        self.call("cancel")

    def fail_job(self, choices: Choices) -> None:
        self.call("fail_job", cause="forged", sealed_failure="why")

    def delete(self, choices: Choices) -> None:
        """Delete the job while all others still work on it."""
        self.subject.delete()
        self.model, self.shuffle = Model(), [{} for _ in range(self.partitions)]
        self.last = ("cancel", {})  # a create that is repeated from here on makes another job
        self.compare("delete", [])

    # ------------------------------------------------------------------ executors

    def claim(self, choices: Choices) -> None:
        executor = choices.choose(self.awake)
        argv = {
            "executor": executor,
            "nonce": self.nonce(),
            "want": choices.choose((0, 1, 2, 3, 48)),
        }
        argv["want_reduces"] = choices.choose((0, 1, 2, 48))
        self.call_lossily(
            choices,
            "claim",
            **argv,
            backup=choices.choose((0, 1)),
            include_spec=choices.choose((0, 1)),
        )

    def serve(self, choices: Choices) -> None:
        """Let an executor claim, run all its tasks, and commit or report missing segments."""
        executor, want = choices.choose(self.awake), choices.choose((1, 2, 3))
        argv = {"executor": executor, "nonce": self.nonce(), "want": want}
        argv["want_reduces"] = want
        self.call_lossily(choices, "claim", **argv, backup=1, include_spec=1)
        mine = self.held_by(executor)
        if executor in self.unanswered or not mine:
            return
        if self.deadly and f"lost:{mine[0].task}" in self.model.budgets:
            self.die_at_record(executor, "1")
            return
        if self.leaky and not is_map_task(mine[0].task):
            self.lose(choices)
        for attempt in mine:
            if not attempt.record:
                self.run(choices, attempt)
        if hole := next((a for a in mine if a.missing), None):
            self.report(hole, hole.missing)
        else:
            self.commit_batch(choices, mine[0])

    def stop(self, choices: Choices) -> None:
        """Stop an executor with its new batch until the next one is stopped."""
        self.stopped = choices.choose(("", *self.executors))
        if not self.stopped or self.each:
            return
        argv = {"executor": self.stopped, "nonce": self.nonce()}
        self.call_lossily(
            choices, "claim", **argv, want=3, want_reduces=1, backup=0, include_spec=0
        )
        other_executor = self.awake[0]
        while self.model.running and self.model.ready and other_executor not in self.unanswered:
            argv = {"executor": other_executor, "nonce": self.nonce()}
            self.call_lossily(
                choices, "claim", **argv, want=3, want_reduces=1, backup=0, include_spec=0
            )

    @property
    def awake(self) -> list[str]:
        """Return the executors that are not stopped."""
        return [executor for executor in self.executors if executor != self.stopped]

    def call_lossily(self, choices: Choices, verb: str, **argv: Any) -> None:
        """Claim or commit with an answer that may be lost: repeat it at once, later, or never."""
        executor = argv["executor"]
        if executor in self.unanswered:
            self.repeat(choices, executor)
            return
        reply = self.call(verb, **argv)
        if choices.chance(15):
            self.unanswered[executor] = (verb, argv, self.answer_of(verb, reply)[1])
            return
        if choices.chance(15) and reply[0] != "GONE":
            again = self.call(verb, repeated=True, **argv)
            assert self.answer_of(verb, again)[1] == self.answer_of(verb, reply)[1], (
                "I12: other tasks"
            )
            if verb == "commit":
                firm = [("DUP_OK" if s == "OK" else s) for s in reply[6 : 6 + reply[5]]]
                assert again[6 : 6 + again[5]] == firm, "I12: other statuses"
        self.on_answer(choices, verb, argv, reply)

    def repeat(self, choices: Choices, executor: str) -> None:
        """Repeat a call whose answer was lost, or let its executor be dead by now."""
        verb, argv, given = self.unanswered.pop(executor)
        if choices.chance(25):
            self.attempts = [a for a in self.attempts if a.executor != executor]
            return
        reply = self.call(verb, **argv)
        if not self.rewound:
            assert set(self.answer_of(verb, reply)[1]) <= set(given), "I12: other tasks"
        self.on_answer(choices, verb, argv, reply)

    def again(self, choices: Choices) -> None:
        """Repeat the last call, as if its answer was lost."""
        verb, argv = self.last
        self.call(verb, **argv)

    def answer_of(self, verb: str, reply: list[Any]) -> tuple[str, list[str]]:
        """Return the basis and the tasks of an answer."""
        if reply[0] == "GONE":
            return "", []
        return reply[2], reply[5 if verb == "claim" else 6 + reply[5] : -1]

    def on_answer(
        self, choices: Choices, verb: str, argv: dict[str, Any], reply: list[Any]
    ) -> None:
        """Act on an answer: keep the new tasks, free or undo what was staged."""
        basis, tasks = self.answer_of(verb, reply)
        if verb == "claim":
            self.note_granted(argv["executor"], argv["nonce"], basis, tasks)
            return
        self.note_granted(argv["executor"], argv["next_nonce"], basis, tasks)
        tokens = argv["commits"][1::8]
        statuses = reply[6 : 6 + reply[5]] if reply[0] == "OK" else ["GONE"] * len(tokens)
        for token, status in zip(tokens, statuses, strict=True):
            attempt = next((a for a in self.attempts if a.token == token), None)
            if attempt is None or choices.chance(10):
                continue  # it died before it could tidy up
            if status in ("OK", "DUP_OK"):
                self.free_segments_read(attempt)
            else:
                self.undo(attempt)
                if status == "RESTAGE":
                    ids = [attempt.task]
                    self.call("release", executor=attempt.executor, nonce=attempt.nonce, ids=ids)

    def work(self, choices: Choices) -> None:
        """Run an attempt up to its commit, or only a part of it."""
        attempt = self.pick_attempt(choices)
        if attempt and not attempt.record:
            self.run(choices, attempt)

    def run(self, choices: Choices, attempt: Attempt) -> None:
        """Run a map or reduce attempt: read, stage, make a record."""
        if not is_map_task(attempt.task):
            return self.reduce(choices, attempt)
        # The map need not be deterministic: each attempt stages for other partitions.
        staged = [p for p in range(self.partitions) if choices.chance(60)]
        attempt.fields = tuple((p, f"{attempt.token}.0") for p in staged)
        attempt.record = f"staged={','.join(map(str, staged))}"
        if not choices.chance(5):  # a failover may swallow what was staged
            self.subject.stage(attempt.fields, attempt.token, self.deadline)
            for p, name in attempt.fields:
                self.shuffle[p][name] = attempt.token
        self.compare("stage", [])
        return None

    def reduce(self, choices: Choices, attempt: Attempt) -> None:
        """Read the map outputs and their segments; note which are missing."""
        reply = self.call("map_outputs")
        if reply[0] == "GONE" or reply[1] != "reducing" or reply[2] != attempt.basis:
            return
        done = {index: record.split(" ") for index, record in reply[4].items()}
        p = int(attempt.task[1:])
        named = [
            (index, token)
            for index, (token, staged) in sorted(done.items())
            if str(p) in staged.removeprefix("staged=").split(",")
        ]
        found = self.subject.segments(p, [f"{token}.0" for _, token in named])
        attempt.missing = tuple(
            pair for pair, blob in zip(named, found, strict=True) if blob != pair[1]
        )
        if attempt.missing:
            return
        attempt.chunks = choices.choose((0, 1, 2))
        origin = " ".join(f"{index}={token}" for index, (token, _) in sorted(done.items()))
        attempt.record = f"{attempt.chunks} {origin}"
        attempt.fields = tuple((p, f"{token}.0") for _, token in named)
        if not choices.chance(10):
            names = [f"{attempt.token}.{chunk}" for chunk in range(attempt.chunks)]
            self.subject.stage_result(names, attempt.token, self.deadline)
            self.model.out.update(dict.fromkeys(names, attempt.token))
        self.compare("stage", [])

    def commit(self, choices: Choices) -> None:
        """Commit attempts of one executor, live or long lost, with or without a claim."""
        if first := self.pick_attempt(choices):
            if not first.record:
                self.run(choices, first)
            self.commit_batch(choices, first)

    def commit_batch(self, choices: Choices, first: Attempt) -> None:
        """Commit this attempt, maybe with others of its executor."""
        ready = [
            a for a in self.attempts
            if a.executor == first.executor and a.record
            and task_stage(a.task) == task_stage(first.task)
        ]  # fmt: skip
        commits = [first] if first.record else []
        commits += [a for a in ready if a is not first and choices.chance(60)]
        flat = [
            x
            for a in commits
            for x in (a.task, a.token, a.basis, self.claimed(a), 7, a.record, "news", 3)
        ]
        if flat and choices.chance(5):
            flat[2] = "n0"  # as if it had read the names of another include_spec
        following = self.nonce() if choices.chance(70) else ""
        want = choices.choose((0, 1, 2, 48))
        argv = {"executor": first.executor, "next_nonce": following, "want": want}
        argv |= {
            "min_want": choices.choose((0, 1, 3)),
            "want_reduces": choices.choose((0, 1, 2, 48)),
        }
        self.call_lossily(choices, "commit", **argv, commits=flat)

    def claimed(self, attempt: Attempt) -> int:
        return 0 if is_map_task(attempt.task) else attempt.chunks

    def undo(self, attempt: Attempt) -> None:
        """Delete what a refused attempt staged."""
        if attempt.task[0] == "r":
            names = [f"{attempt.token}.{chunk}" for chunk in range(attempt.chunks)]
            self.subject.drop_result(names)
            for name in names:
                self.model.out.pop(name, None)
        else:
            self.drop(attempt.fields)
        self.compare("undo", [])

    def free_segments_read(self, attempt: Attempt) -> None:
        """Free exactly the fields that a counted reducer has read."""
        if not is_map_task(attempt.task):
            self.drop(attempt.fields)
            self.compare("free", [])

    def drop(self, fields: Sequence[tuple[int, str]]) -> None:
        self.subject.drop(fields)
        for p, name in fields:
            self.shuffle[p].pop(name, None)

    def fail(self, choices: Choices) -> None:
        if attempt := self.pick_attempt(choices):
            kind = choices.choose(("error",) * 6 + ("lost",) * 6 + ("fatal",))
            signature = choices.choose(("s1", *[attempt.token] * 4))
            self.fail_attempt(attempt, kind, signature, choices.choose(("", "1", "1", "2")))

    def fail_attempt(self, attempt: Attempt, kind: str, signature: str, place: str) -> None:
        self.call(
            "fail", id=attempt.task, token=attempt.token, executor=attempt.executor, kind=kind,
            signature=signature, cause="test", sealed_failure="b", ordinal=place, note="ab",
        )  # fmt: skip

    def release(self, choices: Choices) -> None:
        """Release tasks by name, by nonce alone, or of an answer that was lost."""
        attempt = self.pick_attempt(choices)
        if attempt is None:
            return
        same = [a.task for a in self.attempts if a.nonce == attempt.nonce]
        ids = choices.choose(([], [attempt.task], same))
        self.call("release", executor=attempt.executor, nonce=attempt.nonce, ids=ids)

    def invalidate(self, choices: Choices) -> None:
        """Invalidate missing maps, maps of an old token, or maps that are there."""
        attempt = self.pick_attempt(choices, ["reduce"])
        if attempt is None:
            return
        missing = list(attempt.missing)
        if not missing and attempt.record and choices.chance(30):
            missing = [choices.choose(sorted(tokens_made_from(f"t {attempt.record}").items()))]
        if choices.chance(20):
            missing.append((str(choices.choose((0, 1, 99))), "m0.stale"))
        self.report(attempt, missing)

    def report(self, attempt: Attempt, missing: Sequence[tuple[str, str]]) -> None:
        flat = [x for pair in missing for x in pair]
        argv = {"id": attempt.task, "token": attempt.token, "basis": attempt.basis}
        self.call("invalidate", **argv, missing=flat)

    def die(self, choices: Choices) -> None:
        """End an executor: its supervisor fails the running task and releases the others."""
        self.die_at_record(choices.choose(self.executors), choices.choose(("", "1", "1", "2")))

    def die_at_record(self, executor: str, place: str) -> None:
        for nth, attempt in enumerate(self.held_by(executor)):
            if nth:
                ids = [attempt.task]
                self.call("release", executor=executor, nonce=attempt.nonce, ids=ids)
            else:
                self.fail_attempt(attempt, "lost", "died", place)
        if executor in self.unanswered:
            _, argv, _ = self.unanswered.pop(executor)
            nonce = argv.get("next_nonce", argv.get("nonce"))
            self.call("release", executor=executor, nonce=nonce, ids=[])
        self.attempts = [a for a in self.attempts if a.executor != executor]

    # ------------------------------------------------------------------ supervisors, time, faults

    def renew(self, choices: Choices) -> None:
        """Renew some leases that attempts believe to hold, started or not; maybe none."""
        named = [a for a in self.attempts if choices.chance(40)]
        self.renew_attempts(choices, named, [choices.chance(25) for _ in named])

    def renew_attempts(
        self, choices: Choices, named: Sequence[Attempt], started: Sequence[bool]
    ) -> None:
        pairs = zip(named, started, strict=True)
        flat = [x for a, begun in pairs for x in (a.task, a.token, "1" if begun else "0")]
        if self.call("renew", held_leases=flat)[2:3] == [1]:
            self.extend(choices)

    def extend(self, choices: Choices) -> None:
        """Extend the job; the caller may die before it extends the bulk keys."""
        self.call("extend")
        if choices.chance(80):
            self.subject.extend_bulk(self.maps, self.deadline)
            self.compare("keep", [])

    def reclaim(self, choices: Choices) -> None:
        self.call("reclaim", limit=choices.choose((1, 2, 100)))

    def steal(self, choices: Choices) -> None:
        """Steal for a worker that has nothing to do."""
        self.call("steal", worker=choices.choose(("a", "b")))

    def recommit(self, choices: Choices) -> None:
        """Commit an attempt that was run before, if there is one."""
        if (attempt := self.pick_attempt(choices)) and attempt.record:
            self.commit_batch(choices, attempt)

    def fill(self, choices: Choices) -> None:
        """Fill the server: every verb but create must still do all of its work."""
        step = choices.choose(
            (self.claim, self.submit, self.renew, self.reclaim, self.steal, self.fail, self.die,
             self.release, self.invalidate, self.recommit, self.extend, self.read_only_verbs)
        )  # fmt: skip
        self.seen["fill"] += 1
        with self.subject.full():
            step(choices)
            self.call("add", first=0, last=self.model.meta.get("maps_added", 0), input_added="")

    def tick(self, choices: Choices) -> None:
        """Let time pass, mostly with a supervisor heard of; a failover may set it back."""
        self.now += choices.choose((1, 100, 300, 450, 450, 499, 501, 600, 1001, 2500, -700, -2500))
        if choices.chance(2):
            self.now += choices.choose((16_000, 1_000_000))
        if choices.chance(60):
            self.renew(choices)
        if choices.chance(50):
            self.reclaim(choices)

    def wait(self, choices: Choices) -> None:
        """Let time pass while one worker is silent, so that its leases run out.

        Its claims become late and its tasks slow to others before that, who steal and back up.
        """
        silent, submitter = choices.choose(("", "a", "b")), choices.chance(90)
        for _ in range(choices.choose((2, 4, 8, 16))):
            self.now += self.lease_ms // 3
            alive = [a for a in self.attempts if a.executor[0] != silent]
            self.renew_attempts(choices, alive, [bool(a.record) for a in alive])
            if submitter and self.model.state == "submitting":
                self.call("add", first=0, last=0, input_added="")
            if choices.chance(25):
                self.reclaim(choices)
            if choices.chance(20):
                self.steal(choices)

    def read_only_verbs(self, choices: Choices) -> None:
        """Call the verbs that only read: they must change nothing."""
        before = self.view
        self.call("status", with_results=choices.choose((0, 1)))
        self.call("map_outputs")
        assert self.view == before

    def lose(self, choices: Choices) -> None:
        """Lose segments, by eviction or by a failover of another slot."""
        there = [(p, name) for p, fields in enumerate(self.shuffle) for name in sorted(fields)]
        if there:
            self.drop(there if choices.chance(30) else [choices.choose(there)])
            self.compare("lose", [])

    def remember(self, choices: Choices) -> None:
        """Remember a state that may come back."""
        if self.model.meta:
            control, segments = self.subject.save()
            self.checkpoints.append(
                Checkpoint(
                    control,
                    segments,
                    self.model.copy(),
                    [dict(fields) for fields in self.shuffle],
                    set(self.issued),
                )
            )
            del self.checkpoints[:-3]

    def rewind(self, choices: Choices) -> None:
        """Take one slot, or each of them, back to an earlier state, as a failover does."""
        if not self.checkpoints:
            return self.remember(choices)
        then = choices.choose(self.checkpoints)
        slots = choices.choose(("control", "control", "segments", "both"))
        if slots != "segments":
            self.subject.restore(then.control)
            self.rewound = True
            self.model, self.issued = then.model.copy(), set(then.issued)
            self.checkpoints = self.checkpoints[: self.checkpoints.index(then) + 1]
        if slots != "control":
            self.subject.restore(then.segments)
            self.shuffle = [dict(fields) for fields in then.shuffle]
        self.seen["rewind"] += 1
        return self.compare("rewind", [])

    @property
    def deadline(self) -> int:
        """Return the deadline that a writer of bulk data knows of."""
        return int(self.model.meta.get("expire_at", self.now + 1_000_000))


def coverage_of(verb: str, reply: list[Any], before: Any, after: Any) -> Iterator[str]:
    """Say in words what a call did, to measure what a campaign has covered."""
    answered = verb == "commit" and reply[0] == "OK" and reply[5]
    yield from (f"{verb}:{word}" for word in (reply[6 : 6 + reply[5]] if answered else reply[:1]))
    old, new = (view["meta"].get("state", "") for view in (before, after))
    if old != new:
        yield f"{verb}: {old}->{new}"
    if verb == "invalidate" and before["result"] and not after["result"]:
        yield "invalidate:results"
    if verb == "reclaim" and reply[0] == "OK" and reply[2]:
        yield "reclaim:expired"
    if verb == "steal" and reply[2]:
        yield "steal:late"
    if verb == "steal" and reply[4]:
        yield "steal:slow"
    for task, held in before["attempts"].items():
        if "," in held and after["attempts"].get(task, "").count(",") == 0:
            yield f"{verb}:of two"
    if any(
        "," in held and "," not in before["attempts"].get(t, ",")
        for t, held in after["attempts"].items()
    ):
        yield f"{verb}:second"
    for budget, used in before["budgets"].items():
        if budget.startswith("lost:") and int(after["budgets"].get(budget, used)) < int(used):
            yield f"{verb}:forgiven"


STEPS = {
    "submit": 10, "serve": 20, "claim": 12, "work": 5, "commit": 20, "stop": 2, "fail": 2, "die": 2,
    "release": 2, "invalidate": 4, "renew": 3, "reclaim": 3, "steal": 2, "wait": 5, "fill": 2,
    "tick": 4, "again": 3, "read_only_verbs": 1, "extend": 1, "lose": 3, "remember": 3, "rewind": 3,
}  # fmt: skip
"""Step -> weight."""

RARE = {"create": 4, "cancel": 1, "fail_job": 1, "delete": 1}
"""Number of these steps among 1000: most of them end the job."""
