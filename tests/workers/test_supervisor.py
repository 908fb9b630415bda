"""The supervisor without processes: exits, respawns, wake-ups, outages."""

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


def test_no_executor_starts_before_the_exit_in_its_slot_is_reported(supervisor, monkeypatch):
    """The dead executor may hold an unknown claim, which a new claim of its name would hide."""
    answers = [StoreUnavailable("away"), StoreUnavailable("away"), None]

    def report_exit(*_):
        if trouble := answers.pop(0):
            raise trouble

    monkeypatch.setattr(supervisor.exits, "_report_exit", report_exit)
    supervisor._on_executor_exit(
        child_of(supervisor, 0, Holding("job", next_nonce="n1")), ExecutorExit(1000, -9)
    )
    supervisor._on_executor_exit(child_of(supervisor, 1, Holding()), ExecutorExit(1001, 0))
    assert list(supervisor._respawn_at) == [1], "one that held nothing is replaced"
    supervisor._run_duty(supervisor.exits.report_all)
    assert list(supervisor._respawn_at) == [1]
    supervisor._run_duty(supervisor.exits.report_all)
    assert list(supervisor._respawn_at) == [1, 0]


def test_an_executor_that_held_tasks_of_an_altered_job_is_replaced(supervisor, monkeypatch):
    def report_exit(*_):
        raise KeysAltered("no list")

    monkeypatch.setattr(supervisor.exits, "_report_exit", report_exit)
    supervisor._on_executor_exit(
        child_of(supervisor, 0, Holding("job", "n1", tasks=("m0",))), ExecutorExit(1000, -9)
    )
    assert list(supervisor._respawn_at) == [0]


def test_a_missed_tick_is_repeated_within_the_lease(supervisor):
    """Two restarts in a row may cost two ticks; a third missed tick would end a lease."""
    supervisor.leases.expect_lease(3000)
    assert supervisor.server_health.tick_pause(supervisor.leases.tick_seconds) == pytest.approx(1.0)

    def missed():
        raise StoreUnavailable("away")

    supervisor._run_duty(missed)
    assert 4 * supervisor.server_health.tick_pause(supervisor.leases.tick_seconds) <= 2.0


def test_a_wake_up_goes_to_an_idle_executor_or_to_another_worker(supervisor, monkeypatch):
    """The wait may begin while an executor is idle, and end when none is."""
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


def test_a_worker_whose_client_is_gone_does_not_wait_for_the_server(supervisor, monkeypatch):
    """Client and server mostly end together: a busy worker ended 3 s later than its server."""
    monkeypatch.setattr(
        supervisor.exits, "_report_exit", lambda *_: supervisor.store.release("job", "e", "n")
    )
    ours, theirs = socket.socketpair()
    supervisor.options = WorkerOptions(executors=1, parent_pipe=ours.fileno())
    supervisor.selector.register(ours, supervisor_module.selectors.EVENT_READ)
    child = child_of(supervisor, 0, Holding("job", "n1", tasks=("m0",)))
    supervisor._on_client_exit(ours.fileno())
    supervisor._on_executor_exit(child, ExecutorExit(1000, -9))
    assert supervisor.exits.unreported
    assert not supervisor.stopping.waits_for_redis()
    ours.close()
    theirs.close()


def test_a_refused_executor_is_started_again_after_growing_pauses(supervisor, monkeypatch):
    """The server is checked before each new start."""
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
def test_a_refusal_makes_the_server_unfit_and_an_absence_does_not(supervisor, error):
    def duty():
        raise error

    supervisor.server_health.is_fit = True
    supervisor._run_duty(duty)
    assert supervisor.server_health.is_fit == isinstance(error, StoreUnavailable)


def test_a_server_that_has_become_unfit_ends_the_worker(supervisor, monkeypatch):
    def unfit(role):
        assert role == "worker"
        raise UnfitServer("a replica")

    monkeypatch.setattr(supervisor.store.redis_client, "check", unfit)
    with pytest.raises(UnfitServer, match="a replica"):
        supervisor._run_duty(supervisor._tick)


def test_an_outage_ends_when_all_failed_duties_are_done(supervisor, monkeypatch, caplog):
    """A server that takes no writes still answers reads."""
    caplog.set_level("INFO", "redismr.worker")
    failing = {"send_heartbeat": True, "tick": True}

    def duty(name):
        def do():
            if failing[name]:
                raise StoreUnavailable(f"{name} failed")

        return do

    for name in failing:
        monkeypatch.setattr(supervisor, f"_{name}", duty(name))
    for _ in range(3):
        supervisor._run_duty(supervisor._tick)
        supervisor._run_duty(supervisor._send_heartbeat)
        failing["tick"] = False  # reads go on
        supervisor._run_duty(lambda: None)
    assert (
        supervisor.server_health.tick_pause(supervisor.leases.tick_seconds)
        < supervisor.leases.tick_seconds
    )
    failing["send_heartbeat"] = False
    supervisor._run_duty(supervisor._send_heartbeat)
    assert [row.getMessage() for row in caplog.records] == [
        "tick failed; waiting for it",
        "Redis is back",
    ]
