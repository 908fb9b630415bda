"""What a supervisor does about executors that ended, with no process of its own."""

from __future__ import annotations

import itertools
import socket

import pytest

from redismr.config import Connection, WorkerOptions
from redismr.errors import KeysAltered, StoreError, StoreUnavailable, UnfitServer
from redismr.workers import executor, server_health
from redismr.workers import supervisor as supervisor_module
from redismr.workers.child import Child
from redismr.workers.fork_server import ExecutorExit
from redismr.workers.shared_slots import Holding


@pytest.fixture
def supervisor(monkeypatch):
    monkeypatch.setattr(supervisor_module, "ForkServer", lambda _main: None)
    connection = Connection(url="redis://localhost:1", secret="0" * 32)
    return supervisor_module.Supervisor(connection, WorkerOptions(executors=2))


def child_of(supervisor, index, holding):
    slot = supervisor.slots.all[index]
    slot.set_holding(holding)
    child = Child(slot, 1000 + index, socket.socket())
    child.control.close()
    return child


def test_nobody_claims_in_the_name_of_one_whose_end_is_not_settled(supervisor, monkeypatch):
    """Its claim may have been answered to nobody: another claim would hide which one that was."""
    answers = [StoreUnavailable("away"), StoreUnavailable("away"), None]

    def settle(*_):
        if trouble := answers.pop(0):
            raise trouble

    monkeypatch.setattr(supervisor, "_report_exit", settle)
    supervisor._on_executor_exit(
        child_of(supervisor, 0, Holding("job", next_nonce="n1")), ExecutorExit(1000, -9)
    )
    supervisor._on_executor_exit(child_of(supervisor, 1, Holding()), ExecutorExit(1001, 0))
    assert list(supervisor._respawn_at) == [1], "one that held nothing is replaced"
    supervisor._run_duty(supervisor._report_exits)
    assert list(supervisor._respawn_at) == [1]
    supervisor._run_duty(supervisor._report_exits)
    assert list(supervisor._respawn_at) == [1, 0]


def test_one_who_held_tasks_of_an_altered_job_is_replaced(supervisor, monkeypatch):
    def settle(*_):
        raise KeysAltered("no list")

    monkeypatch.setattr(supervisor, "_report_exit", settle)
    supervisor._on_executor_exit(
        child_of(supervisor, 0, Holding("job", "n1", tasks=("m0",))), ExecutorExit(1000, -9)
    )
    assert list(supervisor._respawn_at) == [0]


def test_a_tick_that_missed_redis_is_made_up_for_within_the_lease(supervisor):
    """Two restarts in a row may meet two ticks, and a third miss would end a lease."""
    supervisor.leases.expect_lease(3000)
    assert supervisor.server_health.tick_pause(supervisor.leases.tick_seconds) == pytest.approx(1.0)

    def missed():
        raise StoreUnavailable("away")

    supervisor._run_duty(missed)
    assert 4 * supervisor.server_health.tick_pause(supervisor.leases.tick_seconds) <= 2.0


def test_a_wake_up_is_for_one_who_is_idle_here_or_for_others(supervisor, monkeypatch):
    """A wait for it may have begun while somebody was idle, and end when nobody is."""
    passed_on, woken = [], []
    monkeypatch.setattr(supervisor.reporter, "wake", passed_on.append)

    def wake(child):
        child.idle = False
        woken.append(child)

    monkeypatch.setattr(Child, "wake", wake)
    supervisor.children = {index: child_of(supervisor, index, Holding()) for index in range(2)}
    supervisor.children[0].idle = True
    monkeypatch.setattr(supervisor.waker, "take_wakeups", lambda: [False, False, False])
    supervisor._on_wakeups()
    assert (woken, passed_on) == ([supervisor.children[0]], [1, 1])
    monkeypatch.setattr(
        supervisor.waker, "take_wakeups", lambda: [True]
    )  # "look again, all": no token
    supervisor._on_wakeups()
    assert passed_on == [1, 1]


def test_one_whose_client_is_gone_does_not_wait_for_a_server_that_is(supervisor, monkeypatch):
    """The two mostly go together: a worker busy with a task left 3 s after its server."""
    monkeypatch.setattr(
        supervisor, "_report_exit", lambda *_: supervisor.store.release("job", "e", "n")
    )
    ours, theirs = socket.socketpair()
    supervisor.options = WorkerOptions(executors=1, parent_pipe=ours.fileno())
    supervisor.selector.register(ours, supervisor_module.selectors.EVENT_READ)
    child = child_of(supervisor, 0, Holding("job", "n1", tasks=("m0",)))
    supervisor._on_parent_exit()
    supervisor._on_executor_exit(child, ExecutorExit(1000, -9))
    assert supervisor._unreported_exits
    assert not supervisor._has_duties()
    ours.close()
    theirs.close()


def test_an_executor_that_the_server_refuses_is_not_started_again_and_again(
    supervisor, monkeypatch
):
    """And whether the server is still one to work for is found out first."""
    now, pauses = 100.0, []
    monkeypatch.setattr(supervisor_module.time, "monotonic", lambda: now)
    started = []
    monkeypatch.setattr(supervisor, "_spawn", started.append)
    for _ in range(12):
        supervisor.server_health.is_fit = True
        supervisor._on_executor_exit(
            child_of(supervisor, 0, Holding()), ExecutorExit(1000, executor.EXIT_SERVER_REFUSED)
        )
        assert not supervisor.server_health.is_fit
        supervisor._respawn_due()
        now = supervisor._respawn_at[0]
        supervisor._respawn_due()
        assert not started
        pauses.append(supervisor._respawn_at[0] - 100.0)
    waits = [b - a for a, b in itertools.pairwise([0.0, *pauses])]
    assert waits[0] >= 0.5
    assert waits == sorted(waits)
    assert waits[-1] == server_health.MAX_REFUSAL_PAUSE_SECONDS
    supervisor.server_health.is_fit = True
    supervisor._respawn_due()
    assert len(started) == 1


@pytest.mark.parametrize("error", [StoreError("NOPERM"), StoreUnavailable("away")])
def test_a_refusal_is_looked_into_and_an_absence_is_waited_for(supervisor, error):
    def duty():
        raise error

    supervisor.server_health.is_fit = True
    supervisor._run_duty(duty)
    assert supervisor.server_health.is_fit == isinstance(error, StoreUnavailable)


def test_a_server_that_has_become_unfit_ends_the_worker(supervisor, monkeypatch):
    def unfit(role):
        assert role == "worker"
        raise UnfitServer("a replica")

    monkeypatch.setattr(supervisor.store.server, "check", unfit)
    with pytest.raises(UnfitServer, match="a replica"):
        supervisor._run_duty(supervisor._tick)


def test_redis_is_back_when_all_is_done_that_had_failed(supervisor, monkeypatch, caplog):
    """One that takes no writes answers reads all the while."""
    caplog.set_level("INFO", "redismr.worker")
    troubles = {"send_heartbeat": True, "tick": True}

    def duty(name):
        def do():
            if troubles[name]:
                raise StoreUnavailable(f"{name} failed")

        return do

    for name in troubles:
        monkeypatch.setattr(supervisor, f"_{name}", duty(name))
    for _ in range(3):
        supervisor._run_duty(supervisor._tick)
        supervisor._run_duty(supervisor._send_heartbeat)
        troubles["tick"] = False  # reads go on
        supervisor._run_duty(lambda: None)
    assert (
        supervisor.server_health.tick_pause(supervisor.leases.tick_seconds)
        < supervisor.leases.tick_seconds
    )
    troubles["send_heartbeat"] = False
    supervisor._run_duty(supervisor._send_heartbeat)
    assert [row.getMessage() for row in caplog.records] == [
        "tick failed; waiting for it",
        "Redis is back",
    ]
