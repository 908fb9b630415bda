"""``Server`` of mincemeat.py and of its fork: runs transactions one after another, as jobs."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterator, MutableSequence
from concurrent.futures import Future, wait
from typing import Any, ClassVar

import redismr
from redismr.compat import hosting, timers
from redismr.compat.doorway import Progress, is_debugging, partition_or_zero
from redismr.compat.endpoint import Endpoint, pong_data
from redismr.compat.job_functions import adapt_functions, applyover
from redismr.compat.transactions import TaskManager, Transaction
from redismr.compat.user_commands import ALL_CLIENTS, Channel
from redismr.errors import ConfigError, RedismrError

log = logging.getLogger("mincemeat")

_OUTCOME_POLL_SECONDS = 0.5


class ServerClosed(Exception):
    """The server was closed, so its job is to be cancelled."""


class Server(Endpoint):
    """Runs mapfn, collectfn and reducefn over a datasource, on the workers that join a port.

    Functions are attributes, of the instance or of a subclass. The port listens while a run is on;
    if the server runs asynchronously, until ``close``. As in mikyt's fork, ``start`` serves in a
    thread, and ``process_datasource`` runs one datasource after another there.
    """

    mapfn: Any = None
    collectfn: Any = None
    reducefn: Any = None
    finishfn: Any = None
    cycle: int | None = None
    password: Any = None
    port = hosting.MINCEMEAT_PORT
    daemon = True
    relaunch_map = relaunch_reduce = True  #: slow tasks may run a second time
    initfn_class: ClassVar[type[Any] | None] = None
    """The class whose objects, made of a job's functions, are the job's initfn. ``mincemeat`` sets
    it to ``MincemeatGlobals``, which names this class, and so cannot be imported here."""

    def __init__(
        self,
        map: dict[int, Any] | str | bytes | None = None,  # noqa: A002  the names in the forks
        schedule: MutableSequence[timers.Timer] | int | None = None,
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
        self.output: deque[tuple[Any, dict[Any, Any]]] = deque()
        self.taskmanager = TaskManager(self._connected_channels)
        self._queue: deque[Transaction] = deque()
        self._current: Transaction | None = None
        self._hosted_server: hosting.HostedServer | None = None
        self._queue_changed = threading.Condition()
        self._port_opened, self._transaction_done = threading.Event(), False

    # -- what to run ------------------------------------------------------------

    @property
    def datasource(self) -> Any:
        """The datasource that is being run, else the one that was set last."""
        latest = self._queue[-1] if self._queue else None
        serving = id(self) in self._map
        transaction = self._current if serving or latest is None else latest
        return transaction and transaction.datasource

    @datasource.setter
    def datasource(self, datasource: Any) -> None:
        self.set_datasource(datasource)

    def set_datasource(
        self,
        datasource: Any = None,
        txn: Any = None,
        outcome: Future[dict[Any, Any]] | None = None,
        **options: Any,
    ) -> None:
        """Queue one more transaction; None queues nothing. Call it from any thread.

        A PERMANENT server runs all transactions in turn; any other server runs the latest. If
        ``outcome`` is given, it gets the results or the error, and ``resultfn`` is not called.
        """
        given = {"datasource": datasource, "txn": txn, **options}
        transaction = self.taskmanager.transaction(given, outcome)
        with self._queue_changed:
            if transaction.datasource is None:
                self._current = None
            else:
                self._queue.append(transaction)
            self._queue_changed.notify_all()

    def resultfn(self, txn: Any, results: dict[Any, Any]) -> None:
        """Keep the results of a transaction for ``results``. Subclasses may override it."""
        self.output.append((txn, results))

    def results(self) -> dict[Any, Any] | None:
        """Return the oldest results not fetched yet, a plain dict; None if there are none."""
        return self.output.popleft()[1] if self.output else None

    # -- running ----------------------------------------------------------------

    def run_server(
        self,
        password: str | bytes = "",
        port: int = hosting.MINCEMEAT_PORT,
        interface: str = "",
        asynchronous: bool = False,  # noqa: FBT001, FBT002
    ) -> dict[Any, Any] | None:
        """Return the results, a plain dict of the caller's own; wait for workers as long as needed.

        Return None if asynchronous, or if resultfn was replaced.

        Raises:
            MapError, ReduceError: a user function raised; also of the original class.
            SourceRaised: the datasource raised; also of the original class.
            OSError: EADDRINUSE and the like.
        """
        try:
            self.conn(password, port, interface, asynchronous)
        except (RedismrError, KeyboardInterrupt) as exc:
            if is_debugging():
                raise
            # The text says all; our own frames would push it off the screen.
            raise exc.with_traceback(None) from exc.__cause__
        return self.results()

    def conn(
        self,
        password: str | bytes | None = "",
        port: int = hosting.MINCEMEAT_PORT,
        interface: str = "",
        asynchronous: bool = False,  # noqa: FBT001, FBT002
        **credentials: Any,
    ) -> None:
        """Bind the port and run what is queued; if asynchronous, in a thread of its own.

        Other credentials set the attributes that they name, unless they are None.

        Raises:
            Exception: as ``run_server``.
        """
        for name, value in credentials.items():
            if value is not None and hasattr(self, name):
                setattr(self, name, value)
            elif value is not None:
                log.debug("a server has no setting %s", name)
        if type(self).datasource is not Server.datasource and not self._queue:
            self.set_datasource(self.datasource)  # an attribute of a subclass hides the property
        if not (asynchronous or self._is_permanent() or self._queue or self._current):
            raise ConfigError("this server has no datasource: set one before it runs")
        self._open_port(hosting.password_text(password or self.password), port, interface)
        if asynchronous:
            run = self._run_in_thread
            threading.Thread(target=run, name="mincemeat-server", daemon=True).start()
        else:
            self._run(keep_open=True)

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

    def authenticated(self, timeout: float | None = 0.0) -> bool:
        """True if the server has opened its port, within ``timeout`` seconds; None waits."""
        return self._port_opened.wait(timeout)

    def finished(self, timeout: float | None = 0.0) -> bool:
        """True if the transaction is done, within ``timeout`` seconds; None waits."""
        self._ended.wait(timeout)
        return self._transaction_done

    def close(self) -> None:
        """Stop the server, and cancel a running job. Call it from any thread."""
        self._closing.set()
        with self._queue_changed:
            self._queue_changed.notify_all()

    handle_close = close

    # -- commands -----------------------------------------------------------------

    def unrecognized_command(self, command: str, data: Any, txn: Any, chan: Channel) -> bool:
        """Handle a command of a client; return True if it is known. For subclasses."""
        return False

    def pong(self, chan: Channel, command: str, data: Any, txn: Any) -> None:
        """Handle a client's answer to ``ping``. For subclasses."""

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send every client a command. Call it from any thread."""
        assert self._hosted_server is not None, "not connected"
        self._hosted_server.command_bus.send(ALL_CLIENTS, command, data, txn)

    def on_client_command(self, chan: Channel, command: str, data: Any, txn: Any) -> None:
        """Handle a command of a client, in a thread of the line."""
        if command == "ping":
            chan.send_command("pong", pong_data(data), txn)
        elif command == "pong":
            self.pong(chan, command, data, txn)
        elif not self.unrecognized_command(command, data, txn, chan):
            log.critical("Unknown command received: %s", command)

    def _connected_channels(self) -> dict[Channel, None]:
        """Return the channels of the clients that are connected now, for ``taskmanager.channels``.

        The dict is new, so callers may walk over it while clients come and go. Its values are None,
        as those of idle clients in the fork: what a client does is not known here.
        """
        bus = self._hosted_server and self._hosted_server.command_bus
        return {Channel(bus, name): None for name in bus.connected_clients()} if bus else {}

    # -- the loop -----------------------------------------------------------------

    def _open_port(self, password: str, port: int, interface: str) -> None:
        self.password = password
        self._hosted_server = hosting.acquire_server(
            self.on_client_command, interface, port, password, "Give run_server a password"
        )
        self.addr = interface, port
        self._reset_state()
        self._map[id(self)] = self
        self._transaction_done = False
        self._port_opened.set()

    def _run_in_thread(self) -> None:
        try:
            self._run(keep_open=False)
        except BaseException as exc:  # noqa: BLE001  other threads read self.error
            log.error("the server ended: %s", exc)  # noqa: TRY400  the text says all

    def _run(self, *, keep_open: bool) -> None:
        """Run transactions until the last one; ``keep_open`` keeps the server for the next run."""
        try:
            with contextlib.suppress(ServerClosed):
                for transaction in self._transactions():
                    self._run_transaction(transaction)
        except BaseException as exc:
            self.error = exc
            raise
        finally:
            assert self._hosted_server is not None
            self._hosted_server.release(close=not keep_open or self._closing.is_set())
            self._remove_from_map()

    def _transactions(self) -> Iterator[Transaction]:
        """Wait for transactions and yield them: one, or all in turn for a PERMANENT server."""
        while not self._closing.is_set():
            pause = timers.minimum_time(timers.run_due(self.schedule), 0.5)
            with self._queue_changed:
                transaction = self._next_transaction()
                if transaction is None:
                    self._queue_changed.wait(pause)
                    continue
            yield transaction
            if not self._is_permanent(transaction):
                self._transaction_done = True
                return
            self._current, self.taskmanager.state = None, TaskManager.IDLE

    def _next_transaction(self) -> Transaction | None:
        """Take the oldest one if PERMANENT, else the latest; without one, the last one again."""
        if self._queue and self._is_permanent(self._queue[0]):
            self._current = self._queue.popleft()
        elif self._queue:
            self._current = self._queue.pop()
            self._queue.clear()
        return self._current

    def _is_permanent(self, transaction: Transaction | None = None) -> bool:
        chosen = (self.cycle, transaction and transaction.cycle, self.taskmanager.defaults["cycle"])
        return TaskManager.PERMANENT in chosen

    def _run_transaction(self, transaction: Transaction) -> None:
        manager = self.taskmanager
        manager.start(transaction, self.mapfn, self.reducefn)
        try:
            results = self._run_job(transaction)
            if self.finishfn:
                manager.state = TaskManager.FINISHING
                results = dict(applyover(self.finishfn, results.items()))
            manager.state = TaskManager.FINISHED
            if transaction.outcome:
                transaction.outcome.set_result(results)
            else:
                self.resultfn(transaction.txn, results)
        except ServerClosed:
            raise
        except Exception as exc:
            if not self._is_permanent(transaction):
                raise
            # Other transactions wait, so the server goes on, and reports this error.
            if transaction.outcome:
                transaction.outcome.set_exception(exc)
                return
            log.error("transaction %s failed: %s", transaction.txn, exc)  # noqa: TRY400
            self.failed(transaction.txn, exc)

    def failed(self, txn: Any, error: Exception) -> None:
        """Handle a failure on a PERMANENT server, after it was logged. For subclasses."""

    def _run_job(self, transaction: Transaction) -> dict[Any, Any]:
        hosted_server = self._hosted_server
        assert hosted_server is not None
        if self.initfn_class is None:
            raise RuntimeError("import redismr.compat.mincemeat before a Server runs")
        mapfn, reducefn, user_functions = adapt_functions(self.mapfn, self.collectfn, self.reducefn)
        command = "redismr mincemeat -l" if hosted_server.was_resumed else "redismr mincemeat"
        report_waiting = hosting.WaitReporter(hosted_server, command, hosting.MINCEMEAT_PORT)

        def on_progress(progress: Progress) -> None:
            timers.run_due(self.schedule)
            if self._closing.is_set():
                raise ServerClosed
            reducing = progress.state in {"reducing", "succeeded"}
            self.taskmanager.state = TaskManager.REDUCING if reducing else TaskManager.MAPPING
            report_waiting(progress)

        relaunch = self.relaunch_map and self.relaunch_reduce
        options: dict[str, Any] = {"backup": relaunch and transaction.retransmit > 0}
        if transaction.txn is not None:
            options["txn"] = str(transaction.txn)
        if transaction.allocation == TaskManager.ONESHOT:
            options["each_worker"] = True
        results = redismr.run(
            transaction.datasource,
            mapfn,
            reducefn,
            partitionfn=partition_or_zero,
            initfn=self.initfn_class(user_functions),
            client=hosted_server.client,
            progress=on_progress,
            **options,
        )
        with contextlib.closing(results):
            return dict(results.items())
