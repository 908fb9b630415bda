"""``Server`` as a script uses it, with the additions of mikyt's fork.

That fork runs a server in a thread, for one datasource after another. Workers stay connected in
between.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from concurrent.futures import Future, wait
from typing import Any

from redismr.compat import server
from redismr.compat.timers import Timer
from redismr.compat.transactions import TaskManager

_OUTCOME_POLL_SECONDS = 0.5


class Server(server.Server):
    """A server with the interface of mincemeat.py and of all forks."""

    daemon = True

    def __init__(
        self,
        map: dict[int, Any] | str | bytes | None = None,  # noqa: A002  the names in the forks
        schedule: MutableSequence[Timer] | int | None = None,
        shuttout: float | None = None,
        *,
        password: str | bytes | None = None,
        port: int | None = None,
    ) -> None:
        """Take ``(map, schedule, shuttout)``, or ``(password, port)`` as in mikyt's fork."""
        if isinstance(map, str | bytes):
            map, password = None, map  # noqa: A001
        if isinstance(schedule, int):
            schedule, port = None, schedule
        super().__init__(map, schedule, shuttout)
        if password is not None:
            self.password = password
        if port is not None:
            self.port = port

    def start(self) -> None:
        """Bind the port and serve in a thread, until ``close`` or the end of the script.

        Raises:
            OSError: EADDRINUSE and the like.
        """
        self.conn(self.password, self.port, cycle=TaskManager.PERMANENT, asynchronous=True)

    def process_datasource(self, datasource: Any) -> dict[Any, Any] | None:
        """Return the results for one datasource. May be called any number of times.

        Raises:
            Exception: as ``run_server``.
            ConnectionAbortedError: the server was closed meanwhile.
        """
        if not self.is_alive():
            self.datasource = datasource
            return self.run_server(self.password, self.port)
        outcome: Future[dict[Any, Any]] = Future()
        self.set_datasource(datasource, outcome=outcome)
        while not self.ended() and not outcome.done():
            wait([outcome], _OUTCOME_POLL_SECONDS)
        if outcome.done():
            return outcome.result()
        raise self.error or ConnectionAbortedError("the server was closed")

    def is_alive(self) -> bool:
        """True if the server serves."""
        return self.authenticated() and not self.ended()

    @property
    def initialized(self) -> bool:
        """True if workers can join."""
        return self.is_alive()

    def initializing(self) -> bool:
        """Return False: ``start`` has bound the port when it returns."""
        return False

    def join(self, timeout: float | None = None) -> None:
        """Wait for the end of the server."""
        self.ended(timeout)
