"""The fork's daemons: a server or client in a thread of its own, with a state to ask for.

Heartbeats are here for their names: leases tell of lost workers, and a client notices within
seconds that its server is gone, so ``allowed`` means nothing, and ``interval`` only that pings
are sent.
"""

from __future__ import annotations

import threading
from collections.abc import MutableSequence
from typing import Any

from redismr.compat import timers
from redismr.compat.threaded import Server
from redismr.compat.worker import Client


class Server_HB(Server):  # noqa: N801  the fork's names, to the end of this module
    """A server with heartbeats: any server is."""


class Client_HB(Client):  # noqa: N801
    """A client with heartbeats: any client is."""


class Mincemeat_daemon(threading.Thread):  # noqa: N801
    """Runs an endpoint, and whatever shares its map, until all of them have ended.

    ``map``, ``schedule`` and ``shuttout`` go to the endpoint's class; ``options`` to ``process``.
    """

    def __init__(
        self,
        credentials: dict[str, Any],
        cls: type[Any],
        map: dict[int, Any] | None = None,  # noqa: A002  the fork's word
        schedule: MutableSequence[timers.Timer] | None = None,
        shuttout: float | None = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(daemon=True)
        self._options, self._stopped, self._failed = options, False, ""
        endpoint_map = {} if map is None else map
        self.endpoint = cls(map=endpoint_map, schedule=schedule, shuttout=shuttout)
        self.endpoint.conn(**{**credentials, "asynchronous": True})

    def run(self) -> None:
        """``process``, and what came of it."""
        try:
            self.process(**self._options)
        except Exception as exc:  # noqa: BLE001  it is the daemon's state from now on
            self._failed = f"{type(exc).__name__}: {exc}"
            self.endpoint.close()

    def process(self, **options: Any) -> None:
        """All that the thread does; a subclass takes options of its own out of them.

        With ``timeout=``, ``self.timeout`` is called at once, then at least that often.
        """
        self.endpoint.starting(**options)
        call_every = options.get("timeout")
        until_next = None if call_every is None else 0.0
        while self.endpoint.process(timeout=until_next):
            until_next = timers.minimum_time(call_every, self.timeout())
        self.endpoint.stopping()

    def name(self, *names: Any) -> str:  # type: ignore[override]  # a method, as the fork has it
        """What runs in it."""
        return str(self.endpoint.name(*names))

    def timeout(self) -> float | None:
        """Called regularly; after how many seconds to call it again, if that is sooner.

        For subclasses; this one asks the endpoint's.
        """
        wanted_seconds: float | None = self.endpoint.timeout()
        return wanted_seconds

    def state(self) -> str:
        """idle, processing, authenticated, success, or "failed: " and why."""
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
        """End it, and wait for that up to ``timeout`` seconds."""
        self._stopped = not self.endpoint.ended()
        self.endpoint.handle_close()
        self.endpoint.ended(timeout)
        if self.is_alive():
            self.join(timeout)


class Server_daemon(Mincemeat_daemon):  # noqa: N801
    """A server in a thread.

    Raises:
        OSError: its port is taken: somebody else is the server.
    """

    def __init__(
        self, credentials: dict[str, Any], cls: type[Any] = Server, **options: Any
    ) -> None:
        super().__init__(credentials, cls, **options)


class Client_daemon(Mincemeat_daemon):  # noqa: N801
    """A client in a thread. A server that is not there is its state, ``failed: ...``."""

    def __init__(
        self, credentials: dict[str, Any], cls: type[Any] = Client, **options: Any
    ) -> None:
        super().__init__(credentials, cls, **options)


class Server_HB_daemon(Server_daemon):  # noqa: N801
    """The same, and pings: see the module."""

    def __init__(
        self, credentials: dict[str, Any], cls: type[Any] = Server_HB, *, interval: float = 7.0,
        allowed: float = 15.0, timeout: float = 999.0, **options: Any,
    ) -> None:  # fmt: skip
        options |= {"interval": interval, "allowed": allowed, "timeout": timeout}
        super().__init__(credentials, cls, **options)


class Client_HB_daemon(Client_daemon):  # noqa: N801
    """The same, and pings: see the module."""

    def __init__(
        self, credentials: dict[str, Any], cls: type[Any] = Client_HB, *, interval: float = 27.0,
        allowed: float = 60.0, timeout: float = 999.0, **options: Any,
    ) -> None:  # fmt: skip
        options |= {"interval": interval, "allowed": allowed, "timeout": timeout}
        super().__init__(credentials, cls, **options)
