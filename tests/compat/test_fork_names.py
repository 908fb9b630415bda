"""Names of the forks that subclasses and published scripts use."""

from __future__ import annotations

import collections
import os
import signal
import threading
import time

import pytest
from compat.conftest import PASSWORD
from support import eventually

from redismr.compat import mincemeat
from redismr.compat.mincemeat import TaskManager
from redismr.errors import ConfigError, MapError


def mapfn(k, v):
    yield v, k


def total(k, vs):
    return sum(vs)


@pytest.fixture
def credentials(sandbox):
    return {
        "interface": "localhost", "port": sandbox.port, "password": PASSWORD, "mapfn": mapfn,
        "reducefn": total, "collectfn": None, "finishfn": None,
    }  # fmt: skip


@pytest.fixture
def run():
    """Starts daemons, and stops them at the end of the test, also of one that fails."""
    daemons = []

    def start(daemon):
        daemons.append(daemon)
        daemon.start()
        return daemon

    yield start
    for daemon in reversed(daemons):
        daemon.stop(20)


# ------------------------------------------------------------------- channels


class Pinging(mincemeat.Server_daemon):
    """The published example-sf-daemon.py pings each client from its timeout with this code."""

    def timeout(self, done=False):
        for chan in self.endpoint.taskmanager.channels.keys():  # noqa: SIM118  their code
            chan.send_command("ping", ("Server Timeout", "Server loop"))


class Ponging(mincemeat.Server):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pongs = collections.Counter()

    def pong(self, chan, command, data, txn):
        self.pongs[chan] += 1


def test_a_daemon_walks_its_channels(credentials, run):
    """The result and the state stay: both ends end in success."""
    server = run(Pinging(credentials, cls=Ponging, timeout=0.02))
    client = run(mincemeat.Client_daemon(credentials, timeout=0.02))
    chan = eventually(lambda: list(server.endpoint.taskmanager.channels))[0]
    eventually(lambda: server.endpoint.pongs[chan] > 1)
    assert chan.name() == "SvrChn>" + ":".join(client.endpoint.locl)
    assert chan.addr[0] == client.endpoint.locl[0]
    server.endpoint.set_datasource({1: "a"})
    server.join(30)
    client.join(30)
    assert (server.state(), client.state()) == ("success", "success")
    assert list(server.endpoint.output) == [(None, {"a": 1})]
    assert server.endpoint.taskmanager.channels == {}


def test_channels_come_and_go(sandbox, credentials, run):
    """A client that leaves is noticed, and so is one whose process is killed."""
    server = run(mincemeat.Server_daemon(credentials))
    channels = lambda: server.endpoint.taskmanager.channels
    assert channels() == {}
    stays = run(mincemeat.Client_daemon(credentials))
    killed = sandbox.worker()
    eventually(lambda: len(channels()) == 2)
    own_name = ":".join(stays.endpoint.locl)
    (here,) = (chan for chan in channels() if chan.client_name == own_name)
    (there,) = channels().keys() - {here}
    os.kill(killed.popen.pid, signal.SIGKILL)
    eventually(lambda: there.closed)
    assert not here.closed
    assert not (stays.endpoint.closed or stays.endpoint.shutdown)
    here.handle_close()
    eventually(lambda: here.closed)
    eventually(lambda: stays.endpoint.closed)
    assert stays.endpoint.shutdown
    assert channels() == {}


# ------------------------------------------------------------------- hooks


def test_subclasses_call_the_base_as_the_fork_does(credentials, run):
    called = collections.Counter()

    class Hooked(mincemeat.Server_HB):
        def starting(self, *args, **kwargs):
            called["starting", kwargs.get("allowed")] += 1
            mincemeat.Server.starting(self, *args, **kwargs)

        def health(self):
            called["health"] += 1
            return mincemeat.Server_HB.health(self)

        def timeout(self):
            return mincemeat.Server.timeout(self)

        def stopping(self):
            called["stopping"] += 1
            mincemeat.Server.stopping(self)

        def pong(self, chan, command, data, txn):
            delay, text = chan.ping_delay(txn)
            called["pong"] += delay >= 0 and text != "?"
            mincemeat.Server_HB.pong(self, chan, command, data, txn)

    class Daemon(mincemeat.Mincemeat_daemon):
        def process(self, mine=None, **kwargs):
            called[mine] += 1
            mincemeat.Mincemeat_daemon.process(self, **kwargs)

        def timeout(self):
            return mincemeat.Mincemeat_daemon.timeout(self)

    server = run(
        Daemon(credentials, cls=Hooked, interval=0.02, allowed=9, timeout=0.05, mine="option")
    )
    client = run(mincemeat.Client_daemon(credentials))
    eventually(lambda: called["health"] > 1)
    eventually(lambda: called["pong"] > 1)
    server.stop(20)
    client.join(20)
    assert called["option"] == called["starting", 9] == called["stopping"] == 1
    assert server.state() == "failed: incomplete"
    assert server.endpoint.closed and server.endpoint.shutdown
    assert server.name() == f"Hooked@localhost:{credentials['port']}"


def test_what_timeout_returns_shortens_the_wait(credentials, run):
    called = []

    class Daemon(mincemeat.Server_daemon):
        def timeout(self):
            called.append(1)
            return 0.01

    run(Daemon(credentials, timeout=999.0))
    eventually(lambda: len(called) > 2)


def test_a_daemon_hands_map_schedule_and_shuttout_to_its_endpoint(credentials, run):
    fired, ours = [], {}
    schedule = collections.deque([(mincemeat.timer(), lambda: fired.append(1), None)])
    run(mincemeat.Server_daemon(credentials))
    client = run(mincemeat.Client_daemon(credentials, map=ours, schedule=schedule, shuttout=0.5))
    eventually(lambda: fired)
    assert list(ours.values()) == [client.endpoint]
    assert client.endpoint.schedule is schedule


def test_auth_is_done_or_none(sandbox, credentials, run):
    """Early election scripts start a server if ``c.auth != "Done"``."""
    client = mincemeat.Client()
    client.handle_error = lambda: None
    client.conn(**credentials)
    assert client.auth is None
    run(mincemeat.Server_daemon(credentials))
    helping = run(mincemeat.Client_daemon(credentials))
    assert helping.endpoint.auth == "Done"
    helping.stop(20)
    assert helping.endpoint.auth == "Done"


def test_the_taskmanager_tells_cycle_and_allocation(server_runner):
    seen = []
    server = mincemeat.Server()
    server.resultfn = lambda *_: seen.append(
        (server.taskmanager.cycle, server.taskmanager.allocation)
    )
    server.mapfn, server.reducefn = mapfn, total
    assert server.taskmanager.cycle == TaskManager.SINGLEUSE
    server.set_datasource({1: "a"}, allocation=TaskManager.ONESHOT)
    server_runner.run_server(server)
    assert seen == [(TaskManager.SINGLEUSE, TaskManager.ONESHOT)]


# ------------------------------------------------------------------- a client's own functions


def test_a_clients_mapfn_sends_commands(credentials, run):
    """mincemeat_test.test_oneshot does so, and logs ``self.name()``."""

    class Sending(mincemeat.Client):
        def mapfn(self, k, v):
            yield self.name(), k
            self.send_command("whatever", lambda: v, txn=k)

    class Hearing(mincemeat.Server):
        def unrecognized_command(self, command, data, txn, chan):
            self.heard = command, data(), txn, chan.name()
            return True

    del credentials["mapfn"]
    server = run(mincemeat.Server_daemon({**credentials, "mapfn": False}, cls=Hearing))
    client = run(mincemeat.Client_daemon(credentials, cls=Sending))
    server.endpoint.set_datasource({7: "data"})
    eventually(lambda: server.endpoint.output, 30)
    there = ":".join(client.endpoint.locl)
    assert server.endpoint.results() == {f"Sending@{there}": 7}
    assert server.endpoint.heard == ("whatever", "data", 7, f"SvrChn>{there}")


def test_a_servers_own_mapfn_says_why_it_cannot_send(server_runner):
    class Sending(mincemeat.Server):
        def mapfn(self, k, v):
            self.send_command("whatever")
            yield k, v

    server = Sending()
    server.reducefn = total
    with pytest.raises(MapError, match="methods of the worker's own Client") as caught:
        server_runner.run_server(server, datasource={1: 1})
    assert isinstance(caught.value, ConfigError)


@pytest.mark.parametrize("collectfn", [total, lambda items: [(k, [sum(vs)]) for k, vs in items]])
def test_a_clients_own_collectfn(credentials, run, collectfn):
    """The client's collectfn is used if the server sends none, as in mincemeat.py; mapfn too."""
    client = mincemeat.Client(map={})
    client.mapfn, client.collectfn = lambda k, v: [("x", v), ("x", v)], collectfn
    del credentials["mapfn"], credentials["collectfn"]
    credentials["reducefn"] = lambda k, vs: vs
    server = run(mincemeat.Server_daemon({**credentials, "mapfn": False}))
    client.conn("localhost", credentials["port"], PASSWORD, asynchronous=True)
    server.endpoint.set_datasource({1: 2, 2: 3})
    server.join(30)
    assert server.endpoint.results() == {"x": [4, 6]}
    assert client.ended(20)


# ------------------------------------------------------------------- a server that is a thread


def test_start_binds_the_port_for_workers(sandbox):
    """A worker may join before the first datasource, and stays until the next one."""
    server = mincemeat.Server(PASSWORD, sandbox.port)
    assert not server.initialized
    server.daemon = True
    server.start()
    try:
        assert server.initialized and server.is_alive() and not server.initializing()
        worker = sandbox.worker(loop=False)
        eventually(lambda: server.taskmanager.channels)
        server.mapfn, server.reducefn = mapfn, total
        assert server.process_datasource({1: "a", 2: "a"}) == {"a": 3}
        with pytest.raises(ZeroDivisionError):
            server.mapfn = lambda k, v: 1 / 0
            server.process_datasource({1: "a"})
        server.mapfn = mapfn
        assert server.process_datasource({5: "b"}) == {"b": 5}
        assert worker.popen.poll() is None
    finally:
        server.close()
        server.join(10)
    assert not server.is_alive()
    assert worker.wait(20) == 0


def test_closing_a_started_server_ends_the_wait_for_results(sandbox):
    server = mincemeat.Server(password=PASSWORD, port=sandbox.port)
    server.mapfn, server.reducefn = mapfn, total
    server.start()
    ends = threading.Timer(0.05, server.close)  # there is no worker, so the server waits
    ends.start()
    with pytest.raises(ConnectionAbortedError):
        server.process_datasource({1: "a"})
    ends.join()


def test_ping_delay():
    delay, text = mincemeat.Client.ping_delay("10.0", now=12.5)
    assert (delay, text) == (2.5, "2.500 s")
    assert mincemeat.Client(map={}).ping_delay("no time") == (0.0, "?")
    assert mincemeat.Client.ping_delay(f"{time.time() + 60}")[1] == "?"
