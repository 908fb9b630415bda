"""The fork server: a small process with one thread that forks executors on request.

It is forked from the supervisor while that still has one thread and has imported everything, so an
executor is warm within milliseconds and never inherits a lock held by another thread. It ends, and
kills its executors, when the supervisor does.
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
from typing import NoReturn

_PR_SET_PDEATHSIG = 1

ExecutorMain = Callable[[int, socket.socket], int]


@dataclass(frozen=True, slots=True)
class ExecutorExit:
    """An executor ended: ``status`` as from ``os.waitstatus_to_exitcode`` (negative: a signal)."""

    pid: int
    status: int

    @property
    def cause(self) -> str:
        """What ended it, in words."""
        if self.status < 0:
            with contextlib.suppress(ValueError):
                return f"its process was killed by {signal.Signals(-self.status).name}"
            return f"its process was killed by signal {-self.status}"
        return f"its process exited with status {self.status}"


class ForkServer:
    """The supervisor's end: asks for executors, hears of their deaths."""

    def __init__(self, main: ExecutorMain) -> None:
        """Fork the fork server. Call before any thread is started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _run_fork_server(theirs, main, parent)
        theirs.close()
        self.socket = ours
        #: Deaths that ``spawn`` heard of, for the next ``read_exits``; the socket is silent about
        # them.
        self.pending_exits: list[ExecutorExit] = []

    def spawn(self, index: int) -> tuple[int, socket.socket]:
        """Start an executor in a slot; returns its pid and our end of its control socket.

        Raises:
            OSError: the fork server is gone.
        """
        ours, theirs = socket.socketpair()
        socket.send_fds(self.socket, [str(index).encode()], [theirs.fileno()])
        theirs.close()
        while True:
            message = self.socket.recv(256)
            if not message:
                raise OSError("the fork server has ended")
            kind, pid, *rest = json.loads(message)
            if kind == "pid":
                return pid, ours
            self.pending_exits.append(ExecutorExit(pid, rest[0]))

    def read_exits(self) -> list[ExecutorExit]:
        """Deaths heard of since the last call; does not block.

        Raises:
            OSError: the fork server is gone, and its executors with it.
        """
        exits, self.pending_exits = self.pending_exits, []
        while True:
            try:
                message = self.socket.recv(256, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return exits
            if not message:
                raise OSError("the fork server has ended")
            _, pid, status = json.loads(message)
            exits.append(ExecutorExit(pid, status))

    def close(self) -> None:
        """End the fork server and whatever executors it still has."""
        self.socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def end_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux); no-op elsewhere."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _run_fork_server(control: socket.socket, main: ExecutorMain, supervisor: int) -> NoReturn:
    """The fork server's whole life."""
    end_with_parent(supervisor)
    os.setpgid(0, 0)
    _give_empty_stdin()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.collect()
    gc.freeze()  # what is warm now is shared with every executor, and never scanned again
    children: set[int] = set()
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    selector.register(reader, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                message, fds, _, _ = socket.recv_fds(control, 256, 1)
                if not message:
                    for pid in children:
                        kill_group(pid)
                    os._exit(0)
                own_pid, pid = os.getpid(), os.fork()
                if pid == 0:
                    selector.close()
                    control.close()
                    _run_executor(int(message), fds[0], main, own_pid)
                os.close(fds[0])
                children.add(pid)
                control.send(json.dumps(["pid", pid]).encode())
            else:
                os.read(reader, 4096)
                _reap(children, control)


def _give_empty_stdin() -> None:
    """Have what user code reads from standard input end at once.

    At a terminal a read would stop the process, which is of no group in the foreground.
    """
    dev_null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(dev_null, 0)
    if dev_null:
        os.close(dev_null)


def _reap(children: set[int], control: socket.socket) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        with contextlib.suppress(OSError):
            control.send(json.dumps(["exit", pid, os.waitstatus_to_exitcode(status)]).encode())


def _run_executor(index: int, fd: int, main: ExecutorMain, parent: int) -> NoReturn:
    """The new executor: its own process group, default signals but for the terminal's."""
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
    """SIGTERM and SIGINT are the supervisor's to answer; yet what user code starts must obey them.

    An ignored signal stays ignored in every child, by fork and by exec. A handler that does nothing
    is reset by exec, and by us after a fork.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    def restore_default_signals() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    os.register_at_fork(after_in_child=restore_default_signals)


def kill_group(pid: int) -> None:
    """End an executor and what it started; one that is new may have no group of its own yet."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)
