"""A private server is closed to others, and ends with its parent."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

import pytest
import redis
from support import REPOSITORY, eventually, is_running, open_client, server_binary

from redismr.errors import ConfigError, StoreUnavailable
from redismr.server import PrivateServer, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or needs PDEATHSIG")


@pytest.fixture(autouse=True)
def _binary(server_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISMR_SERVER", str(server_binary(server_kind)))


@pytest.fixture
def private() -> Iterator[PrivateServer]:
    with start() as server:
        yield server


def socket_of(url: str) -> Path:
    return Path(unquote(urlsplit(url).path))


def pid_of(url: str) -> int:
    with contextlib.closing(open_client(url)) as client:
        return int(client.info("server")["process_id"])


def parent_of(pid: int) -> int:
    completed = subprocess.run(
        ["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, text=True, check=True
    )
    return int(completed.stdout)


def handles_signal(pid: int, number: int) -> bool:
    """True if the process has a handler for the signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def has_ended(pid: int, path: Path) -> Callable[[], bool]:
    return lambda: not is_running(pid) and not path.parent.exists()


class ParentProcess:
    """Another Python process, which starts a private server and prints its URL first."""

    def __init__(self, body: str) -> None:
        program = "import os, sys, time, signal, subprocess, threading\n"
        program += "from redismr.server import start\n" + textwrap.dedent(body)
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            start_new_session=True,
        )
        self.url = self.line()
        self.pid = pid_of(self.url) if self.url else 0
        self.path = socket_of(self.url)

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


# ------------------------------------------------------------------------- what it is


def test_a_started_server_answers(private: PrivateServer) -> None:
    with contextlib.closing(open_client(private.url)) as client:
        assert client.ping()
    assert private.alive
    assert private.port is None


def test_the_connection_is_marked_as_embedded(private: PrivateServer) -> None:
    connection = private.connection
    assert connection.embedded
    assert connection.url == private.url
    assert connection.namespace == "redismr"
    assert re.fullmatch("[0-9a-f]{64}", connection.secret)


def test_the_secret_is_not_what_the_server_is_told(private: PrivateServer) -> None:
    password = urlsplit(private.url).password
    assert password
    assert password != private.connection.secret
    assert password not in repr(private)
    assert private.connection.secret not in repr(private)


def test_only_this_user_can_reach_the_socket(private: PrivateServer) -> None:
    path = socket_of(private.url)
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@LINUX
def test_no_tcp_port_is_open(private: PrivateServer) -> None:
    descriptors = Path(f"/proc/{pid_of(private.url)}/fd").iterdir()
    ours = {str(descriptor.readlink()) for descriptor in descriptors}
    lines = [
        line.split()
        for table in ("tcp", "tcp6", "udp", "udp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    assert any(name.startswith("socket:") for name in ours)
    assert not ours & {f"socket:[{fields[9]}]" for fields in lines}


@LINUX
def test_no_secret_shows_in_process_lists(
    private: PrivateServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISMR_SECRET", "not-for-the-server")
    with start() as server:
        pid = pid_of(server.url)
        secrets = {server.connection.secret, urlsplit(server.url).password, "not-for-the-server"}
        for process in (pid, parent_of(pid)):
            for name in ("cmdline", "environ"):
                text = Path(f"/proc/{process}/{name}").read_bytes().decode(errors="replace")
                assert not [secret for secret in secrets if secret and secret in text]


def test_the_server_never_evicts_and_keeps_no_files(private: PrivateServer) -> None:
    with contextlib.closing(open_client(private.url)) as client:
        memory = client.info("memory")
        persistence = client.info("persistence")
    assert memory["maxmemory_policy"] == "noeviction"
    assert memory["maxmemory"] > 64 << 20
    assert not persistence["aof_enabled"]


def test_the_memory_may_be_limited() -> None:
    with start(maxmemory=50 << 20) as server, contextlib.closing(open_client(server.url)) as client:
        assert client.info("memory")["maxmemory"] == 50 << 20


@pytest.mark.parametrize("name", ["x" * 120, 'a "quoted" b', "back\\slash", "ünïcode % 41?#"])
def test_any_temporary_directory_will_do(
    name: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as base:
        folder = Path(base, name)
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with start() as server, contextlib.closing(open_client(server.url)) as client:
            assert client.ping()
            assert len(os.fsencode(socket_of(server.url))) <= 103
            assert (folder in socket_of(server.url).parents) == (len(name) < 100)


# ------------------------------------------------------------------------- how it ends


def test_close_leaves_nothing() -> None:
    server = start()
    pid, path = pid_of(server.url), socket_of(server.url)
    server.close()
    assert has_ended(pid, path)()
    assert not server.alive
    server.close()


def test_the_with_block_closes_the_server_on_an_error_too() -> None:
    with pytest.raises(ZeroDivisionError), start() as server:
        pid, path = pid_of(server.url), socket_of(server.url)
        raise ZeroDivisionError
    assert has_ended(pid, path)()


def test_the_server_ends_with_a_parent_that_does_not_close_it() -> None:
    with ParentProcess("server = start(); print(server.url); sys.stdin.readline()") as parent:
        parent.process.communicate("\n", timeout=10)
        assert parent.process.returncode == 0
        eventually(has_ended(parent.pid, parent.path))


def test_the_server_ends_with_a_parent_that_is_killed() -> None:
    with ParentProcess("server = start(); print(server.url); time.sleep(60)") as parent:
        keeper = parent_of(parent.pid)
        parent.process.kill()
        eventually(has_ended(parent.pid, parent.path), message="the server outlived its parent")
        eventually(lambda: not is_running(keeper))


@pytest.mark.parametrize(
    "child",
    [
        "subprocess.Popen(['sleep', '60'])",
        "subprocess.Popen(['sleep', '60'], close_fds=False)",
        "os.fork() or time.sleep(60)",
    ],
)
def test_children_that_outlive_the_parent_do_not_hold_the_server(child: str) -> None:
    body = f"server = start(); {child}; print(server.url); time.sleep(60)"
    with ParentProcess(body) as parent:
        parent.process.kill()
        eventually(
            has_ended(parent.pid, parent.path), message="a child of the parent holds the pipe"
        )


def test_the_end_of_a_forked_child_is_not_the_end_of_the_server() -> None:
    body = """
        server = start()
        if os.fork() == 0:
            server.close()
            sys.exit(0)  # Runs exit handlers.
        os.wait()
        print(server.url)
        print(server.alive)
        time.sleep(60)
    """
    with ParentProcess(body) as parent:
        assert parent.line() == "True"
        assert pid_of(parent.url) == parent.pid


def test_ctrl_c_does_not_reach_the_server() -> None:
    body = """
        server = start()
        try:
            print(server.url)
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted", server.alive)
            time.sleep(60)
    """
    with ParentProcess(body) as parent:
        os.killpg(parent.process.pid, signal.SIGINT)
        assert parent.line() == "interrupted True"
        assert pid_of(parent.url) == parent.pid


def test_the_server_outlives_the_thread_that_started_it() -> None:
    servers: list[PrivateServer] = []
    thread = threading.Thread(target=lambda: servers.append(start()))
    thread.start()
    thread.join()
    with servers[0] as server, contextlib.closing(open_client(server.url)) as client:
        assert all(client.ping() for _ in range(100))


@LINUX
def test_the_server_ends_when_the_keeper_is_killed() -> None:
    with start() as server:
        pid, path = pid_of(server.url), socket_of(server.url)
        os.kill(parent_of(pid), signal.SIGKILL)
        eventually(lambda: not is_running(pid), message="the server outlived its keeper")
        eventually(lambda: not server.alive)
    assert not path.parent.exists()


@LINUX
def test_the_server_ends_when_the_keeper_gets_sigterm() -> None:
    with start() as server:
        pid, path = pid_of(server.url), socket_of(server.url)
        keeper = parent_of(pid)
        # The keeper installs its handler while the server starts, so it may come second.
        eventually(lambda: handles_signal(keeper, signal.SIGTERM))
        os.kill(keeper, signal.SIGTERM)
        eventually(has_ended(pid, path))


def test_a_killed_server_is_noticed_and_its_stale_socket_removed() -> None:
    with start() as server:
        pid, path = pid_of(server.url), socket_of(server.url)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not server.alive)
        assert has_ended(pid, path)()


@pytest.mark.slow
def test_a_server_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    with start() as server:
        pid = pid_of(server.url)
        os.kill(pid, signal.SIGSTOP)
    assert not is_running(pid)


# ------------------------------------------------------------------------- when it cannot start


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)
    return str(path)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for sockets that must be empty after the test."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    left = list(folder.iterdir())
    for entry in left:
        entry.rmdir()
    folder.rmdir()
    assert not left


@pytest.mark.usefixtures("temporary")
def test_a_server_that_fails_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = script(tmp_path / "broken", "cat >/dev/null; echo 'cannot find my marbles'; exit 3")
    monkeypatch.setenv("REDISMR_SERVER", broken)
    with pytest.raises(StoreUnavailable) as caught:
        start()
    assert "cannot find my marbles" in str(caught.value)
    assert "exit code 3" in str(caught.value)
    assert broken in str(caught.value)


@pytest.mark.usefixtures("temporary")
def test_a_program_that_is_no_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISMR_SERVER", "true")
    with pytest.raises(StoreUnavailable, match="exit code 0"):
        start()


@pytest.mark.usefixtures("temporary")
def test_a_file_that_cannot_be_executed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("\x00 neither script nor binary")
    (tmp_path / "text").chmod(0o700)
    monkeypatch.setenv("REDISMR_SERVER", str(tmp_path / "text"))
    with pytest.raises(StoreUnavailable, match="cannot run"):
        start()


@pytest.mark.usefixtures("temporary")
def test_a_server_that_never_answers_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = script(tmp_path / "silent", f"echo $$ > {tmp_path}/pid; echo hm; exec sleep 60")
    monkeypatch.setenv("REDISMR_SERVER", silent)
    with pytest.raises(StoreUnavailable, match=r"within 0\.3 s(?s:.*)hm"):
        start(wait=False).ready(0.3)
    assert not is_running(int((tmp_path / "pid").read_text()))


@pytest.mark.usefixtures("temporary")
@pytest.mark.parametrize("named", ["/nowhere/valkey-server", "/", "/etc/passwd", "no-such-one"])
def test_a_bad_redismr_server_is_named(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDISMR_SERVER", named)
    with pytest.raises(ConfigError, match=f"REDISMR_SERVER={named} is not an executable file"):
        start()


@pytest.mark.usefixtures("temporary")
def test_a_port_in_use_is_an_oserror() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=str(port)) as caught:
            start(bind="127.0.0.1", port=port)
    assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.usefixtures("temporary")
def test_an_address_that_is_not_ours_is_an_oserror() -> None:
    with pytest.raises(OSError, match="assign") as caught:
        start(bind="192.0.2.1", port=11235)
    assert caught.value.errno == errno.EADDRNOTAVAIL


def test_the_redis_client_is_not_imported() -> None:
    """The keeper and the wait for PING must not pay for importing redis."""
    program = "import sys; from redismr.server import start; start(); print('redis' in sys.modules)"
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert completed.stdout.strip() == "False", completed.stderr


def test_two_servers_are_separate() -> None:
    with start() as one, start() as other:
        with contextlib.closing(open_client(one.url)) as client:
            client.set("redismr:mine", 1, px=60_000)
        with contextlib.closing(open_client(other.url)) as client:
            assert client.get("redismr:mine") is None
        stolen = other.url.replace(
            str(urlsplit(other.url).password), str(urlsplit(one.url).password)
        )
        with (
            contextlib.closing(open_client(stolen)) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
