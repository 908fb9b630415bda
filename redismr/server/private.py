"""A private server as an object: it answers when you have it, and ends with this process.

The server belongs to a keeper process (``keeper.py``). So a kill -9 of this process leaves no
server behind, and neither Ctrl-C nor the end of the thread that started it ends the server.

Measured on two cores, medians of 15: from the call to the first PING 50 ms with Valkey 9.1 and
23 ms with Redis 7.0, of which the keeper is 12; ``close`` 18 ms. Valkey sleeps for 30 of its 37 ms
to calibrate its clock, and no setting prevents that.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn, Self
from urllib.parse import quote

from redismr import standard_streams
from redismr.confidential import Unpicklable, remember_secrets
from redismr.config import Connection
from redismr.errors import ConfigError, StoreUnavailable
from redismr.server import keeper as keeper_script
from redismr.server.credentials import JOIN_USER, KEEPER_USER, Credentials, tcp_url, user_acl
from redismr.server.early_listener import EarlyListener, raise_address_error

READY_POLL_SECONDS = 0.002
READY_SECONDS = 10.0
MAX_SOCKET_PATH_BYTES = 103  # on macOS; Linux takes four bytes more

_open_servers: set[PrivateServer] = set()


class PrivateServer(Unpicklable):
    """A running server that answered PING; use ``start`` or ``serve`` to get one.

    The server lives until ``close``, the end of the ``with`` block, or the end of this process,
    however that ends. A forked child may use ``connection`` but does not own the server. Nothing
    is kept on disk, because the data is of no use after this process.
    """

    def __init__(
        self,
        *,
        binary: Path,
        credentials: Credentials,
        namespace: str,
        early_listener: EarlyListener | None,
        maxmemory: int | None,
    ) -> None:
        self._binary = binary
        self._credentials = credentials
        self._keeper_auth = secrets.token_hex(32)
        remember_secrets(self._keeper_auth, private=True)
        self._early_listener = early_listener
        self._directory = _make_directory()
        self._socket = f"{self._directory}/s"
        self.url = f"unix://{JOIN_USER}:{credentials.auth}@{quote(self._socket)}?db=0"
        self.connection = Connection(
            url=self.url, secret=credentials.secret, namespace=namespace, embedded=True
        )
        try:
            bind, users = None, user_acl(credentials.auth, namespace)
            if early_listener:  # a user who may only change settings, such as the port
                bind = early_listener.bind
                users += f"user {KEEPER_USER} reset on >{self._keeper_auth} +config|set\n"
            configuration = _server_configuration(self._socket, bind, users, maxmemory)
            self._keeper = self._start_keeper(configuration)
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        _open_servers.add(self)

    def ready(self, deadline: float = READY_SECONDS) -> None:
        """Wait until the server answers; ``start(wait=False)`` leaves this to the caller.

        Raises:
            OSError, StoreUnavailable: as ``start``; the server is closed then.
        """
        try:
            self._wait_for_ping(deadline)
            if self._early_listener:
                self._early_listener.stop_listening()
                self.listen()
                self._early_listener.forward_early_clients(self._socket)
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int | None:
        """The TCP port; None if the server has none."""
        return self._early_listener.port if self._early_listener else None

    def listen(self, *, on: bool = True) -> None:
        """Open or close the TCP port to new connections; present connections stay.

        Raises:
            OSError: EADDRINUSE, another process took the port meanwhile.
            StoreUnavailable: the server has ended.
        """
        listener = self._early_listener
        assert listener is not None
        try:
            command = f"CONFIG SET port {listener.port if on else 0}"
            reply = self._run_as_user(KEEPER_USER, self._keeper_auth, command, READY_SECONDS)
        except OSError as exc:
            raise StoreUnavailable(f"{self!r} does not answer any more: {exc}") from exc
        if not reply.endswith(b"+OK\r\n"):
            raise_address_error(errno.EADDRINUSE, listener.bind, listener.port)

    @property
    def alive(self) -> bool:
        """True if the server still runs."""
        return self in _open_servers and self._keeper.poll() is None

    def url_for(self, host: str) -> str:
        """Return the URL, password included, for a machine that calls this one ``host``."""
        if self._early_listener is None:
            raise ConfigError("this private server has no TCP port; serve() opens one")
        return tcp_url(host, self._early_listener.port, self._credentials.auth)

    def close(self) -> None:
        """End the server and remove its directory. Safe to call again."""
        self._close_and_read_output()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        port = self._early_listener
        where = f"{port.bind or '*'}:{port.port}" if port else self._socket
        return f"<PrivateServer {self._binary.name} at {where}>"

    def _start_keeper(self, configuration: str) -> subprocess.Popen[bytes]:
        standard_streams.open_missing_descriptors()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper_script.__file__, self._binary, self._directory],
            stdin=subprocess.PIPE,  # Not inheritable: no other child of ours holds it open.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            cwd="/",
            env={k: v for k, v in os.environ.items() if not k.startswith("REDISMR_")},
            start_new_session=True,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # It died at once: _wait_for_ping says why.
            process.stdin.write(os.fsencode(configuration) + b"\0")
        return process

    def _wait_for_ping(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._is_answering():
            if self._keeper.poll() is not None:
                self._close_and_raise("did not start")
            if time.monotonic() > deadline:
                self._close_and_raise(f"did not answer within {seconds:g} s")
            time.sleep(READY_POLL_SECONDS)

    def _is_answering(self) -> bool:
        """True if the server lets us in. Asked without redis-py, whose import costs 0.1 s."""
        try:
            replies = self._run_as_user(JOIN_USER, self._credentials.auth, "PING")
        except OSError:
            return False
        return replies.endswith(b"+PONG\r\n")

    def _run_as_user(self, user: str, auth: str, command: str, seconds: float = 1) -> bytes:
        """Return the replies to AUTH and to one command; each reply is one line."""
        answer = b""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(seconds)
            probe.connect(self._socket)
            probe.sendall(f"AUTH {user} {auth}\r\n{command}\r\n".encode())
            while answer.count(b"\r\n") < 2 and (piece := probe.recv(256)):
                answer += piece
        return answer

    def _close_and_raise(self, problem: str) -> NoReturn:
        output = self._close_and_read_output()
        last_lines = "\n".join(f"  {line}" for line in output.splitlines()[-6:])
        raise StoreUnavailable(
            f"the private server {self._binary} {problem}. The end of its output:\n{last_lines}"
        )

    def _close_and_read_output(self) -> str:
        """End the server, once, and return the end of its output; "" if it was closed before."""
        try:
            _open_servers.remove(self)  # Atomic: of several threads one goes on.
        except KeyError:
            return ""
        try:
            output, _ = self._keeper.communicate(timeout=keeper_script.STOP_GRACE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            output, _ = self._keeper.communicate()
        # The keeper has done so, unless it was killed.
        shutil.rmtree(self._directory, ignore_errors=True)
        return output.decode(errors="replace").strip()

    def detach_in_child(self) -> None:
        """Let go of the server in a forked child, because it is the parent's."""
        for resource in (self._keeper.stdin, self._keeper.stdout, self._early_listener):
            if resource is not None:
                resource.close()


def _make_directory() -> str:
    """Make a directory for this user alone, whose path is short enough for a socket in it."""
    parent = str(Path(tempfile.gettempdir()).absolute())
    if len(os.fsencode(parent)) + len("/redismr-12345678/s") > MAX_SOCKET_PATH_BYTES:
        parent = "/tmp"  # noqa: S108 - the directory in it is made by mkdtemp
    return tempfile.mkdtemp(prefix="redismr-", dir=parent)


def _server_configuration(
    socket_path: str, bind: str | None, users: str, maxmemory: int | None
) -> str:
    """Return a configuration with a unix socket, these users, and nothing kept on disk.

    A TCP port, with ``bind``, stays closed at first. ``maxmemory`` None is half of the memory.
    """
    return (
        ("" if bind is None else f"bind {bind or '*'}\n")
        + "port 0\n"  # the early listener has the port until PrivateServer.listen
        "protected-mode no\n"  # It would refuse everybody else: there is no default user.
        f"unixsocket {_quoted_word(socket_path)}\n"
        "unixsocketperm 600\n"
        f"dir {_quoted_word(os.path.dirname(socket_path))}\n"
        'save ""\n'
        "appendonly no\n"
        f"maxmemory {_half_the_memory() if maxmemory is None else maxmemory}\n"
        "maxmemory-policy noeviction\n"
        # Measured: the expiry of a hash of a million fields stalls the server for 240 ms.
        "lazyfree-lazy-expire yes\n"
        "lazyfree-lazy-user-del yes\n"
        # SIGTERM is noticed at the next tick: 20 ms instead of 100, for 0.2 % of a core.
        "hz 50\n"
        "loglevel warning\n" + users
    )


def _quoted_word(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _half_the_memory() -> int:
    """Return half the memory of the machine or container, so that a full server does not swap."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # Not in a container, or "max".
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory // 2


@atexit.register
def _close_open_servers() -> None:
    for server in list(_open_servers):
        server.close()


def _detach_open_servers() -> None:
    for server in _open_servers:
        server.detach_in_child()
    _open_servers.clear()


if hasattr(os, "register_at_fork"):
    # A forked child has a copy of the pipe. If the child kept it open, the server would outlive
    # this process; and the exit handlers of the child must not end the parent's server.
    os.register_at_fork(after_in_child=_detach_open_servers)
