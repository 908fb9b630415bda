"""A private server as an object: it answers when you have it, and ends with you.

The server belongs to a keeper process (``keeper.py``), so that neither a kill -9 of this process
nor Ctrl-C nor the end of the thread that asked for it leaves a server behind or takes it away.

Measured on two cores, medians of 15: from the call to the first PING 50 ms with Valkey 9.1 and
23 ms with Redis 7.0, of which the keeper is 12; ``close`` 18 ms. Valkey sleeps for 30 of its 37 ms
to calibrate its clock, and no setting prevents that.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self
from urllib.parse import quote

from redismr import standard_streams
from redismr.confidential import Unpicklable, remember_secrets
from redismr.config import MAX_PORT, Connection, int_rule, text_rule
from redismr.errors import ConfigError, StoreUnavailable
from redismr.process_guards import refuse_too_deep, refuse_while_loading
from redismr.server import keeper as keeper_script
from redismr.server.binary import find_binary
from redismr.server.credentials import (
    JOIN_USER,
    KEEPER_USER,
    Credentials,
    derived_credentials,
    is_loopback,
    keeper_acl,
    random_credentials,
    tcp_url,
    user_acl,
)
from redismr.server.early_listener import EarlyListener, raise_address_error
from redismr.settings import check_text, resolve_namespace
from redismr.weak_secrets import MIN_SECRET_LENGTH, weakness_of

if TYPE_CHECKING:
    from types import TracebackType

MAX_HOST_CHARACTERS = 255
_PORT_RULE = int_rule(0, MAX_PORT, f"a whole number (int) between 0 (any free port) and {MAX_PORT}")
_MAXMEMORY_RULE = int_rule(0, 1 << 62, "a whole number (int) of bytes, 0 for no limit")
READY_POLL_SECONDS = 0.002
READY_SECONDS = 10.0
MAX_SOCKET_PATH_BYTES = 103
"""Bytes of a unix socket's path on macOS; Linux takes four more."""


_open_servers: set[PrivateServer] = set()
"""The servers of this process that are not closed."""


class PrivateServer(Unpicklable):
    """A running server that answered PING; use ``start`` or ``serve`` to get one.

    It lives until ``close``, the end of the ``with`` block or the end of this process, however that
    comes. A forked child may use ``connection`` but does not own the server. Nothing is kept on
    disk: the data has no meaning without the process that dies with it.
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
        self._directory = _short_directory()
        self._socket = f"{self._directory}/s"
        self.url = f"unix://{JOIN_USER}:{credentials.auth}@{quote(self._socket)}?db=0"
        self.connection = Connection(
            url=self.url, secret=credentials.secret, namespace=namespace, embedded=True
        )
        try:
            self._keeper = self._start_keeper(self._configuration(maxmemory))
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        _open_servers.add(self)

    def ready(self, deadline: float = READY_SECONDS) -> None:
        """Return when the server answers; what ``start(wait=False)`` left out.

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
        """The TCP port, where the server has one."""
        return self._early_listener.port if self._early_listener else None

    def listen(self, *, on: bool = True) -> None:
        """Have the TCP port listen, or not; who is connected stays so.

        Raises:
            OSError: EADDRINUSE, the port was taken meanwhile. StoreUnavailable: the server ended.
        """
        assert self._early_listener is not None
        try:
            port = self._early_listener.port if on else 0
            reply = self._run_as_user(
                KEEPER_USER, self._keeper_auth, f"CONFIG SET port {port}", READY_SECONDS
            )
        except OSError as exc:
            raise StoreUnavailable(f"{self!r} does not answer any more") from exc
        if not reply.endswith(b"+OK\r\n"):
            raise_address_error(
                errno.EADDRINUSE, self._early_listener.bind, self._early_listener.port
            )

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return self in _open_servers and self._keeper.poll() is None

    def url_for(self, host: str) -> str:
        """The URL, password included, for a machine that calls this one ``host``."""
        if self._early_listener is None:
            raise ConfigError("this private server has no TCP port; serve() opens one")
        return tcp_url(host, self._early_listener.port, self._credentials.auth)

    def close(self) -> None:
        """End the server and remove its directory. Safe to call again."""
        self._close_and_read_output()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        where = (
            f"{self._early_listener.bind or '*'}:{self._early_listener.port}"
            if self._early_listener
            else self._socket
        )
        return f"<PrivateServer {self._binary.name} at {where}>"

    def _configuration(self, maxmemory: int | None) -> str:
        bind = f"bind {self._early_listener.bind or '*'}\n" if self._early_listener else ""
        return (
            f"{bind}port 0\n"  # the early listener's until ``listen``
            "protected-mode no\n"  # It would lock out everybody else: there is no default user.
            f"unixsocket {_quoted_word(self._socket)}\n"
            "unixsocketperm 600\n"
            f"dir {_quoted_word(self._directory)}\n"
            'save ""\n'
            "appendonly no\n"
            f"maxmemory {_half_the_memory() if maxmemory is None else maxmemory}\n"
            "maxmemory-policy noeviction\n"
            # Measured: the expiry of a hash of a million fields stalls the server for 240 ms.
            "lazyfree-lazy-expire yes\n"
            "lazyfree-lazy-user-del yes\n"
            # SIGTERM is noticed at the next tick: 20 ms instead of 100, for 0.2 % of a core.
            "hz 50\n"
            "loglevel warning\n"
            + user_acl(self._credentials.auth, self.connection.namespace)
            + (keeper_acl(self._keeper_auth) if self._early_listener else "")
        )

    def _start_keeper(self, configuration: str) -> subprocess.Popen[bytes]:
        """Start the keeper, and hand it the configuration."""
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
        with contextlib.suppress(
            BrokenPipeError
        ):  # It died at once: _wait_for_ping says what it said.
            process.stdin.write(os.fsencode(configuration) + b"\0")
        return process

    def _wait_for_ping(self, seconds: float) -> None:
        """Return when the server answers PING."""
        deadline = time.monotonic() + seconds
        while not self._is_answering():
            if self._keeper.poll() is not None:
                self._close_and_raise("did not start")
            if time.monotonic() > deadline:
                self._close_and_raise(f"did not answer within {seconds:g} s")
            time.sleep(READY_POLL_SECONDS)

    def _is_answering(self) -> bool:
        """Whether it is our server and lets us in. Without redis-py: importing it costs 0.1 s."""
        with contextlib.suppress(OSError):
            return self._run_as_user(JOIN_USER, self._credentials.auth, "PING").endswith(
                b"+PONG\r\n"
            )
        return False

    def _run_as_user(self, user: str, auth: str, command: str, seconds: float = 1) -> bytes:
        """What it says to a user's AUTH and command, a line each, in so many seconds."""
        answer = b""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(seconds)
            probe.connect(self._socket)
            probe.sendall(f"AUTH {user} {auth}\r\n{command}\r\n".encode())
            while answer.count(b"\r\n") < 2 and (piece := probe.recv(256)):
                answer += piece
        return answer

    def _close_and_raise(self, problem: str) -> NoReturn:
        """Raise StoreUnavailable with the server's own words."""
        output = self._close_and_read_output()
        last_lines = "\n".join(f"  {line}" for line in output.splitlines()[-6:])
        raise StoreUnavailable(
            f"the private server {self._binary} {problem}. It said:\n{last_lines}"
        )

    def _close_and_read_output(self) -> str:
        """End the server, once; what it said last."""
        try:
            _open_servers.remove(self)  # Atomic: one caller goes on.
        except KeyError:
            return ""
        try:
            output, _ = self._keeper.communicate(timeout=keeper_script.STOP_GRACE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            output, _ = self._keeper.communicate()
        # Only where the keeper could not: it was killed, say.
        shutil.rmtree(self._directory, ignore_errors=True)
        return output.decode(errors="replace").strip()

    def detach_in_child(self) -> None:
        """In a forked child: the server is the parent's."""
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                pipe.close()
        if self._early_listener:
            self._early_listener.close()


def start(
    *,
    bind: str | None = None,
    port: int | None = None,
    password: str | None = None,
    namespace: str | None = None,
    maxmemory: int | None = None,
    deadline: float = READY_SECONDS,
    wait: bool = True,
) -> PrivateServer:
    """A server on a unix socket that only this user can open; on TCP too if a port is given.

    Args:
        bind: the address for TCP; "" for all.
        port: the port for TCP; 0 picks a free one.
        password: what ``join`` derives the secrets from on other machines; None: random secrets.
        namespace: the prefix of the keys and channels that the server's user may touch.
        maxmemory: bytes; by default half of the machine's memory.
        deadline: seconds within which the server must answer.
        wait: False returns at once; ``ready`` has to be called before the server is used.

    Raises:
        ConfigError: there is no server binary, or the address is none.
        RunawayJob: a worker is loading the module that asks for it, or it is too far below others.
        OSError: the address is taken (EADDRINUSE) or not to be had.
        StoreUnavailable: the server did not start; the text holds what it said.
    """
    refuse_while_loading()
    refuse_too_deep()
    if maxmemory is not None:
        maxmemory = _MAXMEMORY_RULE.check("maxmemory", maxmemory)
    # First of all: scrypt and the server's start take time, and clients may come at once.
    early_listener = (
        None if bind is None and port is None else EarlyListener(*_checked_address(bind, port))
    )
    try:
        server = PrivateServer(
            binary=find_binary(),
            credentials=random_credentials() if password is None else derived_credentials(password),
            namespace=resolve_namespace(namespace),
            early_listener=early_listener,
            maxmemory=maxmemory,
        )
        if wait:
            server.ready(deadline)
    except BaseException:
        if early_listener:
            early_listener.close()
        raise
    return server


def serve(
    bind: str = "127.0.0.1",
    port: int = 0,
    password: str | None = None,
    *,
    namespace: str | None = None,
    maxmemory: int | None = None,
) -> PrivateServer:
    """A private server that others may join, until this process ends.

    They join with ``url_for(host)`` and ``connection.secret`` as REDISMR_URL and REDISMR_SECRET, or
    with ``redismr.server.join(host, port, password)``. There is no TLS: who reads the wire reads
    the data, but runs nothing.

    Raises:
        ConfigError: the password can be guessed, at an address that others can reach.
        OSError: as ``start``, errno EADDRINUSE when the port is taken.
        StoreUnavailable: as ``start``.
    """
    if password is not None:
        check_text("the password", password)
    weakness = "" if password is None or is_loopback(bind) else weakness_of(password)
    if weakness:
        raise ConfigError(
            f"the password for {bind or 'all addresses'} {weakness}. It must have at least {MIN_SECRET_LENGTH} "  # noqa: E501
            "characters that nobody guesses: who does runs code on every worker. "
            "`redismr secret` makes one; other ones are for 127.0.0.1"
        )
    return start(bind=bind, port=port, password=password, namespace=namespace, maxmemory=maxmemory)


def _checked_address(bind: str | None, port: int | None) -> tuple[str, int]:
    """The address, "" for all. Checked: it becomes a line of configuration."""
    host = "127.0.0.1" if bind is None else bind
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]*", text_rule(MAX_HOST_CHARACTERS).check("bind", host)):
        raise ConfigError(f"cannot bind to {host!r}: not a host name or address")
    return host, 0 if port is None else _PORT_RULE.check("port", port)


def _short_directory() -> str:
    """A new directory for us alone, with a path short enough for a socket in it."""
    parent = str(Path(tempfile.gettempdir()).absolute())
    if len(os.fsencode(parent)) + len("/redismr-12345678/s") > MAX_SOCKET_PATH_BYTES:
        parent = "/tmp"  # noqa: S108 - the directory in it is made by mkdtemp
    return tempfile.mkdtemp(prefix="redismr-", dir=parent)


def _quoted_word(text: str) -> str:
    """A word of the server's configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _half_the_memory() -> int:
    """Half of what the machine or the container has, so that a full server errs before it swaps."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # Not in a container, or "max".
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory // 2


@atexit.register
def _close_all() -> None:
    for server in list(_open_servers):
        server.close()


def _detach_all_in_child() -> None:
    for server in _open_servers:
        server.detach_in_child()
    _open_servers.clear()


if hasattr(os, "register_at_fork"):
    # A forked child has a copy of the pipe: kept open, it would keep the server beyond our death;
    # and what the child closes at its exit must not end the parent's server.
    os.register_at_fork(after_in_child=_detach_all_in_child)
