"""The fork's daemons: a server or client in a thread of its own, with a state to ask for.

Heartbeats are here for their names: leases tell of lost workers, and a client notices within
seconds that its server is gone, so ``interval`` and ``allowed`` mean nothing.
"""

from __future__ import annotations

import threading
from typing import Any

from redismr.compat import timers
from redismr.compat.server import Server
from redismr.compat.worker import Client


class Server_HB(Server):  # noqa: N801  the fork's names, to the end of this module
    """A server with heartbeats: any server is."""


class Client_HB(Client):  # noqa: N801
    """A client with heartbeats: any client is."""


class _Daemon(threading.Thread):
    """Runs an endpoint until it ends; ``timeout`` is called at least that often meanwhile."""

    cls: type[Any]

    def __init__(
        self,
        credentials: dict[str, Any],
        cls: type[Any] | None = None,
        timeout: float = 999.0,
        **options: Any,
    ) -> None:
        super().__init__(daemon=True)
        self._every, self._options = timeout, options
        self._stopped, self._failed = False, ""
        self.endpoint = (cls or self.cls)(map={})
        self.endpoint.conn(**{**credentials, "asynchronous": True})

    def run(self) -> None:
        """Serve until the end; the endpoint's own hooks are called if it has them."""
        try:
            self._hook("starting", **self._options)
            due = timers.timer() + self._every
            while not self.endpoint.ended():
                self.endpoint.process(max(0.0, due - timers.timer()))
                if timers.timer() >= due:
                    due = timers.timer() + self._every
                    self._hook("health")
                    self._hook("timeout")
                    self.timeout()
        except Exception as exc:  # noqa: BLE001  it is the daemon's state from now on
            self._failed = f"{type(exc).__name__}: {exc}"
            self.endpoint.close()
        finally:
            self._hook("stopping")

    def name(self) -> str:  # type: ignore[override]  # a method, as the fork has it
        """What runs in it."""
        return f"{type(self.endpoint).__name__}-{id(self):x}"

    def timeout(self) -> None:
        """Called regularly. For subclasses."""

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
        self.endpoint.close()
        self.endpoint.ended(timeout)
        if self.is_alive():
            self.join(timeout)

    def _hook(self, name: str, **options: Any) -> None:
        hook = getattr(self.endpoint, name, None)
        if hook:
            hook(**options)


class Server_daemon(_Daemon):  # noqa: N801
    """A server in a thread.

    Raises:
        OSError: its port is taken: somebody else is the server.
    """

    cls = Server


class Client_daemon(_Daemon):  # noqa: N801
    """A client in a thread. A server that is not there is its state, ``failed: ...``."""

    cls = Client


class Server_HB_daemon(Server_daemon):  # noqa: N801
    """The same: see the module."""

    cls = Server_HB


class Client_HB_daemon(Client_daemon):  # noqa: N801
    """The same: see the module."""

    cls = Client_HB
