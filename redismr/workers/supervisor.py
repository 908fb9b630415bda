"""The supervisor: owns executors and never runs user code.

It renews the leases of its living executors, so that C code holding the GIL cannot lose one;
stops an executor whose lease is lost or whose task is over its time; learns of a death within
milliseconds and fails exactly the task that was running; takes back expired leases of others;
and shuts down by grades.
"""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Sequence
from types import FrameType

from redismr.config import Connection, WorkerOptions
from redismr.core.model import PROTOCOL, PYTHON, AttemptRef, token_of
from redismr.core.seal import Keyring
from redismr.errors import StoreError, StoreUnavailable
from redismr.shipping.libraries import reported_versions
from redismr.store import HEARTBEAT_SECONDS, Store
from redismr.workers import cores, executor
from redismr.workers.child import OVERDUE, Child
from redismr.workers.control_channel import (
    IDLE,
    LEASE,
    LOOK_FOR_BACKUPS,
    PROBLEM,
    ExecutorSetup,
    one_line,
)
from redismr.workers.fork_server import ExecutorExit, ForkServer
from redismr.workers.leases import LeaseKeeper
from redismr.workers.reporter import Reporter, new_worker_name
from redismr.workers.server_health import Duty, ServerHealth, log_ready
from redismr.workers.shared_slots import Holding, Slot, Slots
from redismr.workers.waker import Waker

log = logging.getLogger("redismr.worker")


class Supervisor:
    """One ``redismr worker`` process."""

    def __init__(self, connection: Connection, options: WorkerOptions) -> None:
        self.connection, self.options = connection, options
        self.keyring = Keyring(connection.secret, connection.namespace)
        self.host = socket.gethostname()
        self.worker_id = new_worker_name(self.host)
        self.slots = Slots(options.executors, options.max_tasks)
        self.fork_server = ForkServer(self._executor_main)
        self.store = Store(connection, patience=0, name="redismr-supervisor", timeout=5)
        self.reporter = Reporter(self.store, self.keyring, self.worker_id)
        self.children: dict[int, Child] = {}
        self.problem = ""
        #: An embedded worker has those of its submitter.
        self._libraries = "" if connection.embedded else reported_versions()
        self._logged_problems: set[str] = set()
        self._stop_level = self._stop_signals = 0
        self.server_health = ServerHealth(
            is_fit=connection.embedded
        )  # another's is looked at first
        self._respawn_at: dict[int, float] = {}
        self._crashes_in_a_row: dict[int, int] = {}
        #: Executors that ended, of which Redis has not heard yet, with what they held. No other one
        #: takes their place before it has: it would claim in their name.
        self._unreported_exits: deque[tuple[Child, Holding, ExecutorExit]] = deque()
        self._stop_deadline = math.inf
        self._next_tick = 0.0
        self._heartbeat_seconds = HEARTBEAT_SECONDS
        self.leases = LeaseKeeper(self.store, self.reporter.fail_altered_job, self.worker_id)
        self.selector = selectors.DefaultSelector()
        self.waker = Waker(connection, self.keyring.key_id)

    def run(self) -> int:
        """Supervise until told to stop; 0 after a clean end, 1 after a forced one.

        Executors are started as soon as the server is known to be fit.

        Raises:
            UnfitServer: it is none to work for, or has become so.
        """
        self._register_events()
        self._respawn_at = dict.fromkeys(range(len(self.slots.all)), 0.0)
        try:
            self._supervise()
            if self.server_health.is_fit:
                self._run_duty(lambda: self.store.remove_worker(self.worker_id))
        finally:
            self.fork_server.close()
        return 1 if self._stop_level >= 2 else 0

    def _supervise(self) -> None:
        self._respawn_due()
        self.waker.start()
        next_heartbeat = 0.0
        while self._has_duties():
            now = time.monotonic()
            if now >= self._next_tick:
                self._run_duty(self._tick)
                self._next_tick = now + self.server_health.tick_pause(self.leases.tick_seconds)
            if self.server_health.is_fit and now >= next_heartbeat:  # who may not work is no worker
                next_heartbeat = (
                    now + self._heartbeat_seconds
                )  # as the row tells: later, we would seem lost
                self._run_duty(self._send_heartbeat)
            respawns = self._respawn_at.values() if self.server_health.is_fit else ()
            due = min(
                self._next_tick,
                next_heartbeat if self.server_health.is_fit else math.inf,
                *respawns,
            )
            for key, _ in self.selector.select(max(0.0, due - time.monotonic())):
                key.data(key.fileobj)
            self._apply_signals()
            self._respawn_due()
            if (
                self.fork_server.pending_exits
            ):  # heard of while an executor was started: no event will come
                self._on_exits()
            if self._has_finished():
                self._drain()

    def _has_duties(self) -> bool:
        """Whether there are executors, or Redis may still hear of one that has ended."""
        if self.children or self._respawn_at:
            return True
        if self._stop_level and self._unreported_exits and self._stop_deadline == math.inf:
            self._stop_deadline = time.monotonic() + executor.STOP_WAIT_SECONDS
        return bool(self._unreported_exits) and time.monotonic() < self._stop_deadline

    # -- events ---------------------------------------------------------------

    def _register_events(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        register = self.selector.register
        register(reader, selectors.EVENT_READ, lambda fd: os.read(fd, 4096))
        register(self.fork_server.socket, selectors.EVENT_READ, lambda _: self._on_exits())
        register(self.waker.pipe, selectors.EVENT_READ, lambda _: self._on_wakeups())
        if self.options.parent_pipe is not None:
            register(
                self.options.parent_pipe, selectors.EVENT_READ, lambda _: self._on_parent_exit()
            )

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop_signals += 1  # the loop acts on it: it is woken through the wake-up pipe

    def _apply_signals(self) -> None:
        """Do what the signals that came since ask for."""
        if self._stop_signals and self._stop_level == 0:
            log.info("finishing the tasks that run" if self.children else "stopping")
            self._drain()
        if self._stop_signals > 1 and self._stop_level == 1:
            log.info("asked again: stopping at once")
            self._stop_now()

    def _on_parent_exit(self) -> None:
        """Our client is gone: nobody is left to work for."""
        assert self.options.parent_pipe is not None
        self.selector.unregister(self.options.parent_pipe)
        self._stop_deadline = time.monotonic()  # its server mostly went with it: Redis is told once
        self._stop_now()

    def _on_message(self, child: Child) -> None:
        if child.control.fileno() < 0:
            return  # buried by an earlier event of the same round
        try:
            data = child.control.recv(4096)
        except OSError:
            data = b""
        if not data:
            self.selector.unregister(child.control)
            child.control.close()
            return
        *lines, child.buffer = (child.buffer + data).split(b"\n")
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == IDLE:
                child.idle = True
                self.waker.request_wakeup()
            elif word == LEASE:
                # Before its first third is over the next tick must have come.
                self.leases.expect_lease(int(rest))
                self._next_tick = min(self._next_tick, time.monotonic() + self.leases.tick_seconds)
            elif word == PROBLEM:
                self._note_problem(rest.decode("utf-8", "replace"))

    def _on_wakeups(self) -> None:
        for wake_all in self.waker.take_wakeups():
            idle = [child for child in self.children.values() if child.idle]
            for child in idle if wake_all else idle[:1]:
                child.wake()
            if not idle and not wake_all:  # it was asked for when there was one
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
            child = self.children.pop(exited.pid, None)
            if child:
                self._on_executor_exit(child, exited)

    def _on_fork_server_exit(self) -> None:
        """Without the fork server there are no executors any more."""
        log.critical("the process that starts executors died: this worker ends")
        self.children.clear()
        self._respawn_at.clear()
        self._stop_level = 2

    def _on_executor_exit(self, child: Child, exited: ExecutorExit) -> None:
        """An executor ended: account for what it held, then put another in its place."""
        if child.control.fileno() >= 0:
            self.selector.unregister(child.control)
            child.control.close()
        holding = child.slot.read() or Holding()
        if holding.job:
            self._unreported_exits.append((child, holding, exited))
            self._run_duty(self._report_exits)
        else:
            self._schedule_respawn(child, exited)

    def _schedule_respawn(self, child: Child, exited: ExecutorExit) -> None:
        """Say when another executor takes the place of one that ended."""
        if self._stop_level:
            return
        index = child.slot.index
        died = exited.status not in (0, executor.EXIT_RECYCLE) and not child.kill_reason
        # One that did its work before it died is replaced at once, however many died before it.
        before = (
            self._crashes_in_a_row.get(index, 0)
            if child.slot.tasks_counted == child.counted_before
            else 0
        )
        crashes = self._crashes_in_a_row[index] = before + 1 if died else 0
        pause = 0.1 * 2 ** min(crashes - 1, 6) if crashes > 1 else 0.0
        if (
            exited.status == executor.EXIT_SERVER_REFUSED
        ):  # the next tick finds out whether that is for good
            pause = self.server_health.on_refusal(crashes)
        self._respawn_at[index] = time.monotonic() + pause

    def _report_exits(self) -> None:
        """Account for who ended. While Redis does not answer they are kept for the next tick."""
        while self._unreported_exits:
            child, holding, exited = ended = self._unreported_exits.popleft()
            try:
                self._report_exit(child, holding, exited)
            except StoreUnavailable:
                self._unreported_exits.appendleft(ended)  # what was said already may be repeated
                raise
            except StoreError as exc:
                log.warning("job %s: %s", holding.job, exc)
            self._schedule_respawn(child, exited)

    def _report_exit(self, child: Child, holding: Holding, exited: ExecutorExit) -> None:
        """Fail the task that its executor died of, give back the others, uncharged."""
        cause = child.kill_reason or exited.cause
        rest = list(holding.tasks)
        if child.is_task_to_blame(holding):
            task = rest.pop(holding.running)
            kind = "timeout" if child.kill_reason.startswith(OVERDUE) else "crash"
            place = "record {} of its input" if task[0] == "m" else "key {} of its partition"
            where = place.format(holding.ordinal + 1) if holding.ordinal >= 0 else ""
            self.reporter.report_crash(
                AttemptRef(holding.job, task, token_of(task, holding.nonce)),
                cause,
                kind=kind,
                where=where,
                ordinal=child.record_to_blame(holding),
                pid=exited.pid,
            )
        if holding.next_nonce:
            self.store.release(holding.job, self._executor_name(child.slot), holding.next_nonce)
        self._release(child, holding, rest)

    def _release(self, child: Child, holding: Holding, tasks: Sequence[str]) -> None:
        """Tasks that an executor claimed and will not run are ready again, and others know it."""
        if tasks:
            self.store.release(holding.job, self._executor_name(child.slot), holding.nonce, tasks)
        self.reporter.wake(len(tasks) + 1)  # one for the token that woke the executor

    # -- duties ---------------------------------------------------------------

    def _tick(self) -> None:
        """Stop who is too long in a task; renew what is held; take back what others let expire."""
        for child, why in self.leases.find_overdue(list(self.children.values())):
            child.kill(why)
        if not self.server_health.is_fit:
            self.store.server.check("worker")
            if self.server_health.mark_fit():
                log_ready(self.store, self.keyring, self.worker_id, self.options.executors)
        for child, why in self.leases.renew(list(self.children.values())):
            child.kill(why)
        self._report_exits()
        if self._stop_level == 0:
            # Whatever became of the wake-up tokens, work must not wait for an idle worker.
            idle = [child for child in self.children.values() if child.idle]
            for child in idle[: self.leases.find_work(len(idle))]:
                child.wake(LOOK_FOR_BACKUPS)

    def _send_heartbeat(self) -> None:
        row = {
            "host": self.host,
            "pid": os.getpid(),
            "python": PYTHON,
            "protocol": PROTOCOL,
            "key_id": self.keyring.key_id,
            "executors": self.options.executors,
            "busy": sum(child.slot.is_busy for child in self.children.values()),
            "tasks": sum(slot.tasks_counted for slot in self.slots.all),
            "problem": self.problem,
            "libraries": self._libraries,
            "every_ms": int(self._heartbeat_seconds * 1000),
        }
        worker_count = self.store.heartbeat(self.worker_id, row)
        self._heartbeat_seconds = HEARTBEAT_SECONDS * self.leases.update_rest_factor(worker_count)

    def _note_problem(self, problem: str) -> None:
        """Say once what keeps us from a job, here and in our row, where its submitter sees it."""
        problem = one_line(problem)
        if problem not in self._logged_problems and len(self._logged_problems) < 1000:
            self._logged_problems.add(problem)
            log.warning("%s", problem)
        if problem != self.problem:
            self.problem = problem
            self._run_duty(self._send_heartbeat)

    # -- life and death of executors -------------------------------------------

    def _executor_name(self, slot: Slot) -> str:
        return f"{self.worker_id}:{slot.index}"

    def _executor_main(self, index: int, control: socket.socket) -> int:
        slot = self.slots.all[index]
        share = max(1, cores() // self.options.executors)
        setup = ExecutorSetup(slot, control, self._executor_name(slot), share)
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

    def _respawn_due(self) -> None:
        now = time.monotonic()
        for index, at in list(self._respawn_at.items()):
            if self._stop_level:
                self._respawn_at.pop(index, None)
            elif self.server_health.is_fit and at <= now:
                del self._respawn_at[index]
                self._spawn(self.slots.all[index])

    def _has_finished(self) -> bool:
        """Whether a worker that is to end by itself has reached its end."""
        if self._stop_level:
            return False
        left = self.slots.tasks_left()
        if left is not None and left <= 0:
            return True
        return self.options.burst and bool(self.children) and self._has_no_work_left()

    def _has_no_work_left(self) -> bool:
        try:
            return all(c.idle for c in self.children.values()) and not self.leases.any_running()
        except StoreError:
            return False

    def _drain(self) -> None:
        """First grade: claim nothing more, finish what runs, give back what waits behind that."""
        self._stop_level = max(self._stop_level, 1)
        for child in self.children.values():
            child.slot.request_stop()
            child.wake()
        self._run_duty(self._release_unstarted)

    def _release_unstarted(self) -> None:
        for child in self.children.values():
            holding = child.slot.read()
            if holding and 0 <= holding.running < len(holding.tasks) - 1 and not child.kill_reason:
                # If it began another one a moment ago, that runs in vain: it is FENCED.
                self._release(child, holding, holding.tasks[holding.running + 1 :])

    def _stop_now(self) -> None:
        """Second grade: end every executor; what it held is given back when it is dead."""
        self._stop_level = 2
        for child in self.children.values():
            child.kill("stopped by its supervisor")

    def _run_duty(self, duty: Duty) -> None:
        """Do a duty that needs Redis; without Redis, say so once and go on."""
        # What is done once, and fails, is made good by a tick.
        self.server_health.run_duty(duty, duty if duty == self._send_heartbeat else self._tick)
