"""``Server`` of mincemeat.py and of its fork: runs transactions one after another, as jobs."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, ClassVar

import redismr
from redismr.compat import timers
from redismr.compat.channels import Channel
from redismr.compat.doorway import is_debugging, partition_or_zero
from redismr.compat.endpoint import Endpoint, pong_data
from redismr.compat.hosting import MINCEMEAT_PORT, HostedServer, acquire_server, password_text
from redismr.compat.job_functions import adapt_functions, applyover
from redismr.compat.job_watcher import JobWatcher, ServerClosed
from redismr.compat.transactions import TaskManager, Transaction
from redismr.compat.user_commands import ALL_CLIENTS
from redismr.errors import ConfigError, RedismrError

log = logging.getLogger("mincemeat")


class Server(Endpoint):
    """Runs mapfn, collectfn and reducefn over a datasource, on the workers that join a port.

    Functions are attributes, of the instance or of a subclass. The port listens while a run is on;
    if the server runs asynchronously, until ``close``. Scripts use the subclass in ``threaded``;
    errors show users the name of this class, so it is called Server too.
    """

    mapfn: Any = None
    collectfn: Any = None
    reducefn: Any = None
    finishfn: Any = None
    cycle: int | None = None
    password: Any = None
    port = MINCEMEAT_PORT
    relaunch_map = relaunch_reduce = True
    """True if slow tasks may run a second time."""

    initfn_class: ClassVar[type[Any] | None] = None
    """The class whose objects, made of a job's functions, are the job's initfn. ``mincemeat`` sets
    it to ``MincemeatGlobals``, which names this class, and so cannot be imported here."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.output: deque[tuple[Any, dict[Any, Any]]] = deque()
        self.taskmanager = TaskManager(self._connected_channels)
        self._queue: deque[Transaction] = deque()
        self._current: Transaction | None = None
        self._hosted_server: HostedServer | None = None
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
        port: int = MINCEMEAT_PORT,
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
        port: int = MINCEMEAT_PORT,
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
            if value is None:
                continue
            if hasattr(self, name):
                setattr(self, name, value)
            else:
                log.debug("a server has no setting %s", name)
        if type(self).datasource is not Server.datasource and not self._queue:
            self.set_datasource(self.datasource)  # an attribute of a subclass hides the property
        if not (asynchronous or self._is_permanent() or self._queue or self._current):
            raise ConfigError("this server has no datasource: set one before it runs")
        self._open_port(password_text(password or self.password), port, interface)
        if asynchronous:
            threading.Thread(
                target=self._run_in_thread, name="mincemeat-server", daemon=True
            ).start()
        else:
            self._run(keep_open=True)

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

        The dict is new at each call, so callers may walk over it while clients come and go. The
        values are None, as those of idle clients in the fork: what a client does is not known here.
        """
        bus = self._hosted_server and self._hosted_server.command_bus
        return {Channel(bus, name): None for name in bus.connected_clients()} if bus else {}

    # -- the loop -----------------------------------------------------------------

    def _open_port(self, password: str, port: int, interface: str) -> None:
        self.password = password
        how_to_open = "Give run_server a password"
        self._hosted_server = acquire_server(
            self, interface, port, password, how_to_open=how_to_open
        )
        self.addr = interface, port
        self._reset_state()
        self._add_to_map()
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
        """Handle the failure of a transaction of a PERMANENT server, after it was logged.

        For subclasses.
        """

    def _run_job(self, transaction: Transaction) -> dict[Any, Any]:
        assert self._hosted_server is not None
        if self.initfn_class is None:
            raise RuntimeError("import redismr.compat.mincemeat before a Server runs")
        job = adapt_functions(self.mapfn, self.collectfn, self.reducefn)
        relaunch = self.relaunch_map and self.relaunch_reduce
        options: dict[str, Any] = {"backup": relaunch and transaction.retransmit > 0}
        if transaction.txn is not None:
            options["txn"] = str(transaction.txn)
        if transaction.allocation == TaskManager.ONESHOT:
            options["each_worker"] = True
        results = redismr.run(
            transaction.datasource,
            job.mapfn,
            job.reducefn,
            partitionfn=partition_or_zero,
            initfn=self.initfn_class(job.user_functions),
            client=self._hosted_server.client,
            progress=JobWatcher(
                self._hosted_server, self.taskmanager, self.schedule, self._closing
            ),
            **options,
        )
        with contextlib.closing(results):
            return dict(results.items())
