"""The daemons of the fork: a server or a client in a thread of its own, with a state.

The classes with heartbeats exist for their names only. Leases tell of lost workers, and a client
notices within seconds that its server has ended. So ``allowed`` means nothing, and ``interval``
means only that pings are sent.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, MutableSequence
from typing import Any, ClassVar

from redismr.compat import timers
from redismr.compat.threaded import Server
from redismr.compat.worker import Client


class Server_HB(Server):  # noqa: N801  the names of the fork, here and below
    """A server with heartbeats: the same as any server."""


class Client_HB(Client):  # noqa: N801
    """A client with heartbeats: the same as any client."""


class Mincemeat_daemon(threading.Thread):  # noqa: N801
    """Runs an endpoint, and all others in the endpoint's map, until all of them have ended.

    ``map``, ``schedule`` and ``shuttout`` are passed to the endpoint's class, ``options`` to
    ``process``.
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
        endpoint_map = {} if map is None else map
        make_endpoint = cls or self.default_class
        self.endpoint = make_endpoint(map=endpoint_map, schedule=schedule, shuttout=shuttout)
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
        """Return after how many seconds to call this again, if that is sooner than the option says.

        Called regularly, for subclasses. This method asks the endpoint's ``timeout``.
        """
        wanted_seconds: float | None = self.endpoint.timeout()
        return wanted_seconds

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
    """A server in a thread that sends pings; see the module about heartbeats."""

    default_class = Server_HB
    default_options: ClassVar = {"interval": 7.0, "allowed": 15.0, "timeout": 999.0}


class Client_HB_daemon(Client_daemon):  # noqa: N801
    """A client in a thread that sends pings; see the module about heartbeats."""

    default_class = Client_HB
    default_options: ClassVar = {"interval": 27.0, "allowed": 60.0, "timeout": 999.0}
