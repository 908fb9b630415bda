"""``Server`` of mincemeat.py and of its fork: transactions, one after another, as jobs of ours."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import redismr
from redismr.compat import timers
from redismr.compat.channels import Channel, channels
from redismr.compat.commands import EVERYBODY
from redismr.compat.endpoint import Endpoint, answer
from redismr.compat.functions import applyover, program
from redismr.compat.hosting import DEFAULT_PORT, Host, as_text, take
from redismr.compat.progress import Closed, Watch
from redismr.compat.transactions import TaskManager, Transaction
from redismr.core.keyhash import partition_of_any
from redismr.errors import ConfigError, RedismrError
from redismr.settings import debugging

log = logging.getLogger("mincemeat")


class Server(Endpoint):
    """Runs mapfn, collectfn and reducefn over a datasource, on the workers that join its port.

    Functions are attributes, of the instance or of a subclass. The port listens while a run is on,
    or until ``close`` where the server runs asynchronously.
    """

    mapfn: Any = None
    collectfn: Any = None
    reducefn: Any = None
    finishfn: Any = None
    cycle: int | None = None
    password: Any = None
    port = DEFAULT_PORT
    relaunch_map = relaunch_reduce = True
    """Whether slow tasks may run a second time."""

    def __init__(self, *given: Any, **named: Any) -> None:
        """Arguments are those of every endpoint."""
        super().__init__(*given, **named)
        self.output: deque[tuple[Any, dict[Any, Any]]] = deque()
        self.taskmanager = TaskManager(self._channels)
        self._queue: deque[Transaction] = deque()
        self._now: Transaction | None = None
        self._host: Host | None = None
        self._changed = threading.Condition()
        self._opened, self._done = threading.Event(), False

    # -- what to run ------------------------------------------------------------

    @property
    def datasource(self) -> Any:
        """The datasource that is being run, else what was set last."""
        latest = self._queue[-1] if self._queue else None
        serving = id(self) in self._map
        transaction = self._now if serving or latest is None else latest
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
        """Queue one more transaction. From any thread. None queues nothing.

        Whoever has an ``outcome`` gets the results there, or why there are none, and ``resultfn``
        does not.

        A PERMANENT server runs them in turn; any other one the latest.
        """
        given = {"datasource": datasource, "txn": txn, **options}
        transaction = self.taskmanager.transaction(given, outcome)
        with self._changed:
            if transaction.datasource is None:
                self._now = None
            else:
                self._queue.append(transaction)
            self._changed.notify_all()

    def resultfn(self, txn: Any, results: dict[Any, Any]) -> None:
        """Called with the results of each transaction; this one keeps them for ``results``."""
        self.output.append((txn, results))

    def results(self) -> dict[Any, Any] | None:
        """The oldest results that were not fetched yet, a plain dict; None if there are none."""
        return self.output.popleft()[1] if self.output else None

    # -- running ----------------------------------------------------------------

    def run_server(
        self,
        password: str | bytes = "",
        port: int = DEFAULT_PORT,
        interface: str = "",
        asynchronous: bool = False,  # noqa: FBT001, FBT002
    ) -> dict[Any, Any] | None:
        """The results, a plain dict of the caller's own; waits for workers as long as it takes.

        None if asynchronous, or if resultfn was replaced.

        Raises:
            MapError, ReduceError: a user function raised; also of the original class.
            SourceRaised: the datasource did; the same. OSError: EADDRINUSE and its like.
        """
        try:
            self.conn(password, port, interface, asynchronous)
        except (RedismrError, KeyboardInterrupt) as exc:
            if debugging():
                raise
            # What a person has to know is in the text; our frames would push it off the screen.
            raise exc.with_traceback(None) from exc.__cause__
        return self.results()

    def conn(
        self,
        password: str | bytes | None = "",
        port: int = DEFAULT_PORT,
        interface: str = "",
        asynchronous: bool = False,  # noqa: FBT001, FBT002
        **credentials: Any,
    ) -> None:
        """Bind the port and run what is queued; asynchronously, in a thread of its own.

        Credentials that name an attribute set it, unless they are None.

        Raises:
            As ``run_server``.
        """
        for name, value in credentials.items():
            if value is None:
                continue
            if hasattr(self, name):
                setattr(self, name, value)
            else:
                log.debug("not a setting of a server: %s", name)
        if type(self).datasource is not Server.datasource and not self._queue:
            self.set_datasource(self.datasource)  # a subclass's own, in place of our property
        if not (asynchronous or self._permanent() or self._queue or self._now):
            raise ConfigError("this server has no datasource: set one before it runs")
        self._open(as_text(password or self.password), port, interface)
        if asynchronous:
            threading.Thread(target=self._run_apart, name="mincemeat-server", daemon=True).start()
        else:
            self._run(keep=True)

    def authenticated(self, timeout: float | None = 0.0) -> bool:
        """Whether it serves, or did."""
        return self._opened.wait(timeout)

    def finished(self, timeout: float | None = 0.0) -> bool:
        """Whether its transaction is done, within ``timeout`` seconds; None waits."""
        self._ended.wait(timeout)
        return self._done

    def close(self) -> None:
        """Stop: what runs is cancelled. From any thread."""
        self._closing.set()
        with self._changed:
            self._changed.notify_all()

    handle_close = close

    # -- commands -----------------------------------------------------------------

    def unrecognized_command(self, command: str, data: Any, txn: Any, chan: Channel) -> bool:
        """A client's command. For subclasses; True says that it was understood."""
        return False

    def pong(self, chan: Channel, command: str, data: Any, txn: Any) -> None:
        """A client's answer to ``ping``. For subclasses."""

    def send_command(self, command: str, data: Any = None, txn: Any = None) -> None:
        """Send every client a command. From any thread."""
        assert self._host is not None, "not connected"
        self._host.commands.send(EVERYBODY, command, data, txn)

    def heard(self, chan: Channel, command: str, data: Any, txn: Any) -> None:
        """A client's command, in a thread of its own."""
        if command == "ping":
            chan.send_command("pong", answer(data), txn)
        elif command == "pong":
            self.pong(chan, command, data, txn)
        elif not self.unrecognized_command(command, data, txn, chan):
            log.critical("Unknown command received: %s", command)

    def _channels(self) -> dict[Channel, None]:
        return channels(self._host.commands) if self._host else {}

    # -- the loop -----------------------------------------------------------------

    def _open(self, password: str, port: int, interface: str) -> None:
        self.password = password
        opening = "Give run_server a password"
        self._host = take(self, interface, port, password, opening=opening)
        self.addr = interface, port
        self._begin()
        self._join_loop()
        self._done = False
        self._opened.set()

    def _run_apart(self) -> None:
        try:
            self._run(keep=False)
        except BaseException as exc:  # noqa: BLE001  this thread ends here; others ask for it
            self.error = exc
            log.error("the server ended: %s", exc)  # noqa: TRY400  the text says it all

    def _run(self, *, keep: bool) -> None:
        """Transactions until the last one. With ``keep`` what serves stays, for the next run."""
        try:
            with contextlib.suppress(Closed):
                for transaction in self._transactions():
                    self._transact(transaction)
        except BaseException as exc:
            self.error = exc
            raise
        finally:
            self._leave(keep=keep and not self._closing.is_set())

    def _leave(self, *, keep: bool) -> None:
        assert self._host is not None
        self._host.release(close=not keep)
        self._leave_loop()

    def _transactions(self) -> Iterator[Transaction]:
        """What to run next, waited for; one only unless it, or the server, is PERMANENT."""
        while not self._closing.is_set():
            pause = timers.minimum_time(timers.fire(self.schedule), 0.5)
            with self._changed:
                transaction = self._next()
                if transaction is None:
                    self._changed.wait(pause)
                    continue
            yield transaction
            if not self._permanent(transaction):
                self._done = True
                return
            self._now, self.taskmanager.state = None, TaskManager.IDLE

    def _next(self) -> Transaction | None:
        """The oldest in the queue if PERMANENT, else the latest, or the last one again."""
        if self._queue and self._permanent(self._queue[0]):
            self._now = self._queue.popleft()
        elif self._queue:
            self._now = self._queue.pop()
            self._queue.clear()
        return self._now

    def _permanent(self, transaction: Transaction | None = None) -> bool:
        chosen = (self.cycle, transaction and transaction.cycle, self.taskmanager.defaults["cycle"])
        return TaskManager.PERMANENT in chosen

    def _transact(self, transaction: Transaction) -> None:
        manager = self.taskmanager
        manager.start(transaction, self.mapfn, self.reducefn)
        try:
            results = self._reduced(transaction)
            if self.finishfn:
                manager.state = TaskManager.FINISHING
                results = dict(applyover(self.finishfn, results.items()))
            manager.state = TaskManager.FINISHED
            if transaction.outcome:
                transaction.outcome.set_result(results)
            else:
                self.resultfn(transaction.txn, results)
        except Closed:
            raise
        except Exception as exc:
            if not self._permanent(transaction):
                raise
            # Others wait for theirs: this one's submitter hears of it.
            if transaction.outcome:
                transaction.outcome.set_exception(exc)
                return
            log.error("transaction %s failed: %s", transaction.txn, exc)  # noqa: TRY400
            self.failed(transaction.txn, exc)

    def failed(self, txn: Any, error: Exception) -> None:
        """A transaction of a PERMANENT server has failed. For subclasses; it was logged."""

    def _reduced(self, transaction: Transaction) -> dict[Any, Any]:
        assert self._host is not None
        job = program(self.mapfn, self.collectfn, self.reducefn)
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
            partitionfn=partition_of_any,
            initfn=job.initfn,
            client=self._host.client,
            progress=Watch(self._host, self.taskmanager, self.schedule, self._closing),
            **options,
        )
        with contextlib.closing(results):
            return dict(results.items())
