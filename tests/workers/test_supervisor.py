"""What a supervisor does about executors that ended, with no process of its own."""

from __future__ import annotations

import itertools
import socket

import pytest

from redismr.config import Connection, WorkerOptions
from redismr.errors import KeysAltered, StoreError, StoreUnavailable, UnfitServer
from redismr.workers import executor, standing, supervisor
from redismr.workers.leases import Child
from redismr.workers.nursery import Exit
from redismr.workers.slots import Holding


@pytest.fixture
def its(monkeypatch):
    monkeypatch.setattr(supervisor, "Nursery", lambda _main: None)
    connection = Connection(url="redis://localhost:1", secret="0" * 32)
    return supervisor.Supervisor(connection, WorkerOptions(executors=2))


def child_of(its, index, holding):
    slot = its.slots.all[index]
    slot.hold(holding)
    child = Child(slot, 1000 + index, socket.socket())
    child.line.close()
    return child


def test_nobody_claims_in_the_name_of_one_whose_end_is_not_settled(its, monkeypatch):
    """Its claim may have been answered to nobody: another claim would hide which one that was."""
    answers = [StoreUnavailable("away"), StoreUnavailable("away"), None]

    def settle(*_):
        if trouble := answers.pop(0):
            raise trouble

    monkeypatch.setattr(its, "_settle", settle)
    its._bury(child_of(its, 0, Holding("job", next_nonce="n1")), Exit(1000, -9))
    its._bury(child_of(its, 1, Holding()), Exit(1001, 0))
    assert list(its._respawn_at) == [1], "one that held nothing is replaced"
    its._guarded(its._settle_all)
    assert list(its._respawn_at) == [1]
    its._guarded(its._settle_all)
    assert list(its._respawn_at) == [1, 0]


def test_one_who_held_tasks_of_an_altered_job_is_replaced(its, monkeypatch):
    def settle(*_):
        raise KeysAltered("no list")

    monkeypatch.setattr(its, "_settle", settle)
    its._bury(child_of(its, 0, Holding("job", "n1", tasks=("m0",))), Exit(1000, -9))
    assert list(its._respawn_at) == [0]


def test_a_tick_that_missed_redis_is_made_up_for_within_the_lease(its):
    """Two restarts in a row may meet two ticks, and a third miss would end a lease."""
    its.leases.hurry(3000)
    assert its.standing.pause(its.leases.tick_seconds) == pytest.approx(1.0)

    def missed():
        raise StoreUnavailable("away")

    its._guarded(missed)
    assert 4 * its.standing.pause(its.leases.tick_seconds) <= 2.0


def test_a_wake_up_is_for_one_who_is_idle_here_or_for_others(its, monkeypatch):
    """A wait for it may have begun while somebody was idle, and end when nobody is."""
    passed_on, woken = [], []
    monkeypatch.setattr(its.report, "wake", passed_on.append)

    def wake(child):
        child.idle = False
        woken.append(child)

    monkeypatch.setattr(its, "_wake", wake)
    its.children = {index: child_of(its, index, Holding()) for index in range(2)}
    its.children[0].idle = True
    monkeypatch.setattr(its.waker, "take", lambda: [False, False, False])
    its._on_wake()
    assert (woken, passed_on) == ([its.children[0]], [1, 1])
    monkeypatch.setattr(its.waker, "take", lambda: [True])  # "look again, all": no token
    its._on_wake()
    assert passed_on == [1, 1]


def test_one_whose_client_is_gone_does_not_wait_for_a_server_that_is(its, monkeypatch):
    """The two mostly go together: a worker busy with a task left 3 s after its server."""
    monkeypatch.setattr(its, "_settle", lambda *_: its.store.release("job", "e", "n"))
    ours, theirs = socket.socketpair()
    its.options = WorkerOptions(executors=1, parent_pipe=ours.fileno())
    its.selector.register(ours, supervisor.selectors.EVENT_READ)
    child = child_of(its, 0, Holding("job", "n1", tasks=("m0",)))
    its._on_orphaned()
    its._bury(child, Exit(1000, -9))
    assert its._unsettled
    assert not its._has_duties()
    ours.close()
    theirs.close()


def test_an_executor_that_the_server_refuses_is_not_started_again_and_again(its, monkeypatch):
    """And whether the server is still one to work for is found out first."""
    now, pauses = 100.0, []
    monkeypatch.setattr(supervisor.time, "monotonic", lambda: now)
    started = []
    monkeypatch.setattr(its, "_spawn", started.append)
    for _ in range(12):
        its.standing.fit = True
        its._bury(child_of(its, 0, Holding()), Exit(1000, executor.REFUSED))
        assert not its.standing.fit
        its._respawn()
        now = its._respawn_at[0]
        its._respawn()
        assert not started
        pauses.append(its._respawn_at[0] - 100.0)
    waits = [b - a for a, b in itertools.pairwise([0.0, *pauses])]
    assert waits[0] >= 0.5
    assert waits == sorted(waits)
    assert waits[-1] == standing.MOST_REFUSED_SECONDS
    its.standing.fit = True
    its._respawn()
    assert len(started) == 1


@pytest.mark.parametrize("error", [StoreError("NOPERM"), StoreUnavailable("away")])
def test_a_refusal_is_looked_into_and_an_absence_is_waited_for(its, error):
    def duty():
        raise error

    its.standing.fit = True
    its._guarded(duty)
    assert its.standing.fit == isinstance(error, StoreUnavailable)


def test_a_server_that_has_become_unfit_ends_the_worker(its, monkeypatch):
    def unfit(role):
        assert role == "worker"
        raise UnfitServer("a replica")

    monkeypatch.setattr(its.store.link, "check", unfit)
    with pytest.raises(UnfitServer, match="a replica"):
        its._guarded(its._tick)


def test_redis_is_back_when_all_is_done_that_had_failed(its, monkeypatch, caplog):
    """One that takes no writes answers reads all the while."""
    caplog.set_level("INFO", "redismr.worker")
    troubles = {"beat": True, "tick": True}

    def duty(name):
        def do():
            if troubles[name]:
                raise StoreUnavailable(f"{name} failed")

        return do

    for name in troubles:
        monkeypatch.setattr(its, f"_{name}", duty(name))
    for _ in range(3):
        its._guarded(its._tick)
        its._guarded(its._beat)
        troubles["tick"] = False  # reads go on
        its._guarded(lambda: None)
    assert its.standing.pause(its.leases.tick_seconds) < its.leases.tick_seconds
    troubles["beat"] = False
    its._guarded(its._beat)
    assert [row.getMessage() for row in caplog.records] == [
        "tick failed; waiting for it",
        "Redis is back",
    ]
