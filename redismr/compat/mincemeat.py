"""mincemeat.py, and its forks, on redismr: ``from redismr.compat import mincemeat``.

Scripts written for them run unchanged: ``Server`` listens on a port of its own, ``Client`` and
``python -m redismr.compat.mincemeat -p PASSWORD HOST`` work for a server. Faults of the originals
are gone: errors reach the server, nothing is lost or doubled, and functions see what they use. A
file ``mincemeat.py`` beside a script may hold just ``from redismr.compat.mincemeat import *``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, MutableSequence
from typing import Any, ClassVar

from redismr.compat import timers
from redismr.compat.client_main import MINCEMEAT_VERSION as VERSION
from redismr.compat.client_main import run_client
from redismr.compat.doorway import use_safe_streams
from redismr.compat.hosting import MINCEMEAT_PORT as DEFAULT_PORT
from redismr.compat.job_functions import applyover, generator
from redismr.compat.mincemeat_globals import MincemeatGlobals
from redismr.compat.server import Server
from redismr.compat.timers import (
    close_all,
    minimum_time,
    next_future_time,
    process,
    schedule,
    timer,
    trigger,
)
from redismr.compat.transactions import TaskManager
from redismr.compat.user_commands import Channel as ServerChannel
from redismr.compat.user_commands import CommandBus as Protocol
from redismr.compat.worker import Client

__all__ = [
    "DEFAULT_PORT",
    "VERSION",
    "Client",
    "Client_HB",
    "Client_HB_daemon",
    "Client_daemon",
    "Mincemeat_daemon",
    "Protocol",
    "Server",
    "ServerChannel",
    "Server_HB",
    "Server_HB_daemon",
    "Server_daemon",
    "TaskManager",
    "applyover",
    "close_all",
    "generator",
    "logging",
    "minimum_time",
    "next_future_time",
    "process",
    "run_client",
    "schedule",
    "timer",
    "trigger",
]

Server.initfn_class = MincemeatGlobals


class Server_HB(Server):  # noqa: N801  the names of the fork, here and below
    """A server with heartbeats: the same as any server. Leases tell of lost workers."""


class Client_HB(Client):  # noqa: N801
    """A client with heartbeats: the same as any client, which notices the end of its server."""


class Mincemeat_daemon(threading.Thread):  # noqa: N801
    """Runs an endpoint, and all others in the endpoint's map, until all of them have ended.

    The endpoint's class gets ``map``, ``schedule`` and ``shuttout``; ``process`` gets ``options``.
    """

    default_class: type[Any] = Server
    default_options: ClassVar[Mapping[str, float]] = {}

    def __init__(
        self,
        credentials: dict[str, Any],
        cls: type[Any] | None = None,
        map: dict[int, Any] | None = None,  # noqa: A002  the name in the fork
        schedule: MutableSequence[timers.Timer] | None = None,
        shuttout: float | None = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(daemon=True)
        self._options = {**self.default_options, **options}
        self._stopped, self._failed = False, ""
        self.endpoint = (cls or self.default_class)(
            map={} if map is None else map, schedule=schedule, shuttout=shuttout
        )
        self.endpoint.conn(**{**credentials, "asynchronous": True})

    def run(self) -> None:
        """Call ``process``; an error becomes the daemon's state."""
        try:
            self.process(**self._options)
        except Exception as exc:  # noqa: BLE001  the error becomes the state
            self._failed = f"{type(exc).__name__}: {exc}"
            self.endpoint.close()

    def process(self, **options: Any) -> None:
        """Run the endpoint; a subclass takes options of its own out of ``options``.

        With ``timeout=``, ``self.timeout`` is called at once, then at least that often.
        """
        self.endpoint.starting(**options)
        call_every = options.get("timeout")
        until_next = None if call_every is None else 0.0
        while self.endpoint.process(timeout=until_next):
            until_next = timers.minimum_time(call_every, self.timeout())
        self.endpoint.stopping()

    def name(self, *names: Any) -> str:  # type: ignore[override]  # a method, as the fork has it
        """Return the name of the endpoint."""
        return str(self.endpoint.name(*names))

    def timeout(self) -> float | None:
        """Return after how many seconds to call this again, if sooner than the option says."""
        return self.endpoint.timeout()  # type: ignore[no-any-return]

    def state(self) -> str:
        """Return "idle", "processing", "authenticated", "success", or "failed: ..." and why."""
        error = self.endpoint.error
        if self._failed or error is not None:
            return f"failed: {self._failed or error}"
        if self.endpoint.ended():
            done = self.endpoint.finished() and self.endpoint.authenticated()
            return "success" if done and not self._stopped else "failed: incomplete"
        if not self.is_alive():
            return "idle"
        return "authenticated" if self.endpoint.authenticated() else "processing"

    def stop(self, timeout: float | None = 5.0) -> None:
        """End the endpoint, and wait up to ``timeout`` seconds for its end."""
        self._stopped = not self.endpoint.ended()
        self.endpoint.handle_close()
        self.endpoint.ended(timeout)
        if self.is_alive():
            self.join(timeout)


class Server_daemon(Mincemeat_daemon):  # noqa: N801
    """A server in a thread.

    Raises:
        OSError: the port is taken, so another process is the server.
    """

    default_class = Server


class Client_daemon(Mincemeat_daemon):  # noqa: N801
    """A client in a thread. If there is no server, its state is "failed: ..."."""

    default_class = Client


class Server_HB_daemon(Server_daemon):  # noqa: N801
    """A server in a thread that pings every ``interval`` seconds; ``allowed`` means nothing."""

    default_class = Server_HB
    default_options: ClassVar = {"interval": 7.0, "allowed": 15.0, "timeout": 999.0}


class Client_HB_daemon(Client_daemon):  # noqa: N801
    """A client in a thread that pings every ``interval`` seconds; ``allowed`` means nothing."""

    default_class = Client_HB
    default_options: ClassVar = {"interval": 27.0, "allowed": 60.0, "timeout": 999.0}


if __name__ == "__main__":
    use_safe_streams(strict=True)
    run_client()
