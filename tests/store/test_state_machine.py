"""Random steps on a real server and in ``model.py``: both agree, and I1-I15 hold.

Hypothesis draws the steps here, and shrinks what goes wrong; ``chaos/machine.py`` takes very many
of them by dice. Both take the steps of ``steps.py``.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from roles import RoleStore
from store.invariants import ALL, Step
from store.model import Model
from store.server import ServerJob
from store.steps import RARE, STEPS, RandomJob
from support import script_names

_serial = itertools.count()


class DrawnChoices:
    """Choices by Hypothesis."""

    def __init__(self, data):
        self.data = data

    def choose(self, options):
        return options[self.data.draw(st.integers(0, len(options) - 1))]

    def chance(self, percent):
        # So that the smallest example is the one in which nothing unusual happens.
        return self.data.draw(st.integers(0, 99)) >= 100 - percent


class Protocol(RuleBasedStateMachine):
    """A random walk whose steps Hypothesis chooses."""

    subject: ServerJob

    @initialize(data=st.data())
    def begin(self, data):
        self.walk = RandomJob(self.subject, f"sm{next(_serial)}", DrawnChoices(data), Counter())

    @rule(data=st.data(), name=st.sampled_from([n for n, w in STEPS.items() for _ in range(w)]))
    def step(self, data, name):
        getattr(self.walk, name)(DrawnChoices(data))

    @precondition(lambda self: not self.walk.over)
    @rule(data=st.data(), name=st.sampled_from(sorted(RARE)), often=st.integers(0, 9))
    def seldom(self, data, name, often):
        if often == 9:
            getattr(self.walk, name)(DrawnChoices(data))


def explore(store, examples, steps):
    """Run the machine against this store."""

    class Bound(Protocol):
        subject = ServerJob(store)

    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True
        ),
    )


@pytest.mark.timeout(300)
def test_scripts_and_model_agree_after_every_step(server):
    store = RoleStore(server, patience=5)
    explore(store, 160, 60)
    store.end()


def test_the_model_has_every_verb():
    assert set(script_names()) <= set(dir(Model))


def _view(**keys):
    hashes = ("lease", "attempts", "done", "result", "out", "last_claims", "failures", "budgets")
    empty = {name: dict[str, str]() for name in hashes}
    return {"meta": {"state": "reducing", "n_map": "1", "partitions": "2", "maps_added": "1"}} | {
        "ready": [], "processing": [], "deadlines": {}, **empty, **keys
    }  # fmt: skip


_META = functools.partial(dict, n_map="1", partitions="2", added="1", expire_at="9")
_BROKEN = {
    "I1_one_place": _view(ready=["r0", "r0"]),
    "I2_lease_has_attempt": _view(lease={"r0": 1}),
    "I3_reducing_is_mapped": _view(),
    "I4_results_of_present_maps": _view(done={"0": "m0.a "}, result={"0": "r0.x 0 0=m0.b"}),
    "I5_named_exists": _view(result={"0": "r0.x 1 0=m0.b"}),
    "I6_tokens_once": _view(attempts={"r0": "r0.old a:1 1 5"}),
    "I7_basis": _view(),
    "I8_closed_stage": _view(meta=_META(state="mapping"), result={"0": "r0.x 0 0=m0.b"}),
    "I9_ended_is_empty": _view(meta=_META(state="failed"), ready=["m0"]),
    "I10_never_idle": _view(),
    "I11_budgets": _view(budgets={"invalidated:m0": "4"}),
    "I12_same_nonce_same_answer": _view(ready=["r0"]),
    "I13_refused_changes_nothing": _view(ready=["r0"]),
    "I14_one_deadline": _view(meta=_META(state="mapping"), deadlines={"meta": 9, "ready": -1}),
    "I15_counters_derived": _view(meta=_META(state="mapping", words="7")),
    "results_of_same_maps": _view(
        meta=_META(state="succeeded"), result={"0": "r0.x 0 0=m0.a", "1": "r1.x 0 0=m0.b"}
    ),
}


@pytest.mark.parametrize("invariant", ALL, ids=lambda check: check.__name__)
def test_each_invariant_can_be_broken(invariant):
    """Or asserting it would prove nothing."""
    broken = _BROKEN[invariant.__name__]
    step = Step("fail", ["FENCED", ""], _view(), broken, {"r0.old"}, repeated=True)
    with pytest.raises(AssertionError):
        invariant(step)
