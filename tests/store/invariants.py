"""I1-I15 of ARCHITECTURE.md, one function each: they hold after every step.

They look at what the server holds (a ``View``: key -> contents), not at the model: a rule that both
had wrong would not be seen by comparing them. Each returns; a broken one raises AssertionError
with its name. A result's record is ``token chunks 0=m0.x 1=m1.y``: it names the map tokens that
it was made from, so that a result that mixed two attempts, or missed one, is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from redismr.core.model import RUNNING_STATES, is_map_task

View = dict[str, Any]


@dataclass(slots=True)
class Step:
    """One call: the states before and after it, its answer, and facts of the past."""

    verb: str
    reply: list[Any]
    before: View
    after: View
    #: Every token that was ever in ``attempts``, on the way that led here (a rewind forgets).
    issued: set[str] = field(default_factory=set)
    #: Token or nonce of the call, if it was one that could open the reduce stage.
    possible_bases: tuple[str, ...] = ()
    repeated: bool = False


def state_of(view: View) -> str:
    return view["meta"].get("state", "")


def token_of(record: str) -> str:
    return record.partition(" ")[0]


def tokens_in(view: View) -> list[str]:
    """Return all tokens of live attempts."""
    return [
        attempt.split(" ")[0] for held in view["attempts"].values() for attempt in held.split(",")
    ]


def tokens_made_from(record: str) -> dict[str, str]:
    """Return map index -> the token that a result was made from."""
    return dict(pair.split("=") for pair in record.split(" ")[2:] if pair)


def I1_one_place(step: Step) -> None:
    view, state = step.after, state_of(step.after)
    if state not in RUNNING_STATES:
        return
    places = view["ready"] + list(view["lease"])
    if state == "reducing":
        places += [f"r{p}" for p in view["result"]]
        wanted = [f"r{p}" for p in range(int(view["meta"]["partitions"]))]
    else:
        places += [f"m{i}" for i in view["done"]]
        wanted = [f"m{i}" for i in range(int(view["meta"]["maps_added"]))]
    dead = [task for task in view["failures"] if task[0] in "mr"]
    assert sorted(places + dead) == sorted(wanted)


def I2_lease_has_attempt(step: Step) -> None:
    view = step.after
    assert sorted(view["processing"]) == sorted(view["lease"]) == sorted(view["attempts"])
    assert all(1 <= len(held.split(",")) <= 2 for held in view["attempts"].values())
    for task, held in view["attempts"].items():
        executors = [attempt.split(" ")[1] for attempt in held.split(",")]
        assert len(executors) == len(set(executors)), "two attempts by one executor"
        assert all(attempt.startswith(f"{task}.") for attempt in held.split(",")), "another's token"


def I3_reducing_is_mapped(step: Step) -> None:
    view = step.after
    if state_of(view) == "reducing":
        assert sorted(view["done"], key=int) == [str(i) for i in range(int(view["meta"]["n_map"]))]
        assert not any(is_map_task(task) for task in view["ready"] + list(view["lease"]))


def I4_results_of_present_maps(step: Step) -> None:
    view = step.after
    if state_of(view) in ("mapping", "reducing"):
        present = {i: token_of(record) for i, record in view["done"].items()}
        for record in view["result"].values():
            assert tokens_made_from(record) == present


def I5_named_exists(step: Step) -> None:
    view = step.after
    for record in view["result"].values():
        token, chunks = record.split(" ")[:2]
        assert all(f"{token}.{chunk}" in view["out"] for chunk in range(int(chunks)))


def I6_tokens_once(step: Step) -> None:
    now, before = tokens_in(step.after), set(tokens_in(step.before))
    assert len(now) == len(set(now))
    back = [token for token in now if token not in before and token in step.issued]
    assert not back, f"{back} came back"


def I7_basis(step: Step) -> None:
    basis = step.after["meta"].get("basis")
    assert (basis is not None) == (state_of(step.after) == "reducing")
    if basis is not None and basis != step.before["meta"].get("basis"):
        assert basis in step.possible_bases


def I8_closed_stage(step: Step) -> None:
    state = state_of(step.after)
    if state in ("submitting", "mapping"):
        assert not step.after["result"]
    if state == "submitting":
        assert "n_map" not in step.after["meta"]


def I9_ended_is_empty(step: Step) -> None:
    if state_of(step.after) not in RUNNING_STATES:
        assert not any(step.after[key] for key in ("ready", "processing", "lease", "attempts"))


def I10_never_idle(step: Step) -> None:
    if state_of(step.after) in ("mapping", "reducing"):
        assert step.after["ready"] or step.after["lease"]


_CHARGED_BY = {"error": ("fail",), "lost": ("fail", "reclaim"), "invalidated": ("invalidate",)}


def I11_budgets(step: Step) -> None:
    meta, budgets = step.after["meta"], step.after["budgets"]
    limits = {"error": meta.get("retries", 0), "lost": meta.get("lost_leases", 0), "invalidated": 3}
    if meta.get("skip_records") == "1":  # a death is looked at twice before it ends a job
        limits["lost"] = max(1, int(limits["lost"]))
    for name, used in budgets.items():
        kind, _, task = name.partition(":")
        if kind not in limits:
            continue
        if int(used) > int(limits[kind]):
            assert task in step.after["failures"]
            assert state_of(step.after) == "failed"
        before = int(step.before["budgets"].get(name, 0))
        if step.verb not in _CHARGED_BY[kind]:
            assert int(used) == before
        elif step.verb == "fail" and kind == "lost":  # a second death may explain the first
            assert abs(int(used) - before) <= 1
        else:
            assert before <= int(used) <= before + 1


def I12_same_nonce_same_answer(step: Step) -> None:
    if step.repeated:
        assert step.before == step.after


def I13_refused_changes_nothing(step: Step) -> None:
    answer = step.reply[0] if step.reply else ""
    if step.verb == "commit" and answer == "OK":
        statuses = step.reply[6 : 6 + step.reply[5]]
        refused = bool(statuses) and not any(status == "OK" for status in statuses)
        keys = (
            "done",
            "result",
            "failures",
            "budgets",
            "out",
        )  # the claim it carries may lease more
    else:
        refused = answer in ("FENCED", "STALE", "DONE", "ENDED", "GONE", "SHORT", "EXISTS")
        keys = (
            "ready",
            "processing",
            "lease",
            "attempts",
            "done",
            "result",
            "failures",
            "budgets",
            "last_claims",
        )
    if refused:
        assert all(step.before[key] == step.after[key] for key in keys)
        assert state_of(step.before) == state_of(step.after)


def I14_one_deadline(step: Step) -> None:
    deadlines = {name: at for name, at in step.after["deadlines"].items() if at != -2}
    bulk = {name: deadlines.pop(name) for name in list(deadlines) if name.startswith("shuffle")}
    assert all(at > 0 for at in bulk.values()), "a bulk key without a deadline"
    if "meta" in deadlines:
        expire_at = int(step.after["meta"]["expire_at"])
        assert set(deadlines.values()) == {expire_at}, deadlines
    else:
        assert not deadlines, "keys without their job"


_HINTS = {  # no result and no budget depends on them
    "shuffled", "retried", "task_times_m", "task_times_r", "input_added", "input_read",
    "executor_ms_m", "executor_ms_r",
}  # fmt: skip
_META = _HINTS | {
    "state", "maps_added", "created_at", "supervisor_seen_at", "expire_at", "ttl_ms", "submit_ms", "submit_until",  # noqa: E501
    "partitions", "lease_ms", "retries", "lost_leases",
    "backup", "skip_records", "each_worker", "n_map", "basis", "cause", "ended_at",
}  # fmt: skip


def I15_counters_derived(step: Step) -> None:
    assert {name for name in step.after["meta"] if not name.startswith("assigned:")} <= _META


def results_of_same_maps(step: Step) -> None:
    """Check that each result was made from each map once, and all from the same attempts."""
    view = step.after
    if state_of(view) != "succeeded":
        return
    n_map, partitions = int(view["meta"]["n_map"]), int(view["meta"]["partitions"])
    assert len(view["result"]) == (partitions if n_map else 0)
    origins = [tokens_made_from(record) for record in view["result"].values()]
    for origin in origins:
        assert sorted(origin, key=int) == [str(i) for i in range(n_map)]
        assert all(token.startswith(f"m{i}.") for i, token in origin.items())
        assert origin == origins[0], "partitions mix attempts"


ALL = [check for name, check in sorted(globals().items()) if name[0] == "I" and name[1:2].isdigit()]
ALL.append(results_of_same_maps)


def check(step: Step) -> None:
    """Raise if an invariant does not hold, and name it."""
    for invariant in ALL:
        try:
            invariant(step)
        except AssertionError as error:
            raise AssertionError(f"{invariant.__name__}: {error}") from error
