"""The fork by pjkundert: transactions, daemons, commands, timers, election."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import socket
import threading

import pytest
from compat.conftest import PASSWORD
from support import eventually
from system.processes import SECRET, Processes

from redismr.compat import mincemeat, timers
from redismr.compat.mincemeat import TaskManager


def mapfn(k, v):
    yield v, k


def total(k, vs):
    return sum(vs)


@pytest.fixture
def close_at_end():
    """Closes servers and clients at the end of a test, also of one that fails."""
    opened = []
    yield lambda endpoint: opened.append(endpoint) or endpoint
    for endpoint in reversed(opened):
        endpoint.close()
        endpoint.ended(10)


@pytest.fixture
def credentials(sandbox):
    return {
        "interface": "localhost", "port": sandbox.port, "password": PASSWORD, "mapfn": mapfn,
        "reducefn": total, "collectfn": None, "finishfn": None,
    }  # fmt: skip


# ------------------------------------------------------------------- credentials and states


def test_conn_sets_known_attributes_and_none_never_overwrites(server_runner, caplog):
    server = mincemeat.Server()
    server.mapfn = mapfn
    caplog.set_level("DEBUG")
    server.conn(
        password=PASSWORD, port=server_runner.port, mapfn=None, reducefn=total, datasource={1: "a"},
        finishfn=lambda k, v: -v, nonsense=1,
    )  # fmt: skip
    assert server.results() == {"a": -1}
    assert server.mapfn is mapfn
    assert "nonsense" in caplog.text


def test_unknown_transaction_settings_are_warned_of(caplog):
    mincemeat.Server().set_datasource({1: "a"}, nonsense=1)
    assert "unrecognized TaskManager configuration: nonsense" in caplog.text


def test_constants():
    assert [TaskManager.statename[n] for n in range(6)] == (
        ["IDLE", "START", "MAPPING", "REDUCING", "FINISHING", "FINISHED"]
    )
    assert (TaskManager.MAPREDUCE, TaskManager.MAPONLY, TaskManager.REDUCEONLY) == (0, 1, 2)
    assert (TaskManager.CONTINUOUS, TaskManager.ONESHOT) == (0, 1)
    assert (TaskManager.SINGLEUSE, TaskManager.PERMANENT) == (0, 1)
    assert mincemeat.Server().taskmanager.defaults == {
        "datasource": None, "txn": None, "allocation": 0, "cycle": 0, "retransmit": 5,
    }  # fmt: skip


def test_states_and_tasks(server_runner):
    seen = []

    class Seen(mincemeat.Server):
        def finishfn(self, k, v):
            seen.append(self.taskmanager.state)
            return v

        def resultfn(self, txn, results):
            seen.append((self.taskmanager.state, self.taskmanager.tasks, self.datasource))

    server = Seen()
    assert (server.datasource, server.taskmanager.state) == (None, TaskManager.IDLE)
    server_runner.run_server(server, datasource={1: "a"}, mapfn=mapfn, reducefn=None)
    assert seen == [TaskManager.FINISHING, (TaskManager.FINISHED, TaskManager.MAPONLY, {1: "a"})]


def test_a_started_server_takes_one_datasource_after_another(server_runner, close_at_end):
    """Two dicts, one running server, as in mikyt's fork."""
    server = close_at_end(mincemeat.Server(password=PASSWORD, port=server_runner.port))
    server.mapfn, server.reducefn = mapfn, total
    server.relaunch_map = False
    server.start()
    assert server.process_datasource({1: "a", 2: "a"}) == {"a": 3}
    assert server.process_datasource({5: "b"}) == {"b": 5}


# ------------------------------------------------------------------- asynchronous, PERMANENT


def test_asynchronous(sandbox, close_at_end, credentials):
    """run_server returns None at once; results come later; then port and worker end."""
    worker = sandbox.worker()
    server = close_at_end(mincemeat.Server(map={}))
    server.mapfn, server.reducefn = mapfn, total
    server.datasource = {1: "a", 2: "a"}
    assert server.run_server(PASSWORD, sandbox.port, asynchronous=True) is None
    assert server.authenticated()
    assert server.finished(30)
    assert server.results() == {"a": 3}
    assert server.results() is None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", sandbox.port)) == errno.ECONNREFUSED
    assert worker.popen.poll() is None


def test_permanent_transactions_run_in_turn(sandbox, close_at_end, credentials):
    """Results are tagged by txn. A failure is reported, and the next transaction runs."""
    sandbox.worker()
    failures = []

    class Permanent(mincemeat.Server):
        def failed(self, txn, error):
            failures.append((txn, type(error.failure).__name__))

    server = close_at_end(Permanent(map={}))
    server.conn(**credentials, cycle=TaskManager.PERMANENT, asynchronous=True)
    server.set_datasource({1: "a"}, txn=1)
    server.set_datasource({1: []}, txn="bad")
    server.datasource = {2: "b"}
    server.set_datasource({3: "c"}, txn=3)
    eventually(lambda: len(server.output) == 3, 30)
    assert list(server.output) == [(1, {"a": 1}), (None, {"b": 2}), (3, {"c": 3})]
    assert failures == [("bad", "Failure")]
    assert not server.finished()
    eventually(lambda: server.taskmanager.state == TaskManager.IDLE)
    assert server.datasource is None


def test_clients_submit_transactions(sandbox, close_at_end, credentials):
    """A client submits by a user command; another user command brings the results."""

    class Serving(mincemeat.Server):
        def unrecognized_command(self, command, data, txn, chan):
            if command != "transaction":
                return False
            self.askers = {**getattr(self, "askers", {}), txn: chan}
            self.set_datasource(data, txn=txn)
            return True

        def resultfn(self, txn, results):
            self.askers[txn].send_command("transactiondone", results, txn)

    class Asking(mincemeat.Client):
        def __init__(self, **options):
            super().__init__(**options)
            self.answers = {}

        def unrecognized_command(self, command, data=None, txn=None):
            self.answers[txn] = (command, data)
            return command == "transactiondone"

    server = close_at_end(Serving(map={}))
    server.conn(**credentials, cycle=TaskManager.PERMANENT, asynchronous=True)
    one, two = close_at_end(Asking(map={})), close_at_end(Asking(map={}))
    for client in (one, two):
        client.conn(**credentials, asynchronous=True)
        assert client.authenticated(10)
    one.send_command("transaction", {1: "a", 5: "a"}, txn="1")
    two.send_command_backchannel("transaction", {2: "b"}, txn="2", timeout=1)
    eventually(lambda: one.answers and two.answers, 30)
    assert one.answers == {"1": ("transactiondone", {"a": 6})}
    assert two.answers == {"2": ("transactiondone", {"b": 2})}


def test_an_unknown_command_is_logged(sandbox, close_at_end, credentials, caplog):
    server = close_at_end(mincemeat.Server(map={}))
    server.conn(**credentials, asynchronous=True)
    client = close_at_end(mincemeat.Client(map={}))
    client.conn(**credentials, asynchronous=True)
    client.send_command("nonsense")
    eventually(lambda: "Unknown command received: nonsense" in caplog.text)


def test_a_command_to_a_server_that_is_gone_is_dropped(sandbox, close_at_end, credentials):
    """Nothing is raised, as on a closed socket: a main thread may ping a moment too late."""
    server = close_at_end(mincemeat.Server(map={}))
    server.conn(**credentials, asynchronous=True)
    client = close_at_end(mincemeat.Client(map={}))
    client.conn(**credentials, asynchronous=True)
    server.close()
    assert client.ended(20)
    client.send_command_backchannel("late")
    client.ping()


def test_commands_of_strangers_are_not_unpickled(sandbox, close_at_end, credentials):
    """A message is dropped if its sender can publish but does not know the password."""
    heard = []

    class Listening(mincemeat.Server):
        def unrecognized_command(self, command, data, txn, chan):
            heard.append(command)
            return True

    server = close_at_end(Listening(map={}))
    server.conn(**credentials, asynchronous=True)
    client = close_at_end(mincemeat.Client(map={}))
    client.conn(**credentials, asynchronous=True)
    for forged in (b"", b"x" * 40, b"cos\nsystem\n(S'true'\ntR."):
        client._command_bus._store.publish(f"mincemeat:{sandbox.port}:server", forged)
    client.send_command("genuine")
    eventually(lambda: heard)
    assert heard == ["genuine"]


def test_ping(sandbox, close_at_end, credentials):
    pongs = []

    class Pinging(mincemeat.Server):
        def pong(self, chan, command, data, txn):
            pongs.append((command, data, txn))

    class Answering(mincemeat.Client):
        def pong(self, command, data=None, txn=None):
            pongs.append((command, data, txn))

    server = close_at_end(Pinging(map={}))
    server.conn(**credentials, asynchronous=True)
    client = close_at_end(Answering(map={}))
    client.conn(**credentials, asynchronous=True)
    server.ping("hello", payload=[1, 2], now=1.5)
    eventually(lambda: len(pongs) == 1)
    client.ping(payload="back", now=2.5, backchannel=True)
    eventually(lambda: len(pongs) == 2)
    name = socket.getfqdn()
    assert pongs == [("pong", (name, [1, 2]), "1.500000"), ("pong", (name, "back"), "2.500000")]
    client.send_command_backchannel("ping")
    eventually(lambda: len(pongs) == 3)
    assert pongs[2] == ("pong", (name, None), None)


# ------------------------------------------------------------------- one process, many threads


def test_the_port_is_the_lock(sandbox, close_at_end, credentials):
    """A process that cannot connect binds; one that cannot bind either is late. After a close
    the next one can bind."""
    client = mincemeat.Client(map={})
    client.handle_error = lambda: None
    client.conn(**credentials)
    assert not client.authenticated()
    first = close_at_end(mincemeat.Server(map={}))
    first.conn(**credentials, asynchronous=True)
    second = mincemeat.Server(map={})
    with pytest.raises(OSError, match="Address already in use"):
        second.conn(**credentials, asynchronous=True)
    first.close()
    assert first.ended(10)
    assert not first.finished()
    close_at_end(second).conn(**credentials, asynchronous=True)
    assert second.authenticated()


def test_masterless(sandbox, close_at_end, credentials):
    """A client runs in the main thread; another thread starts a server if there is none."""
    source = {n: "abc"[n % 3] for n in range(30)}
    servers = []

    def serve():
        server = mincemeat.Server(map={})
        servers.append(server)
        server.conn(**credentials, datasource=source, asynchronous=False)

    thread = threading.Thread(target=serve)
    client = mincemeat.Client(map={})
    client.handle_error = lambda: None
    while not client.authenticated():
        client.conn(**credentials, asynchronous=False)
        if not client.authenticated() and not servers:
            thread.start()
            eventually(lambda: servers and servers[0].authenticated())
    thread.join(10)
    assert client.finished()
    assert servers[0].results() == {"a": 135, "b": 145, "c": 155}


def test_loops_with_private_maps(sandbox, close_at_end, credentials):
    """The fork's loop calls ``process`` until a map is empty; timers are fired meanwhile."""
    ours, fired = {}, []
    server = close_at_end(mincemeat.Server(map=ours))
    server.conn(**credentials, datasource={1: "a"}, asynchronous=True)
    clients = [close_at_end(mincemeat.Client(map=ours)) for _ in range(2)]
    for client in clients:
        client.conn(**credentials, asynchronous=True)
    schedule = [(timers.timer(), lambda: fired.append(1), 0.05)]
    while ours:
        mincemeat.process(0.05, ours, schedule)
    assert server.results() == {"a": 1}
    assert len(fired) > 1
    assert all(client.finished(10) for client in clients)


def test_daemons(sandbox, credentials):
    """A server and its clients go from idle to success, with hooks and timeouts in between."""
    called = []

    class Hooked(mincemeat.Server_HB):
        def starting(self, **options):
            called.append(options)

        def stopping(self):
            called.append("stopping")

    class Daemon(mincemeat.Server_daemon):
        def timeout(self):
            called.append("timeout")

    server = Daemon(credentials, cls=Hooked, timeout=0.01, interval=7.0)
    assert server.state() == "idle"
    server.start()
    assert server.daemon
    eventually(lambda: server.state() == "authenticated")
    assert isinstance(server.name(), str)
    client = mincemeat.Client_HB_daemon(credentials, interval=1, allowed=2)
    client.start()
    assert client.state() == "authenticated"
    eventually(lambda: "timeout" in called)
    server.endpoint.set_datasource({1: "a"})
    server.join(30)
    assert not server.is_alive()
    assert server.state() == "success"
    assert list(server.endpoint.output) == [(None, {"a": 1})]
    eventually(lambda: client.state() == "success")
    assert called[0] == {"interval": 7.0, "timeout": 0.01}
    assert called[-1] == "stopping"


def test_failures_are_states(sandbox, credentials, capsys):
    refused = mincemeat.Client_daemon(credentials)
    assert refused.state().startswith("failed: [Errno")
    idle = mincemeat.Server_daemon(credentials)
    idle.start()
    with pytest.raises(OSError, match="Address already in use"):
        mincemeat.Server_daemon(credentials)
    client = mincemeat.Client_daemon(credentials)
    client.start()
    idle.stop(timeout=10)
    assert idle.state() == "failed: incomplete"
    assert not idle.is_alive()
    client.join(30)
    failing = mincemeat.Server_daemon({**credentials, "datasource": {1: []}})
    failing.start()
    worker = mincemeat.Client_daemon(credentials)
    worker.start()
    failing.join(30)
    assert failing.state().startswith("failed: ")
    assert "BadKey" in failing.state() or "hashable" in failing.state()
    worker.stop(10)


def test_stop_cancels_what_runs(sandbox, credentials):
    never = functools.partial(lambda event, k, v: event().wait(), threading.Event)
    server = mincemeat.Server_daemon({**credentials, "mapfn": never, "datasource": {1: "a"}})
    server.start()
    client = mincemeat.Client_daemon(credentials)
    client.start()
    eventually(lambda: server.endpoint._hosted_server.client.workers())
    server.stop(timeout=10)
    assert server.state() == "failed: incomplete"
    client.join(20)
    assert not client.is_alive()


ELECTION = """
    import sys
    from redismr.compat import mincemeat

    def mapfn(k, v):
        for w in v.split():
            yield w, 1

    credentials = {
        "password": "changeme", "interface": "localhost", "port": PORT,
        "datasource": dict(enumerate(["Humpty Dumpty sat", "Humpty fell"])),
        "mapfn": mapfn, "collectfn": None, "reducefn": lambda k, vs: sum(vs),
    }

    class Quiet(mincemeat.Client):
        def handle_error(self):
            pass

    while True:
        client = Quiet()
        client.conn(**credentials)
        if client.authenticated():
            print("client", flush=True)
            break
        try:
            server = mincemeat.Server()
            server.conn(**credentials)
        except OSError:
            continue
        print(sorted(server.results().items()), flush=True)
        break
"""


RESULT = "[('Dumpty', 1), ('Humpty', 2), ('fell', 1), ('sat', 1)]\n"


def test_election(sandbox):
    """One of several equal scripts becomes the server, prints and ends; the others work for it."""
    script = sandbox.write_script(ELECTION)
    started = [sandbox.start(script) for _ in range(3)]
    assert [process.wait(60) for process in started] == [0, 0, 0]
    assert sorted(process.log for process in started) == [RESULT, "client\n", "client\n"]


def test_no_election_is_needed_with_redismr_url(sandbox, server, tmp_path):
    """There is no port to bind, and there are workers, so each process gets its results."""
    processes = Processes(server.url, tmp_path / "processes")
    try:
        processes.worker()
        script = sandbox.write_script(ELECTION)
        named = {"REDISMR_URL": server.url, "REDISMR_SECRET": SECRET}
        started = [sandbox.start(script, **named) for _ in range(2)]
        assert [process.wait(60) for process in started] == [0, 0]
        logs = {process.log for process in started}
        assert RESULT in logs
        assert logs <= {RESULT, "client\n"}
    finally:
        processes.close()


# ------------------------------------------------------------------- timers


def test_timers():
    fired, entries = [], []
    entries.append((10.0, lambda: fired.append("once"), None))
    entries.append((10.0, lambda: fired.append("often"), 5.0))
    entries.append((10.0, lambda: 1 / 0, None))
    timers.run_due(entries, now=9.0)
    assert fired == []
    timers.run_due(entries, now=21.0)
    assert fired == ["once", "often"]
    assert [entry[0] for entry in entries] == [25.0]
    assert mincemeat.minimum_time(None, 3, 2, None) == 2
    assert mincemeat.minimum_time(None) is None
    assert mincemeat.next_future_time(10, 5, now=9) == (10, 0, -1)
    assert mincemeat.next_future_time(10, 5, now=10) == (15, 0, 0)
    assert mincemeat.next_future_time(10, 5, now=21) == (25, 2, 1)


def test_trigger_fires_in_order_of_expiry_and_tells_the_next():
    fired = []
    entries = [(float(n), functools.partial(fired.append, n), None) for n in (3, 1, 9, 2)]
    assert mincemeat.trigger(entries, now=5.0) == 9.0
    assert fired == [1, 2, 3]
    assert mincemeat.trigger(entries, now=9.0) is None
    now = mincemeat.timer()
    entries.append((now, lambda: fired.append("again"), 0.001))
    assert mincemeat.trigger(entries, now=now) > now
    assert fired[-1] == "again"


def test_a_timer_that_an_earlier_one_takes_back_is_not_fired_twice():
    fired = []
    entries = [(1.0, lambda: fired.append("kept"), None)]

    class Racing(list):
        """Remove the second timer before ``trigger`` takes it out."""

        def remove(self, entry):
            super().remove(entry)
            super().remove(entry)

    assert mincemeat.trigger(Racing(entries), now=5.0) is None
    assert fired == []


def test_process_says_whether_something_is_open(sandbox, close_at_end, credentials):
    """``while mincemeat.process(1., map):`` is the fork's loop."""
    ours, fired = {}, []
    assert mincemeat.process(1.0, ours) is False
    server = close_at_end(mincemeat.Server(map=ours))
    server.conn(**credentials, asynchronous=True)
    due = mincemeat.timer() + 0.05
    assert mincemeat.process(0.2, ours, [(due, lambda: fired.append(1), None)]) is True
    assert fired == [1]
    assert server.process(0.0) is True
    closing = [(due, server.close, None)]
    while mincemeat.process(60.0, ours, closing):
        pass
    assert server.ended()
    assert server.process() is False


def test_a_servers_timers_are_fired_while_it_runs(server_runner):
    fired = []
    server = mincemeat.Server()
    server.schedule.append((mincemeat.timer(), lambda: fired.append(1), None))
    server_runner.run_server(server, datasource={1: "a"}, mapfn=mapfn, reducefn=total)
    assert fired == [1]


def test_close_all(sandbox, close_at_end, credentials):
    ours = {}
    server = close_at_end(mincemeat.Server(map=ours))
    server.conn(**credentials, asynchronous=True)
    mincemeat.close_all(ours)
    assert server.ended(10)
    assert ours == {}


# ------------------------------------------------------------------- ONESHOT


class Endless:
    """A datasource of which each worker takes one item."""

    def __iter__(self):
        return itertools.count()

    def __getitem__(self, key):
        return "statistics, please"


def test_oneshot_asks_each_worker_once(sandbox, close_at_end, credentials):
    sandbox.worker("-n", "2")
    sandbox.worker()
    server = close_at_end(mincemeat.Server(map={}))
    credentials |= {"mapfn": lambda k, v: [(os.getppid(), 1)], "cycle": TaskManager.PERMANENT}
    server.conn(**credentials, asynchronous=True)
    eventually(lambda: len(server._hosted_server.client.workers()) == 2, 30)
    for txn in range(3):
        server.set_datasource(Endless(), txn=txn, allocation=TaskManager.ONESHOT)
    eventually(lambda: len(server.output) == 3, 30)
    for txn, (label, results) in enumerate(server.output):
        assert label == txn
        assert list(results.values()) == [1, 1], results
