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

from redismr import streams
from redismr.confidential import Confined, confide
from redismr.config import MAX_PORT, Connection, text, whole
from redismr.errors import ConfigError, StoreUnavailable
from redismr.guessing import LEAST, why_guessable
from redismr.processes import refuse_so_deep, refuse_while_loading
from redismr.server import keeper as keeper_module
from redismr.server.access import (
    KEEPER,
    USER,
    Credentials,
    derived_credentials,
    is_loopback,
    keeper_rules,
    random_credentials,
    tcp_url,
    user_rules,
)
from redismr.server.binary import find_binary
from redismr.server.door import Door, raise_for
from redismr.settings import namespace_of, written

if TYPE_CHECKING:
    from types import TracebackType

MAX_HOST = 255
_PORT = whole(0, MAX_PORT, f"a whole number (int) between 0 (any free port) and {MAX_PORT}")
_MAXMEMORY = whole(0, 1 << 62, "a whole number (int) of bytes, 0 for no limit")
POLL_SECONDS = 0.002
READY_SECONDS = 10.0
SOCKET_PATH_LIMIT = 103
"""Bytes of a unix socket's path on macOS; Linux takes four more."""


_running: set[PrivateServer] = set()
"""The servers of this process that are not closed."""


class PrivateServer(Confined):
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
        door: Door | None,
        maxmemory: int | None,
    ) -> None:
        self._binary = binary
        self._credentials = credentials
        self._keeper_auth = secrets.token_hex(32)
        confide(self._keeper_auth, private=True)
        self._door = door
        self._directory = _short_directory()
        self._socket = f"{self._directory}/s"
        self.url = f"unix://{USER}:{credentials.auth}@{quote(self._socket)}?db=0"
        self.connection = Connection(
            url=self.url, secret=credentials.secret, namespace=namespace, embedded=True
        )
        try:
            self._keeper = self._spawn(self._configuration(maxmemory))
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        _running.add(self)

    def ready(self, deadline: float = READY_SECONDS) -> None:
        """Return when the server answers; what ``start(wait=False)`` left out.

        Raises:
            OSError, StoreUnavailable: as ``start``; the server is closed then.
        """
        try:
            self._wait(deadline)
            if self._door:
                self._door.shut()
                self.listen()
                self._door.let_through(self._socket)
        except BaseException:
            self.close()
            raise

    @property
    def port(self) -> int | None:
        """The TCP port, where the server has one."""
        return self._door.port if self._door else None

    def listen(self, *, on: bool = True) -> None:
        """Have the TCP port listen, or not; who is connected stays so.

        Raises:
            OSError: EADDRINUSE, the port was taken meanwhile. StoreUnavailable: the server ended.
        """
        assert self._door is not None
        try:
            port = self._door.port if on else 0
            said = self._ask(KEEPER, self._keeper_auth, f"CONFIG SET port {port}", READY_SECONDS)
        except OSError as exc:
            raise StoreUnavailable(f"{self!r} does not answer any more") from exc
        if not said.endswith(b"+OK\r\n"):
            raise_for(errno.EADDRINUSE, self._door.bind, self._door.port)

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return self in _running and self._keeper.poll() is None

    def url_for(self, host: str) -> str:
        """The URL, password included, for a machine that calls this one ``host``."""
        if self._door is None:
            raise ConfigError("this private server has no TCP port; serve() opens one")
        return tcp_url(host, self._door.port, self._credentials.auth)

    def close(self) -> None:
        """End the server and remove its directory. Safe to call again."""
        self._end()

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
        where = f"{self._door.bind or '*'}:{self._door.port}" if self._door else self._socket
        return f"<PrivateServer {self._binary.name} at {where}>"

    def _configuration(self, maxmemory: int | None) -> str:
        bind = f"bind {self._door.bind or '*'}\n" if self._door else ""
        return (
            f"{bind}port 0\n"  # the door's until ``listen``
            "protected-mode no\n"  # It would lock out everybody else: there is no default user.
            f"unixsocket {_quoted(self._socket)}\n"
            "unixsocketperm 600\n"
            f"dir {_quoted(self._directory)}\n"
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
            + user_rules(self._credentials.auth, self.connection.namespace)
            + (keeper_rules(self._keeper_auth) if self._door else "")
        )

    def _spawn(self, configuration: str) -> subprocess.Popen[bytes]:
        """Start the keeper, and hand it the configuration."""
        streams.fill()
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", keeper_module.__file__, self._binary, self._directory],
            stdin=subprocess.PIPE,  # Not inheritable: no other child of ours holds it open.
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            cwd="/",
            env={k: v for k, v in os.environ.items() if not k.startswith("REDISMR_")},
            start_new_session=True,
        )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # It died at once: _wait says what it said.
            process.stdin.write(os.fsencode(configuration) + b"\0")
        return process

    def _wait(self, seconds: float) -> None:
        """Return when the server answers PING."""
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self._keeper.poll() is not None:
                self._fail("did not start")
            if time.monotonic() > deadline:
                self._fail(f"did not answer within {seconds:g} s")
            time.sleep(POLL_SECONDS)

    def _answers(self) -> bool:
        """Whether it is our server and lets us in. Without redis-py: importing it costs 0.1 s."""
        with contextlib.suppress(OSError):
            return self._ask(USER, self._credentials.auth, "PING").endswith(b"+PONG\r\n")
        return False

    def _ask(self, user: str, auth: str, command: str, seconds: float = 1) -> bytes:
        """What it says to a user's AUTH and command, a line each, in so many seconds."""
        answer = b""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(seconds)
            probe.connect(self._socket)
            probe.sendall(f"AUTH {user} {auth}\r\n{command}\r\n".encode())
            while answer.count(b"\r\n") < 2 and (piece := probe.recv(256)):
                answer += piece
        return answer

    def _fail(self, what: str) -> NoReturn:
        """Raise StoreUnavailable with the server's own words."""
        said = self._end()
        tail = "\n".join(f"  {line}" for line in said.splitlines()[-6:])
        raise StoreUnavailable(f"the private server {self._binary} {what}. It said:\n{tail}")

    def _end(self) -> str:
        """End the server, once; what it said last."""
        try:
            _running.remove(self)  # Atomic: one caller goes on.
        except KeyError:
            return ""
        try:
            said, _ = self._keeper.communicate(timeout=keeper_module.GRACE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self._keeper.kill()
            said, _ = self._keeper.communicate()
        # Only where the keeper could not: it was killed, say.
        shutil.rmtree(self._directory, ignore_errors=True)
        return said.decode(errors="replace").strip()

    def disown(self) -> None:
        """In a forked child: the server is the parent's."""
        for pipe in (self._keeper.stdin, self._keeper.stdout):
            if pipe is not None:
                pipe.close()
        if self._door:
            self._door.forget()


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
    refuse_so_deep()
    if maxmemory is not None:
        maxmemory = _MAXMEMORY.check("maxmemory", maxmemory)
    # First of all: scrypt and the server's start take time, and clients may come at once.
    door = None if bind is None and port is None else Door(*_address(bind, port))
    try:
        server = PrivateServer(
            binary=find_binary(),
            credentials=random_credentials() if password is None else derived_credentials(password),
            namespace=namespace_of(namespace),
            door=door,
            maxmemory=maxmemory,
        )
        if wait:
            server.ready(deadline)
    except BaseException:
        if door:
            door.forget()
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
        written("the password", password)
    why = "" if password is None or is_loopback(bind) else why_guessable(password)
    if why:
        raise ConfigError(
            f"the password for {bind or 'all addresses'} {why}. It must have at least {LEAST} "
            "characters that nobody guesses: who does runs code on every worker. "
            "`redismr secret` makes one; other ones are for 127.0.0.1"
        )
    return start(bind=bind, port=port, password=password, namespace=namespace, maxmemory=maxmemory)


def _address(bind: str | None, port: int | None) -> tuple[str, int]:
    """The address, "" for all. Checked: it becomes a line of configuration."""
    host = "127.0.0.1" if bind is None else bind
    if not re.fullmatch(r"[A-Za-z0-9_.:%-]*", text(MAX_HOST).check("bind", host)):
        raise ConfigError(f"cannot bind to {host!r}: not a host name or address")
    return host, 0 if port is None else _PORT.check("port", port)


def _short_directory() -> str:
    """A new directory for us alone, with a path short enough for a socket in it."""
    parent = str(Path(tempfile.gettempdir()).absolute())
    if len(os.fsencode(parent)) + len("/redismr-12345678/s") > SOCKET_PATH_LIMIT:
        parent = "/tmp"  # noqa: S108 - the directory in it is made by mkdtemp
    return tempfile.mkdtemp(prefix="redismr-", dir=parent)


def _quoted(text: str) -> str:
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
    for server in list(_running):
        server.close()


def _disown_all() -> None:
    for server in _running:
        server.disown()
    _running.clear()


if hasattr(os, "register_at_fork"):
    # A forked child has a copy of the pipe: kept open, it would keep the server beyond our death;
    # and what the child closes at its exit must not end the parent's server.
    os.register_at_fork(after_in_child=_disown_all)
