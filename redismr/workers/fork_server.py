"""The fork server: a small process with one thread that forks executors on request.

The supervisor forks the fork server while the supervisor has one thread and has imported
everything. So an executor is warm within milliseconds, and never inherits a lock that another
thread holds. When the supervisor ends, the fork server kills its executors and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl.h

ExecutorMain = Callable[[int, socket.socket], int]
"""Runs an executor, given the index of its slot and its control socket; returns its exit status."""


@dataclass(frozen=True, slots=True)
class ExecutorExit:
    """The end of an executor."""

    pid: int
    status: int  #: As from ``os.waitstatus_to_exitcode``; negative: the signal that killed it.

    @property
    def cause(self) -> str:
        """The cause of the end, in words."""
        if self.status < 0:
            with contextlib.suppress(ValueError):
                return f"its process was killed by {signal.Signals(-self.status).name}"
            return f"its process was killed by signal {-self.status}"
        return f"its process exited with status {self.status}"


class ForkServer:
    """The supervisor's side. Its methods raise OSError if the fork server is gone."""

    def __init__(self, main: ExecutorMain) -> None:
        """Fork the fork server. Call it before any thread is started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _run_fork_server(theirs, main, parent)
        theirs.close()
        self.socket = ours
        #: Exits that ``spawn`` has read, for the next ``read_exits``; the socket shows no event.
        self.pending_exits: list[ExecutorExit] = []

    def spawn(self, index: int) -> tuple[int, socket.socket]:
        """Start an executor in a slot; return its pid and the near end of its control socket."""
        ours, theirs = socket.socketpair()
        socket.send_fds(self.socket, [str(index).encode()], [theirs.fileno()])
        theirs.close()
        while True:
            kind, pid, *status = self._receive()
            if kind == "pid":
                return pid, ours
            self.pending_exits.append(ExecutorExit(pid, *status))

    def read_exits(self) -> list[ExecutorExit]:
        """Return the exits since the last call, without blocking."""
        exits, self.pending_exits = self.pending_exits, []
        while True:
            try:
                _, pid, status = self._receive(socket.MSG_DONTWAIT)
            except BlockingIOError:
                return exits
            exits.append(ExecutorExit(pid, status))

    def _receive(self, flags: int = 0) -> Any:
        if message := self.socket.recv(256, flags):
            return json.loads(message)
        raise OSError("the fork server has ended")

    def close(self) -> None:
        """End the fork server and its executors."""
        self.socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux only)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _run_fork_server(control: socket.socket, main: ExecutorMain, supervisor: int) -> NoReturn:
    end_with_parent(supervisor)
    os.setpgid(0, 0)
    # User code gets an empty standard input. A read from a terminal would stop the process, because
    # its group is not in the foreground.
    dev_null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(dev_null, 0)
    if dev_null:
        os.close(dev_null)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.collect()
    gc.freeze()  # pages are shared with every executor, and never scanned again
    children: set[int] = set()
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(reader, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                message, fds, _, _ = socket.recv_fds(control, 256, 1)
                # 1. The supervisor has ended: kill all executors and end too.
                if not message:
                    for pid in children:
                        kill_group(pid)
                    os._exit(0)
                # 2. The supervisor asks for an executor in the slot of this index.
                own_pid, pid = os.getpid(), os.fork()
                if pid == 0:
                    selector.close()
                    control.close()
                    _run_executor(int(message), fds[0], main, own_pid)
                os.close(fds[0])
                children.add(pid)
                control.send(json.dumps(["pid", pid]).encode())
            else:
                # 3. SIGCHLD came: an executor has ended.
                os.read(reader, 4096)
                _reap(children, control)


def _reap(children: set[int], control: socket.socket) -> None:
    """Tell the supervisor of each executor that has ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        with contextlib.suppress(OSError):
            control.send(json.dumps(["exit", pid, os.waitstatus_to_exitcode(status)]).encode())


def _run_executor(index: int, fd: int, main: ExecutorMain, parent: int) -> NoReturn:
    """Run an executor in a process group of its own, with the signals of a fresh process."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _ignore_stop_signals()
        end_with_parent(parent)
        os.setpgid(0, 0)
        status = main(index, socket.socket(fileno=fd))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  nothing may escape into the fork server's loop
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _ignore_stop_signals() -> None:
    """Leave SIGTERM and SIGINT to the supervisor, but not in programs that user code starts.

    An ignored signal stays ignored in every child, after fork and after exec. A handler that does
    nothing is reset by exec, and after a fork by ``restore_default_signals``.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    def restore_default_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    os.register_at_fork(after_in_child=restore_default_signals)


def kill_group(pid: int) -> None:
    """Kill an executor and its children; a new executor may not have its own group yet."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)
