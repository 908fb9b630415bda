"""The supervisor: owns executors and never runs user code.

It renews the leases of its living executors, so that C code holding the GIL cannot lose one;
stops an executor whose lease is lost or whose task is over its time; learns of a death within
milliseconds and fails exactly the task that was running; takes back expired leases of others;
and shuts down by grades.
"""

from __future__ import annotations

import contextlib
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
from redismr.core.model import PROTOCOL, PYTHON, token_of
from redismr.core.seal import Keyring
from redismr.core.trace import clean
from redismr.errors import StoreError, StoreUnavailable
from redismr.shipping.libraries import told
from redismr.store import BEAT_SECONDS, Store
from redismr.workers import cores, executor
from redismr.workers.leases import OVERDUE, Child, LeaseKeeper
from redismr.workers.nursery import Exit, Nursery, kill
from redismr.workers.report import Reporter, worker_name
from redismr.workers.slots import Holding, Post, Slot, Slots
from redismr.workers.standing import Duty, Standing, introduce
from redismr.workers.waker import Waker

log = logging.getLogger("redismr.worker")


class Supervisor:
    """One ``redismr worker`` process."""

    def __init__(self, connection: Connection, options: WorkerOptions) -> None:
        self.connection, self.options = connection, options
        self.keyring = Keyring(connection.secret, connection.namespace)
        self.host = socket.gethostname()
        self.worker_id = worker_name(self.host)
        self.slots = Slots(options.executors, options.max_tasks)
        self.nursery = Nursery(self._executor_main)
        self.store = Store(connection, patience=0, name="redismr-supervisor", timeout=5)
        self.report = Reporter(self.store, self.keyring, self.worker_id)
        self.children: dict[int, Child] = {}
        self.problem = ""
        #: An embedded worker has those of its submitter.
        self._libraries = "" if connection.embedded else told()
        self._told: set[str] = set()
        self._grade = self._asked = 0
        self.standing = Standing(fit=connection.embedded)  # another's is looked at first
        self._respawn_at: dict[int, float] = {}
        self._crashes: dict[int, int] = {}
        #: Executors that ended, of which Redis has not heard yet, with what they held. No other one
        #: takes their place before it has: it would claim in their name.
        self._unsettled: deque[tuple[Child, Holding, Exit]] = deque()
        self._stop_by = math.inf
        self._next_tick = 0.0
        self._beat_seconds = BEAT_SECONDS
        self.leases = LeaseKeeper(self.store, self.report.altered, self.worker_id)
        self.selector = selectors.DefaultSelector()
        self.waker = Waker(connection, self.keyring.key_id)

    def run(self) -> int:
        """Supervise until told to stop; 0 after a clean end, 1 after a forced one.

        Executors are started as soon as the server is known to be fit.

        Raises:
            UnfitServer: it is none to work for, or has become so.
        """
        self._listen()
        self._respawn_at = dict.fromkeys(range(len(self.slots.all)), 0.0)
        try:
            self._supervise()
            if self.standing.fit:
                self._guarded(lambda: self.store.leave(self.worker_id))
        finally:
            self.nursery.close()
        return 1 if self._grade >= 2 else 0

    def _supervise(self) -> None:
        self._respawn()
        self.waker.start()
        next_beat = 0.0
        while self._has_duties():
            now = time.monotonic()
            if now >= self._next_tick:
                self._guarded(self._tick)
                self._next_tick = now + self.standing.pause(self.leases.tick_seconds)
            if self.standing.fit and now >= next_beat:  # who may not work is no worker
                next_beat = now + self._beat_seconds  # as the row tells: later, we would seem lost
                self._guarded(self._beat)
            respawns = self._respawn_at.values() if self.standing.fit else ()
            due = min(self._next_tick, next_beat if self.standing.fit else math.inf, *respawns)
            for key, _ in self.selector.select(max(0.0, due - time.monotonic())):
                key.data(key.fileobj)
            self._obey()
            self._respawn()
            if self.nursery.early:  # heard of while an executor was started: no event will come
                self._on_exits()
            if self._over():
                self._drain()

    def _has_duties(self) -> bool:
        """Whether there are executors, or Redis may still hear of one that has ended."""
        if self.children or self._respawn_at:
            return True
        if self._grade and self._unsettled and self._stop_by == math.inf:
            self._stop_by = time.monotonic() + executor.STOP_SECONDS
        return bool(self._unsettled) and time.monotonic() < self._stop_by

    # -- events ---------------------------------------------------------------

    def _listen(self) -> None:
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        register = self.selector.register
        register(reader, selectors.EVENT_READ, lambda fd: os.read(fd, 4096))
        register(self.nursery.socket, selectors.EVENT_READ, lambda _: self._on_exits())
        register(self.waker.line, selectors.EVENT_READ, lambda _: self._on_wake())
        if self.options.parent_pipe is not None:
            register(self.options.parent_pipe, selectors.EVENT_READ, lambda _: self._on_orphaned())

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._asked += 1  # the loop acts on it: it is woken through the wake-up pipe

    def _obey(self) -> None:
        """Do what the signals that came since ask for."""
        if self._asked and self._grade == 0:
            log.info("finishing the tasks that run")
            self._drain()
        if self._asked > 1 and self._grade == 1:
            log.info("asked again: stopping at once")
            self._stop_now()

    def _on_orphaned(self) -> None:
        """Our client is gone: nobody is left to work for."""
        assert self.options.parent_pipe is not None
        self.selector.unregister(self.options.parent_pipe)
        self._stop_by = time.monotonic()  # its server mostly went with it: Redis is told once
        self._stop_now()

    def _on_message(self, child: Child) -> None:
        if child.line.fileno() < 0:
            return  # buried by an earlier event of the same round
        try:
            data = child.line.recv(4096)
        except OSError:
            data = b""
        if not data:
            self.selector.unregister(child.line)
            child.line.close()
            return
        *lines, child.buffer = (child.buffer + data).split(b"\n")
        for line in lines:
            word, _, rest = line.partition(b" ")
            if word == b"idle":
                child.idle = True
                self.waker.want()
            elif word == b"lease":
                # Before its first third is over the next tick must have come.
                self.leases.hurry(int(rest))
                self._next_tick = min(self._next_tick, time.monotonic() + self.leases.tick_seconds)
            elif word == b"problem":
                self._note(rest.decode("utf-8", "replace"))

    def _on_wake(self) -> None:
        for everyone in self.waker.take():
            idle = [child for child in self.children.values() if child.idle]
            for child in idle if everyone else idle[:1]:
                self._wake(child)
            if not idle and not everyone:  # it was asked for when there was one
                self._guarded(lambda: self.report.wake(1))
        if any(child.idle for child in self.children.values()):
            self.waker.want()

    def _wake(self, child: Child, how: bytes = b"w") -> None:
        child.idle = False
        with contextlib.suppress(OSError):
            child.line.send(how)

    def _on_exits(self) -> None:
        try:
            exits = self.nursery.exits()
        except OSError:
            self._bereave()
            return
        for gone in exits:
            child = self.children.pop(gone.pid, None)
            if child:
                self._bury(child, gone)

    def _bereave(self) -> None:
        """Without the fork server there are no executors any more."""
        log.critical("the fork server died; this worker ends, and its leases run out")
        self.children.clear()
        self._respawn_at.clear()
        self._grade = 2

    def _bury(self, child: Child, gone: Exit) -> None:
        """An executor ended: account for what it held, then put another in its place."""
        if child.line.fileno() >= 0:
            self.selector.unregister(child.line)
            child.line.close()
        holding = child.slot.read() or Holding()
        if holding.job:
            self._unsettled.append((child, holding, gone))
            self._guarded(self._settle_all)
        else:
            self._succeed(child, gone)

    def _succeed(self, child: Child, gone: Exit) -> None:
        """Say when another executor takes the place of one that ended."""
        if self._grade:
            return
        index = child.slot.index
        died = gone.status not in (0, executor.RECYCLE) and not child.doomed
        # One that did its work before it died is replaced at once, however many died before it.
        before = self._crashes.get(index, 0) if child.slot.tasks == child.tasks_before else 0
        crashes = self._crashes[index] = before + 1 if died else 0
        pause = 0.1 * 2 ** min(crashes - 1, 6) if crashes > 1 else 0.0
        if gone.status == executor.REFUSED:  # the next tick finds out whether that is for good
            pause = self.standing.refused(crashes)
        self._respawn_at[index] = time.monotonic() + pause

    def _settle_all(self) -> None:
        """Account for who ended. While Redis does not answer they are kept for the next tick."""
        while self._unsettled:
            child, holding, gone = ended = self._unsettled.popleft()
            try:
                self._settle(child, holding, gone)
            except StoreUnavailable:
                self._unsettled.appendleft(ended)  # what was said already may be repeated
                raise
            except StoreError as exc:
                log.warning("job %s: %s", holding.job, exc)
            self._succeed(child, gone)

    def _settle(self, child: Child, holding: Holding, gone: Exit) -> None:
        """Fail the task that its executor died of, give back the others, uncharged."""
        how = child.doomed or gone.cause
        rest = list(holding.tasks)
        if child.died_of(holding):
            task = rest.pop(holding.running)
            kind = "timeout" if child.doomed.startswith(OVERDUE) else "crash"
            what = "record {} of its input" if task[0] == "m" else "key {} of its partition"
            where = what.format(holding.ordinal + 1) if holding.ordinal >= 0 else ""
            token, ordinal = token_of(task, holding.nonce), child.record_to_blame(holding)
            self.report.crashed(
                holding.job, task, token, how, kind=kind, where=where, ordinal=ordinal, pid=gone.pid
            )
        if holding.next_nonce:
            self.store.release(holding.job, self._name(child.slot), holding.next_nonce)
        self._give_back(child, holding, rest)

    def _give_back(self, child: Child, holding: Holding, tasks: Sequence[str]) -> None:
        """Tasks that an executor claimed and will not run are ready again, and others know it."""
        if tasks:
            self.store.release(holding.job, self._name(child.slot), holding.nonce, tasks)
        self.report.wake(len(tasks) + 1)  # one for the token that woke the executor

    # -- duties ---------------------------------------------------------------

    def _tick(self) -> None:
        """Stop who is too long in a task; renew what is held; take back what others let expire."""
        for child, why in self.leases.overdue(list(self.children.values())):
            self._kill(child, why)
        if not self.standing.fit:
            self.store.link.check("worker")
            if self.standing.admit():
                introduce(self.store, self.keyring, self.worker_id, self.options.executors)
        for child, why in self.leases.renew(list(self.children.values())):
            self._kill(child, why)
        self._settle_all()
        if self._grade == 0:
            # Whatever became of the wake-up tokens, work must not wait for an idle worker.
            idle = [child for child in self.children.values() if child.idle]
            for child in idle[: self.leases.find_work(len(idle))]:
                self._wake(child, executor.LOOK_HARD)

    def _beat(self) -> None:
        row = {
            "host": self.host,
            "pid": os.getpid(),
            "python": PYTHON,
            "protocol": PROTOCOL,
            "key_id": self.keyring.key_id,
            "executors": self.options.executors,
            "busy": sum(child.slot.busy for child in self.children.values()),
            "tasks": sum(slot.tasks for slot in self.slots.all),
            "problem": self.problem,
            "libraries": self._libraries,
            "every_ms": int(self._beat_seconds * 1000),
        }
        listed = self.store.beat(self.worker_id, row)
        self._beat_seconds = BEAT_SECONDS * self.leases.crowded(listed)

    def _note(self, problem: str) -> None:
        """Say once what keeps us from a job, here and in our row, where its submitter sees it."""
        problem = clean(problem, 300).replace("\n", " ")  # names what others wrote to Redis
        if problem not in self._told and len(self._told) < 1000:
            self._told.add(problem)
            log.warning("%s", problem)
        if problem != self.problem:
            self.problem = problem
            self._guarded(self._beat)

    # -- life and death of executors -------------------------------------------

    def _name(self, slot: Slot) -> str:
        return f"{self.worker_id}:{slot.index}"

    def _executor_main(self, index: int, line: socket.socket) -> int:
        slot = self.slots.all[index]
        share = max(1, cores() // self.options.executors)
        post = Post(slot, line, self._name(slot), share)
        return executor.main(post, self.connection, self.keyring)

    def _spawn(self, slot: Slot) -> None:
        slot.reset()
        try:
            pid, line = self.nursery.spawn(slot.index)
        except OSError:
            self._bereave()
            return
        child = Child(slot, pid, line, tasks_before=slot.tasks)
        self.children[pid] = child
        self.selector.register(line, selectors.EVENT_READ, lambda _: self._on_message(child))

    def _respawn(self) -> None:
        now = time.monotonic()
        for index, at in list(self._respawn_at.items()):
            if self._grade:
                self._respawn_at.pop(index, None)
            elif self.standing.fit and at <= now:
                del self._respawn_at[index]
                self._spawn(self.slots.all[index])

    def _kill(self, child: Child, why: str) -> None:
        child.doomed, child.doomed_at = why, time.monotonic()
        kill(child.pid)

    def _over(self) -> bool:
        """Whether a worker that is to end by itself has reached its end."""
        if self._grade:
            return False
        left = self.slots.left()
        if left is not None and left <= 0:
            return True
        return self.options.burst and bool(self.children) and self._nothing_left()

    def _nothing_left(self) -> bool:
        try:
            return all(c.idle for c in self.children.values()) and not self.leases.any_running()
        except StoreError:
            return False

    def _drain(self) -> None:
        """First grade: claim nothing more, finish what runs, give back what waits behind that."""
        self._grade = max(self._grade, 1)
        for child in self.children.values():
            child.slot.stop()
            self._wake(child)
        self._guarded(self._give_back_what_waits)

    def _give_back_what_waits(self) -> None:
        for child in self.children.values():
            holding = child.slot.read()
            if holding and 0 <= holding.running < len(holding.tasks) - 1 and not child.doomed:
                # If it began another one a moment ago, that runs in vain: it is FENCED.
                self._give_back(child, holding, holding.tasks[holding.running + 1 :])

    def _stop_now(self) -> None:
        """Second grade: end every executor; what it held is given back when it is dead."""
        self._grade = 2
        for child in self.children.values():
            self._kill(child, "stopped by its supervisor")

    def _guarded(self, duty: Duty) -> None:
        """Do a duty that needs Redis; without Redis, say so once and go on."""
        # What is done once, and fails, is made good by a tick.
        self.standing.guarded(duty, duty if duty == self._beat else self._tick)
