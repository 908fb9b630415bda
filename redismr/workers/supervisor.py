"""The supervisor: starts executors, watches over them, and never runs user code.

The supervisor renews the leases of its living executors, so that C code that holds the GIL cannot
lose a lease. It kills an executor whose lease is lost or whose task is over its time. It learns of
a death within milliseconds, and fails exactly the task that was running. It takes back expired
leases of other workers.
"""

import logging
import os
import selectors
import signal
import socket
import time

from redismr.config import Connection, WorkerOptions
from redismr.core.seal import Keyring
from redismr.errors import StoreError
from redismr.process_guards import cores
from redismr.shipping.libraries import reported_versions
from redismr.store import HEARTBEAT_SECONDS, Store
from redismr.workers import control_channel, executor
from redismr.workers.child import LEASE_LOST, Child
from redismr.workers.executor_exits import ExecutorExits
from redismr.workers.fork_server import ExecutorExit, ForkServer
from redismr.workers.leases import LeaseKeeper
from redismr.workers.reporter import Reporter, new_worker_name
from redismr.workers.server_health import Duty, ServerHealth, log_ready
from redismr.workers.shared_slots import Holding, Slot, Slots
from redismr.workers.stopping import Grade, Stopping
from redismr.workers.waker import Waker
from redismr.workers.worker_row import WorkerRow

log = logging.getLogger("redismr.worker")


class Supervisor:
    """The event loop of one ``redismr worker`` process."""

    def __init__(self, connection: Connection, options: WorkerOptions) -> None:
        self.connection, self.options = connection, options
        self.keyring = Keyring(connection.secret, connection.namespace)
        self.worker_id = new_worker_name(socket.gethostname())
        self.slots = Slots(options.executors, options.max_tasks)
        self.fork_server = ForkServer(self._executor_main)
        self.store = Store(connection, patience=0, name="redismr-supervisor", timeout=5)
        self.reporter = Reporter(self.store, self.keyring, self.worker_id)
        self.children: dict[int, Child] = {}  #: Living executors, by pid.
        self._respawn_at: dict[int, float] = {}  #: Index of a slot -> when to start an executor.
        self._crashes_in_a_row: dict[int, int] = {}
        self.exits = ExecutorExits(self.store, self.reporter, self._schedule_respawn)
        self.stopping = Stopping(self.children, self.exits, self._run_duty)
        # An embedded server is known to be fit, and its submitter has told the libraries.
        self.server_health = ServerHealth(is_fit=connection.embedded)
        self._row = WorkerRow(
            self.store,
            self.worker_id,
            self.keyring.key_id,
            options.executors,
            "" if connection.embedded else reported_versions(),
        )
        self.leases = LeaseKeeper(self.store, self.reporter.fail_altered_job, self.worker_id)
        self._next_tick = self._next_heartbeat = 0.0
        self.selector = selectors.DefaultSelector()
        self.waker = Waker(connection, self.keyring.key_id)

    def run(self) -> int:
        """Supervise until told to stop; return 0 after a clean end, 1 after a forced one.

        Executors are started once the server is known to be fit. UnfitServer: it is not, or has
        become unfit.
        """
        self._register_events()
        self._respawn_at = dict.fromkeys(range(len(self.slots.all)), 0.0)
        try:
            self._supervise()
            if self.server_health.is_fit:
                self._run_duty(lambda: self.store.remove_worker(self.worker_id))
        finally:
            self.fork_server.close()
        return 1 if self.stopping.grade == Grade.STOP_NOW else 0

    def _supervise(self) -> None:
        self._respawn_due()
        self.waker.start()
        while self.children or self._respawn_at or self.stopping.waits_for_redis():
            # 1. Duties that are due.
            self._run_due_duties()
            # 2. Events until the next duty is due: messages, exits, wake-ups, signals.
            timeout = self._next_due() - time.monotonic()
            for key, _ in self.selector.select(max(0.0, timeout)):
                key.data(key.fileobj)
            self.stopping.apply_signals()
            # 3. Executors that are to be replaced.
            self._respawn_due()
            # 4. Exits that ``spawn`` has read while it waited: no event tells of them.
            if self.fork_server.pending_exits:
                self._on_exits()
            # 5. The end of a worker that ends by itself.
            if self._has_finished():
                self.stopping.drain()

    def _run_due_duties(self) -> None:
        now = time.monotonic()
        if now >= self._next_tick:
            self._run_duty(self._tick)
            self._next_tick = now + self.server_health.tick_pause(self.leases.tick_seconds)
        if self.server_health.is_fit and now >= self._next_heartbeat:
            # As soon as the row promises, else the worker would seem lost.
            self._next_heartbeat = now + self._row.heartbeat_seconds
            self._run_duty(self._send_heartbeat)

    def _next_due(self) -> float:
        if not self.server_health.is_fit:
            return self._next_tick
        return min(self._next_tick, self._next_heartbeat, *self._respawn_at.values())

    def _register_events(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stopping.on_signal)
        register = self.selector.register
        register(reader, selectors.EVENT_READ, lambda fd: os.read(fd, 4096))
        register(self.fork_server.socket, selectors.EVENT_READ, lambda _: self._on_exits())
        register(self.waker.pipe, selectors.EVENT_READ, lambda _: self._on_wakeups())
        if self.options.parent_pipe is not None:
            register(self.options.parent_pipe, selectors.EVENT_READ, self._on_client_exit)

    def _on_client_exit(self, parent_pipe: int) -> None:
        self.selector.unregister(parent_pipe)
        self.stopping.stop_without_client()

    def _on_message(self, child: Child) -> None:
        if child.control.fileno() < 0:
            return  # closed by an earlier event of the same round
        messages = child.receive()
        if messages is None:
            self._close_control(child)
            return
        for word, argument in messages:
            # 1. The executor waits for work.
            if word == control_channel.IDLE:
                child.idle = True
                self.waker.request_wakeup()
            # 2. It begins a job: the next tick must come in the first third of the job's lease.
            elif word == control_channel.LEASE:
                self.leases.expect_lease(int(argument))
                self._next_tick = min(self._next_tick, time.monotonic() + self.leases.tick_seconds)
            # 3. Something keeps it from a job. The row tells that to the job's submitter.
            elif word == control_channel.PROBLEM:
                has_changed = self._row.note_problem(argument.decode("utf-8", "replace"))
                if has_changed:
                    self._run_duty(self._send_heartbeat)

    def _close_control(self, child: Child) -> None:
        if child.control.fileno() >= 0:
            self.selector.unregister(child.control)
            child.control.close()

    def _on_wakeups(self) -> None:
        for wake_all in self.waker.take_wakeups():
            idle = [child for child in self.children.values() if child.idle]
            for child in idle if wake_all else idle[:1]:
                child.wake()
            if not idle and not wake_all:  # no executor is idle any more: pass the token on
                self._run_duty(lambda: self.reporter.wake(1))
        if any(child.idle for child in self.children.values()):
            self.waker.request_wakeup()

    def _on_exits(self) -> None:
        try:
            exits = self.fork_server.read_exits()
        except OSError:
            self._on_fork_server_exit()
            return
        for exited in exits:
            if child := self.children.pop(exited.pid, None):
                self._on_executor_exit(child, exited)

    def _on_fork_server_exit(self) -> None:
        # Executors do not outlive the fork server.
        log.critical("the process that starts executors died: this worker ends")
        self.children.clear()
        self._respawn_at.clear()
        self.stopping.grade = Grade.STOP_NOW

    def _on_executor_exit(self, child: Child, exited: ExecutorExit) -> None:
        self._close_control(child)
        holding = child.slot.read() or Holding()
        if holding.job:
            self.exits.unreported.append((child, holding, exited))
            self._run_duty(self.exits.report_all)
        else:
            self._schedule_respawn(child, exited)

    def _tick(self) -> None:
        """Kill overdue executors, renew leases, take back expired leases of other workers."""
        for child in self.children.values():
            child.kill_if_overdue()
        if not self.server_health.is_fit:
            self.store.redis_client.check("worker")
            if self.server_health.mark_fit():
                log_ready(self.store, self.keyring, self.worker_id, self.options.executors)
        for child in self.leases.renew(list(self.children.values())):
            child.kill(LEASE_LOST)
        self.exits.report_all()
        if self.stopping.grade == Grade.WORK:
            # Wake-up tokens may be lost, and work must not wait for an idle worker.
            idle = [child for child in self.children.values() if child.idle]
            for child in idle[: self.leases.find_work(len(idle))]:
                child.wake(control_channel.LOOK_FOR_BACKUPS)

    def _send_heartbeat(self) -> None:
        busy = sum(child.slot.is_busy for child in self.children.values())
        workers = self._row.send(busy, sum(slot.tasks_counted for slot in self.slots.all))
        self._row.heartbeat_seconds = HEARTBEAT_SECONDS * self.leases.update_rest_factor(workers)

    def _run_duty(self, duty: Duty) -> None:
        # The next tick makes up for a one-time duty that failed.
        self.server_health.run_duty(duty, duty if duty == self._send_heartbeat else self._tick)

    def _executor_main(self, index: int, control: socket.socket) -> int:
        share, name = max(1, cores() // self.options.executors), f"{self.worker_id}:{index}"
        setup = control_channel.ExecutorSetup(self.slots.all[index], control, name, share)
        return executor.main(setup, self.connection, self.keyring)

    def _spawn(self, slot: Slot) -> None:
        slot.reset()
        try:
            pid, control = self.fork_server.spawn(slot.index)
        except OSError:
            self._on_fork_server_exit()
            return
        child = Child(slot, pid, control, counted_before=slot.tasks_counted)
        self.children[pid] = child
        self.selector.register(control, selectors.EVENT_READ, lambda _: self._on_message(child))

    def _schedule_respawn(self, child: Child, exited: ExecutorExit) -> None:
        if self.stopping.grade:
            return
        index = child.slot.index
        died = exited.status not in (0, executor.EXIT_RECYCLE) and not child.kill_reason
        # An executor that counted a task before it died is replaced at once.
        has_worked = child.slot.tasks_counted != child.counted_before
        before = 0 if has_worked else self._crashes_in_a_row.get(index, 0)
        crashes = self._crashes_in_a_row[index] = before + 1 if died else 0
        pause = 0.1 * 2 ** min(crashes - 1, 6) if crashes > 1 else 0.0
        if exited.status == executor.EXIT_SERVER_REFUSED:
            pause = self.server_health.on_refusal(crashes)  # the next tick checks the server
        self._respawn_at[index] = time.monotonic() + pause

    def _respawn_due(self) -> None:
        now = time.monotonic()
        for index, at in list(self._respawn_at.items()):
            if self.stopping.grade:
                self._respawn_at.pop(index, None)
            elif self.server_health.is_fit and at <= now:
                del self._respawn_at[index]
                self._spawn(self.slots.all[index])

    def _has_finished(self) -> bool:
        """True if a worker that ends by itself has reached its end: ``max_tasks`` or ``burst``."""
        if self.stopping.grade:
            return False
        if (left := self.slots.tasks_left()) is not None and left <= 0:
            return True
        children = self.children.values()
        if not (self.options.burst and children and all(child.idle for child in children)):
            return False
        try:
            return not self.leases.any_running()
        except StoreError:
            return False
