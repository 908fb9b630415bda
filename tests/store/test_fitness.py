"""Servers that are unfit for jobs: each is refused before anything is written."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
import threading

import fakeredis
import pytest
import redis
import support
from support import eventually

from redismr.config import Connection
from redismr.errors import ConfigError, StoreUnavailable, UnfitServer
from redismr.store import connection_errors, server_fitness
from redismr.store.connect import connect
from redismr.store.error_kinds import error_text
from redismr.store.retrying_client import RetryingClient
from redismr.store.server_fitness import check_server


def look(url, role="worker"):
    check_server(Connection(url=url, secret="5" * 32), role)


def refused(url, kind, text, role="worker"):
    """Check that the server is refused with this error, in one line with this text."""
    with pytest.raises(kind, match=text) as caught:
        look(url, role)
    assert type(caught.value) is kind
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 400
    assert "hunter2" not in said
    assert not re.search(r"[.;:,] ?[.;:,]|\.$", said), (
        "others' texts are put in ours without a stop"
    )
    if place := re.search(r"127\.0\.0\.1:\d+", url):
        assert len(re.findall(rf"(?<!//){place[0]}\b", said)) <= 1, "the address is named once"
    return said


@contextlib.contextmanager
def listening(converse):
    """Listen on a port and handle its connections with ``converse``; yield its number."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    line, _ = listener.accept()
                    with line, contextlib.suppress(OSError):
                        converse(line)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def saying(reply):
    """Return a handler that answers anything with this reply, and hangs up."""

    def converse(line):
        line.recv(4096)
        line.sendall(reply)

    return listening(converse)


@contextlib.contextmanager
def started(server_kind, **settings):
    """Start a server with these settings; check that it has no keys at the end."""
    server = support.Server(server_kind, **settings)
    try:
        yield server
        with contextlib.suppress(Exception):  # a node without slots refuses it
            assert server.client().dbsize() == 0
    finally:
        server.close()


# ------------------------------------------------------------------------- not for jobs


@pytest.mark.parametrize("slots", ["", "0 16383"])
def test_a_node_of_a_cluster(server_kind, slots):
    with started(server_kind, cluster_enabled="yes") as server:
        if slots:
            server.client().execute_command("CLUSTER", "ADDSLOTSRANGE", *slots.split())
        for role in ("worker", "monitor"):
            refused(server.url, UnfitServer, "node of a Redis Cluster.*without cluster mode", role)


def test_options_of_other_programs_in_a_url_change_nothing(server):
    url = f"{server.url}&protocol=3&decode_responses=True&retry=3"
    with contextlib.closing(RetryingClient(Connection(url=url, secret="5" * 32))) as link:
        link.check("submitter")
        assert link.command("HSET", "redismr:x", "f", b"\xff") == 1
        assert link.command("HGETALL", "redismr:x") == {b"f": b"\xff"}
        link.command("UNLINK", "redismr:x")


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("nosuch", "a URL cannot have"),
        ("credential_provider", "a URL cannot have"),  # redis-py wants an object
        ("ssl_cert_reqs", "only a rediss:// URL takes"),
    ],
)
def test_an_option_in_a_url_that_it_cannot_have(server, option, text):
    with pytest.raises(ConfigError, match=f"has an option {option} that {text}"):
        look(f"{server.url}&{option}=none")


def test_a_replica_names_its_master(server_kind):
    with started(server_kind, replicaof="127.0.0.1 7") as server:
        for role in ("worker", "monitor"):
            text = r"replica of 127\.0\.0\.1:7 .*use that server"
            refused(server.url, UnfitServer, text, role)


def test_a_replica_that_sentinels_still_call_the_master_is_waited_for():
    info = {"redis_version": "7.0.15", "role": "slave", "master_host": "h", "master_port": "1"}
    with pytest.raises(StoreUnavailable, match="has just become a replica of h:1"):
        server_fitness._check_info(info, "the master of 'x'", watched=True)


def test_a_server_that_loads_its_data_is_waited_for():
    info = {"redis_version": "7.0.15", "loading": "1", "loading_loaded_perc": "12.50"}
    with pytest.raises(StoreUnavailable, match=r"loading its data \(12 %\)"):
        server_fitness._check_info(info, "h:1", watched=False)


def test_a_sentinel_named_as_a_server_names_its_service(server_kind, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor books 127.0.0.1 7 1\n")
    sentinel = subprocess.Popen(
        [support.server_binary(server_kind), config, "--sentinel"], stdout=subprocess.DEVNULL
    )
    try:
        client = support.open_client(f"redis://127.0.0.1:{port}")
        eventually(lambda: answers(client))
        refused(
            f"redis://127.0.0.1:{port}",
            UnfitServer,
            rf"is a Sentinel.*redis\+sentinel://127\.0\.0\.1:{port}/books",
        )
    finally:
        sentinel.kill()
        sentinel.wait()


def answers(client):
    with contextlib.suppress(Exception):
        return client.ping()
    return False


def test_an_imitation_is_named():
    server = fakeredis.TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f"redis://127.0.0.1:{server.server_address[1]}"
        for role in ("worker", "monitor"):
            refused(url, UnfitServer, r"is fakeredis 2\..*imitates.*use a real server", role)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@pytest.mark.parametrize("command", ["EVALSHA", "MULTI", "INFO", "CLIENT", "LMOVE"])
def test_a_command_that_was_renamed_is_named(server_kind, command):
    with started(server_kind, rename_command=f'{command} ""') as server:
        refused(server.url, UnfitServer, rf"(?i)knows no {command} \(rename-command")


# ------------------------------------------------------------------------- for now


def test_a_server_that_was_there_is_waited_for_before_the_first_job(server):
    connection, waits = Connection(url=server.url, secret=server.secret), []
    client = RetryingClient(connection, on_wait=lambda text, _seconds: waits.append(text))
    impatient = RetryingClient(connection, patience=0)
    for each in (client, impatient):
        each.check("monitor")
    server.kill()
    with pytest.raises(StoreUnavailable):
        impatient.require("submitter")
    submitter = threading.Thread(target=client.require, args=("submitter",))
    submitter.start()
    eventually(lambda: waits)
    server.restart()
    submitter.join(30)
    assert not submitter.is_alive()
    assert waits[0].startswith("no Redis answers at ")


def test_missing_replicas_keep_only_those_away_who_write(server):
    server.config(min_replicas_to_write=1)
    for role in ("worker", "submitter"):
        text = r"no writes for now \(NOREPLICAS\).*min-replicas-to-write"
        refused(server.url, StoreUnavailable, text, role)
    look(server.url, "monitor")


def test_a_server_that_cannot_save_is_told_apart(server_kind):
    with started(server_kind, save="3600 1", dbfilename="no.rdb") as server:
        (server.directory / "no.rdb").mkdir()
        admin = server.client()
        admin.bgsave()
        eventually(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        refused(server.url, StoreUnavailable, r"no writes for now \(MISCONF\).*to disk")
        look(server.url, "monitor")


def test_a_full_server_lets_everybody_in(server):
    """Workers make room."""
    server.config(maxmemory=1)
    for role in ("worker", "submitter", "monitor"):
        look(server.url, role)


def test_a_server_in_a_long_script_is_waited_for(server):
    server.config(lua_time_limit=5)
    busy, admin = server.client(), server.client()
    admin.ping()

    def run():
        with contextlib.suppress(Exception):  # it is killed
            busy.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: not answers(admin))
        refused(server.url, StoreUnavailable, "is not ready: BUSY (Redis|Valkey|Redict) is busy")
    finally:
        admin.script_kill()
        thread.join(10)


def test_a_server_with_all_the_clients_that_it_takes(server):
    server.config(maxclients=len(server.client().client_list()))
    refused(server.url, StoreUnavailable, r"limit of clients \(maxclients\)")


# ------------------------------------------------------------------------- who is let in


@pytest.mark.parametrize("login", ["default:hunter2@", "joe:hunter2@"])
def test_a_wrong_password(server, login):
    server.config(requirepass="right")
    refused(server.url.replace("://", f"://{login}"), UnfitServer, "the URL's user or password")
    server.config(requirepass="")


def test_a_user_without_a_password_is_told_where_one_goes(server):
    refused(
        server.url.replace("://", "://joe@"), UnfitServer, "asks for a password: .*REDISMR_PASSWORD"
    )


def test_a_password_that_is_missing(server):
    server.config(requirepass="right")
    refused(server.url, UnfitServer, r"asks for a password.*USER:PASSWORD@")
    server.config(requirepass="")


def test_a_password_where_none_is(server):
    url = server.url.replace("://", "://:hunter2@")
    refused(url, UnfitServer, "has no password.*leave that out")


def test_a_database_that_is_not_there(server):
    refused(server.url.replace("db=0", "db=99"), UnfitServer, "no database of that number")


def test_protected_mode():
    with saying(b"-DENIED Redis is running in protected mode because ...\r\n") as port:
        refused(f"redis://127.0.0.1:{port}", UnfitServer, "protected mode.*requirepass")


# ------------------------------------------------------------------------- no Redis there


def test_a_url_with_tls_for_a_server_without(server_kind, monkeypatch):
    monkeypatch.setattr(server_fitness, "ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with started(server_kind, port=port) as server:
        server.client().config_set("requirepass", "right")
        url = f"rediss://:hunter2@127.0.0.1:{port}"
        refused(url, UnfitServer, "speaks no TLS: write redis:// instead")


def test_a_url_without_tls_for_a_port_with_it():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # has no certificate: refuses by TLS

    def converse(line):
        context.wrap_socket(line, server_side=True)

    with listening(converse) as port:
        refused(f"redis://127.0.0.1:{port}", UnfitServer, "speaks TLS: write rediss:// instead")


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n"])
def test_another_protocol(reply):
    with saying(reply) as port:
        refused(f"redis://127.0.0.1:{port}", UnfitServer, "is no Redis")
        refused(f"rediss://127.0.0.1:{port}", UnfitServer, "neither TLS nor Redis")


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_a_port_that_says_nothing(scheme, monkeypatch):
    monkeypatch.setattr(server_fitness, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(connection_errors, "PROBE_SECONDS", 0.1)
    held = []
    with listening(lambda line: held.append(line.dup())) as port:
        said = refused(f"{scheme}://127.0.0.1:{port}", StoreUnavailable, "no Redis answers")
        assert scheme == "rediss" or "no answer came within 0.2 s" in said
    for line in held:
        line.close()


def test_a_port_that_hangs_up():
    """A proxy whose server is not there yet does so."""
    with listening(lambda _: None) as port:
        refused(f"redis://127.0.0.1:{port}", StoreUnavailable, "no Redis answers")


def test_a_server_is_named_with_the_port_that_the_url_leaves_out():
    for url in ("redis://nosuchhost.invalid", "redis://nosuchhost.invalid/0"):
        said = refused(url, StoreUnavailable, "no Redis answers at nosuchhost.invalid:6379: ")
        assert said.count("nosuchhost") == 1


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("Error 111 connecting to 127.0.0.1:1. Connection refused.", "Connection refused"),
        ("Error 111 connecting to ::1:1. Connection refused.", "Connection refused"),
        ("Error 2 connecting to /a/b.c/s. No such file.", "No such file"),
        ("Error AF_UNIX path too long connecting to /a.", "AF_UNIX path too long"),
        ("Error while reading from db1:1 : (104, 'Reset by peer')", "Reset by peer"),
        ("Error while reading from socket: ('Reset by peer',)", "Reset by peer"),
        ("Error 32 while writing to socket. Broken pipe.", "Broken pipe"),
        ("Connection closed by server.", "Connection closed by server"),
        ("Timeout connecting to server", "Timeout connecting to server"),
        ("wait...", "wait..."),
    ],
)
def test_what_others_say_of_a_line_is_said_without_its_address(theirs, ours):
    assert error_text(redis.ConnectionError(theirs)) == ours


def test_a_socket_that_is_missing(tmp_path):
    refused(f"unix://{tmp_path}/no", StoreUnavailable, "No such file")


def test_sentinels_that_are_none(server_kind):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with started(server_kind, port=port):
        url = f"redis+sentinel://:hunter2@127.0.0.1:{port}/books"
        refused(url, UnfitServer, "'books'.* is no Sentinel: name a server by redis://HOST")
    said = refused(url, StoreUnavailable, "No master found, and not all sentinels")
    assert "Connection" not in said


def test_what_is_said_fits_the_longest_wait():
    """Start of a command, an answer that does not come, and a knock: within five seconds."""
    assert server_fitness.ANSWER_SECONDS + 2 * connection_errors.PROBE_SECONDS <= 3.5


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("socket_timeout=nan", "socket_timeout=nan must be between"),
        ("socket_timeout=inf", "socket_timeout=inf must be between"),
        ("socket_timeout=0.0005", r"socket_timeout=0\.0005 must be between"),
        ("socket_connect_timeout=0", r"socket_connect_timeout=0\.0 must be between"),
        ("socket_read_size=0", "socket_read_size=0 must be"),
        ("socket_keepalive=maybe", "socket_keepalive='maybe' must be true or false"),
        ("retry_on_timeout=2", "retry_on_timeout='2' must be true or false"),
        ("db=2", "gives db twice"),
    ],
)
def test_options_of_the_url_are_refused_by_name(query, said):
    with pytest.raises(ConfigError, match=said):
        connect(Connection(url=f"redis://h/1?{query}", secret="x"), name="n", timeout=11)


def test_a_shared_url_decides_nothing_that_jobs_rely_on():
    url = (
        "redis://h/1?socket_timeout=1&health_check_interval=5&encoding=nope&client_name=web"
        "&max_connections=1"
    )
    pool = connect(Connection(url=url, secret="x"), name="n", timeout=11).connection_pool
    names = ("socket_timeout", "health_check_interval", "encoding", "client_name")
    assert [pool.connection_kwargs[name] for name in names] == [11, 0, "utf-8", "n"]
    assert pool.max_connections == 100
