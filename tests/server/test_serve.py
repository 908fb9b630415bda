"""``serve``: others may join with the password, and may do only what redismr needs."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import signal
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import redis
from support import eventually, open_client, server_binary

from redismr.errors import ConfigError
from redismr.server import PrivateServer, join, serve, start
from redismr.server.credentials import derived_credentials, is_loopback, random_credentials

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "a password of some length"


@pytest.fixture(scope="module")
def served(server_kind: str) -> Iterator[PrivateServer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDISMR_SERVER", str(server_binary(server_kind)))
        server = serve(password=PASSWORD)
    with server:
        yield server


@pytest.fixture(scope="module")
def client(served: PrivateServer) -> Iterator[redis.Redis]:
    with contextlib.closing(open_client(served.url_for("127.0.0.1"))) as client:
        yield client


# ------------------------------------------------------------------------- who may join


def test_port_0_is_a_free_port(served: PrivateServer) -> None:
    assert served.port
    assert served.port >= 1024


def test_the_password_is_all_another_machine_needs(served: PrivateServer) -> None:
    assert served.port
    there = join("127.0.0.1", served.port, PASSWORD)
    with contextlib.closing(open_client(there.url)) as client:
        assert client.ping()
    assert there.secret == served.connection.secret
    assert there.namespace == served.connection.namespace
    assert not there.embedded


@pytest.mark.parametrize("who", ["redismr:wrong@", "default:@", "root:root@"])
def test_nobody_else_gets_in(served: PrivateServer, who: str) -> None:
    with (
        contextlib.closing(open_client(f"redis://{who}127.0.0.1:{served.port}/0")) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_without_a_password_nothing_answers(served: PrivateServer) -> None:
    with (
        contextlib.closing(open_client(f"redis://127.0.0.1:{served.port}/0")) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_the_password_itself_does_not_open_the_server(served: PrivateServer) -> None:
    url = f"redis://redismr:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{served.port}/0"
    with contextlib.closing(open_client(url)) as client, pytest.raises(redis.AuthenticationError):
        client.ping()


def test_without_password_the_secrets_are_random(server_kind: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("REDISMR_SERVER", str(server_binary(server_kind)))
    with serve() as one, serve() as other:
        assert one.connection.secret != other.connection.secret
        assert urlsplit(one.url).password != urlsplit(other.url).password
        with contextlib.closing(open_client(one.url_for("localhost"))) as client:
            assert client.ping()


def test_every_address_may_be_bound(server_kind: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("REDISMR_SERVER", str(server_binary(server_kind)))
    with (
        serve("", 0, PASSWORD) as server,
        contextlib.closing(open_client(server.url_for("127.0.0.1"))) as client,
    ):
        assert client.ping()


def test_a_port_in_use_is_an_oserror(served: PrivateServer) -> None:
    assert served.port
    with pytest.raises(OSError, match=str(served.port)) as caught:
        serve(port=served.port)
    assert caught.value.errno == errno.EADDRINUSE


def test_the_port_listens_before_anything_else_is_done(server_kind: str, monkeypatch: Any) -> None:
    """Early clients wait, and are then connected; later clients connect to the server itself."""
    early: list[socket.socket] = []

    def find(*, port: int) -> Path:
        for _ in range(2):
            early.append(socket.create_connection(("127.0.0.1", port), 10))
        early[0].sendall(f"AUTH redismr {derived_credentials(PASSWORD).auth}\r\n".encode())
        return server_binary(server_kind)

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setattr("redismr.server.launch.find_binary", lambda: find(port=port))
    with serve(port=port, password=PASSWORD) as server, early[0], early[1]:
        assert early[0].recv(100) == b"+OK\r\n"
        early[0].sendall(b"PING\r\n")
        assert early[0].recv(100) == b"+PONG\r\n"
        early[1].sendall(b"PING\r\n")
        assert early[1].recv(100).startswith(b"-NOAUTH")
        with contextlib.closing(open_client(server.url_for("127.0.0.1"))) as client:
            assert client.ping()
            server.close()
        assert early[0].recv(100) == b""


def test_a_child_that_is_forked_meanwhile_does_not_keep_the_port(
    server_kind: str, monkeypatch: Any
) -> None:
    child = multiprocessing.get_context("fork").Process(target=signal.pause)

    def find() -> Path:
        child.start()
        return server_binary(server_kind)

    monkeypatch.setattr("redismr.server.launch.find_binary", find)
    try:
        with (
            serve(password=PASSWORD) as server,
            contextlib.closing(open_client(server.url_for("127.0.0.1"))) as client,
        ):
            assert client.ping()
    finally:
        child.kill()
        child.join()


def test_early_clients_of_a_server_that_does_not_start_are_disconnected(monkeypatch: Any) -> None:
    early: list[socket.socket] = []

    def find(*, port: int) -> Path:
        early.append(socket.create_connection(("127.0.0.1", port), 10))
        raise ConfigError("there is none")

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    monkeypatch.setattr("redismr.server.launch.find_binary", lambda: find(port=port))
    with pytest.raises(ConfigError):
        serve(port=port, password=PASSWORD)
    with early[0], contextlib.suppress(ConnectionResetError):
        assert early[0].recv(100) == b""
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_port_that_does_not_listen_is_free_for_others(served: PrivateServer) -> None:
    assert served.port
    with contextlib.closing(open_client(served.url_for("127.0.0.1"))) as client:
        client.ping()
        served.listen(on=False)
        assert client.ping(), "present connections stay"
        with socket.create_server(("127.0.0.1", served.port)), pytest.raises(OSError) as caught:
            served.listen()
        assert caught.value.errno == errno.EADDRINUSE
        served.listen()
    with contextlib.closing(open_client(served.url_for("127.0.0.1"))) as client:
        assert client.ping()


def test_a_closed_server_frees_its_port(served: PrivateServer) -> None:
    with serve() as server:
        port = server.port
        assert port
        with contextlib.closing(open_client(server.url_for("127.0.0.1"))) as client:
            client.ping()  # So that the port has had a connection.
    with serve(port=port) as again:
        assert again.port == port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


# ------------------------------------------------------------------------- what is refused before


@pytest.mark.parametrize("bind", ["0.0.0.0", "", "::", "192.0.2.1", "example.com"])  # noqa: S104
@pytest.mark.parametrize("password", ["", "fifteen letters"])
def test_a_short_password_is_for_loopback_only(bind: str, password: str) -> None:
    with pytest.raises(ConfigError, match=r"at least 16 characters.*redismr secret") as caught:
        serve(bind, 0, password)
    assert not password or password not in str(caught.value)


@pytest.mark.parametrize("bind", ["127.0.0.1", "localhost"])
def test_a_short_password_will_do_on_loopback(bind: str) -> None:
    with serve(bind, 0, "") as server:
        assert server.port
        with contextlib.closing(open_client(join(bind, server.port, "").url)) as client:
            assert client.ping()


def test_loopback() -> None:
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))
    assert not any(map(is_loopback, ["", "*", "0.0.0.0", "::", "10.0.0.1", "localhost.evil.org"]))  # noqa: S104


@pytest.mark.parametrize("bind", ["127.0.0.1 10.0.0.1", "127.0.0.1\nport 1", '"', "a/b"])
def test_an_address_cannot_smuggle_configuration(bind: str) -> None:
    with pytest.raises(ConfigError, match="cannot bind"):
        start(bind=bind, port=0)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="between 0"):
        serve(port=port)


def test_a_server_without_port_has_no_url_for_others() -> None:
    with start() as server, pytest.raises(ConfigError, match="no TCP port"):
        server.url_for("127.0.0.1")


# ------------------------------------------------------------------------- the secrets


def test_one_password_gives_the_same_two_secrets_everywhere() -> None:
    one = derived_credentials("changeme")
    derived_credentials.cache_clear()
    assert derived_credentials("changeme") == one
    assert one.auth != one.secret
    assert derived_credentials("changeme ") != one
    assert "changeme" not in repr(one)
    assert one.auth not in repr(one)


def test_32_bytes_in_hex_are_not_stretched(monkeypatch: Any) -> None:
    monkeypatch.setattr("hashlib.scrypt", None)
    derived_credentials.cache_clear()
    assert derived_credentials("ab" * 32) != derived_credentials("cd" * 32)


def test_random_credentials_are_unrelated() -> None:
    one, other = random_credentials(), random_credentials()
    assert len({one.auth, one.secret, other.auth, other.secret}) == 4
    assert len(one.auth) == len(one.secret) == 64


# ------------------------------------------------------------------------- what the user may do

ALLOWED = [
    ("PING",),
    ("TIME",),
    ("INFO",),
    ("INFO", "memory"),
    ("COMMAND", "INFO", "get"),
    ("WAIT", 0, 10),
    ("DBSIZE",),
    ("SCAN", 0),
    ("CLIENT", "ID"),
    ("CLIENT", "SETNAME", "redismr-worker"),
    ("CLIENT", "GETNAME"),
    ("SELECT", 0),
    ("HSET", "redismr:{j}:meta", "state", "mapping"),
    ("HGETALL", "redismr:{j}:meta"),
    ("PEXPIREAT", "redismr:{j}:meta", 4_000_000_000_000),
    ("OBJECT", "ENCODING", "redismr:{j}:meta"),
    ("MEMORY", "USAGE", "redismr:{j}:meta"),
    ("UNLINK", "redismr:{j}:meta"),
    ("LMOVE", "redismr:{j}:ready", "redismr:{j}:processing", "LEFT", "RIGHT"),
    ("BLPOP", "redismr:wake", 0.01),
    ("ZADD", "redismr:jobs", 1, "j"),
    ("ZRANGE", "redismr:jobs", 0, 10, "BYSCORE"),
    ("PUBLISH", "redismr:events:0:txn", "x"),
    ("PUBSUB", "NUMSUB", "redismr:events:0"),
    ("SCRIPT", "LOAD", "return 1"),
    ("EVAL", "return redis.call('TIME')", 0),
    ("EVAL", "#!lua flags=allow-oom\nreturn redis.call('GET', KEYS[1])", 1, "redismr:x"),
]
REFUSED = [
    ("CONFIG", "SET", "maxmemory", "1"),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "REWRITE"),
    ("SHUTDOWN", "NOSAVE"),
    ("REPLICAOF", "192.0.2.1", "6379"),
    ("DEBUG", "SLEEP", "0"),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", 0, 1),
    ("KEYS", "*"),
    ("MONITOR",),
    ("SAVE",),
    ("BGSAVE",),
    ("MIGRATE", "192.0.2.1", 6379, "redismr:x", 0, 10),
    ("MODULE", "LIST"),
    ("ACL", "LIST"),
    ("ACL", "SETUSER", "eve", "on", "nopass", "+@all"),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "PAUSE", 1),
    ("CLUSTER", "RESET"),
    ("SLOWLOG", "GET"),
    ("GET", "other:key"),
    ("SET", "redismr", "x"),
    ("COPY", "redismr:x", "other:x"),
    ("PUBLISH", "other:channel", "x"),
    ("EVAL", "return redis.call('GET', KEYS[1])", 1, "other:key"),
]


@pytest.mark.parametrize("command", ALLOWED, ids=lambda c: " ".join(map(str, c))[:40])
def test_commands_that_redismr_needs_pass(client: redis.Redis, command: tuple[Any, ...]) -> None:
    client.execute_command(*command)


@pytest.mark.parametrize("command", REFUSED, ids=lambda c: " ".join(map(str, c))[:40])
def test_harmful_commands_are_refused(client: redis.Redis, command: tuple[Any, ...]) -> None:
    with pytest.raises(redis.ResponseError, match=r"(?i)no perm|not allowed"):
        client.execute_command(*command)


def test_a_script_has_the_rights_of_its_caller(client: redis.Redis) -> None:
    with pytest.raises(redis.ResponseError, match=r"(?i)no perm|ACL|user executing"):
        client.eval("return redis.call('FLUSHALL')", 0)
    with pytest.raises(redis.ResponseError, match=r"(?i)no perm|ACL|user executing"):
        client.eval("return redis.call('GET', 'other:key')", 0)


def test_scripts_transactions_and_pipelines_pass(client: redis.Redis) -> None:
    sha = client.script_load("return {KEYS[1], ARGV[1]}")
    assert client.evalsha(sha, 1, "redismr:k", "v") == [b"redismr:k", b"v"]
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set("redismr:k", "v", px=60_000)
        pipeline.get("redismr:k")
        assert pipeline.execute() == [True, b"v"]


def test_events_of_the_namespace_arrive(client: redis.Redis) -> None:
    with client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe("redismr:events:0")
        eventually(lambda: client.publish("redismr:events:0", "hello"))
        message = eventually(lambda: listener.get_message(timeout=1))
        assert message["data"] == b"hello"


def test_other_channels_are_refused(client: redis.Redis) -> None:
    with client.pubsub() as listener:
        listener.subscribe("other:channel")
        with pytest.raises(redis.ResponseError, match=r"(?i)no perm"):
            listener.get_message(timeout=5)


def test_another_namespace_is_another_prefix(server_kind: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("REDISMR_SERVER", str(server_binary(server_kind)))
    monkeypatch.setenv("REDISMR_NAMESPACE", "team-a")
    with start() as server, contextlib.closing(open_client(server.url)) as client:
        assert server.connection.namespace == "team-a"
        client.set("team-a:x", 1, px=60_000)
        with pytest.raises(redis.ResponseError):
            client.set("redismr:x", 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "80"),
        ("port", 80.5),
        ("port", True),
        ("bind", 5),
        ("bind", "\ud800"),
        ("maxmemory", "1gb"),
        ("maxmemory", 0.5),
        ("maxmemory", -1),
    ],
)
def test_an_option_of_the_server_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{name}="):
        serve(**{name: value})


@pytest.mark.parametrize("password", [5, b"changemechangeme", "\ud800" * 20])
def test_a_password_is_text_and_not_shown(password: Any) -> None:
    with pytest.raises(ConfigError, match=r"^the password (must be a str|is not UTF-8)"):
        serve(password=password)
