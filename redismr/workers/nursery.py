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

Main = Callable[[int, socket.socket], int]


@dataclass(frozen=True, slots=True)
class Exit:
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


class Nursery:
    """The supervisor's end: asks for executors, hears of their deaths."""

    def __init__(self, main: Main) -> None:
        """Fork the fork server. Call before any thread is started."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _serve(theirs, main, parent)
        theirs.close()
        self.socket = ours
        #: Deaths that ``spawn`` heard of, for the next ``exits``; the socket is silent about them.
        self.early: list[Exit] = []

    def spawn(self, index: int) -> tuple[int, socket.socket]:
        """Start an executor in a slot; returns its pid and our end of its control line.

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
            self.early.append(Exit(pid, rest[0]))

    def exits(self) -> list[Exit]:
        """Deaths heard of since the last call; does not block.

        Raises:
            OSError: the fork server is gone, and its executors with it.
        """
        exits, self.early = self.early, []
        while True:
            try:
                message = self.socket.recv(256, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return exits
            if not message:
                raise OSError("the fork server has ended")
            _, pid, status = json.loads(message)
            exits.append(Exit(pid, status))

    def close(self) -> None:
        """End the fork server and whatever executors it still has."""
        self.socket.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent ends (Linux); no-op elsewhere."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def _serve(line: socket.socket, main: Main, supervisor: int) -> NoReturn:
    """The fork server's whole life."""
    die_with_parent(supervisor)
    os.setpgid(0, 0)
    _read_nothing()
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
    selector.register(line, selectors.EVENT_READ)
    selector.register(reader, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is line:
                message, fds, _, _ = socket.recv_fds(line, 256, 1)
                if not message:
                    for pid in children:
                        kill(pid)
                    os._exit(0)
                me, pid = os.getpid(), os.fork()
                if pid == 0:
                    selector.close()
                    line.close()
                    _become(int(message), fds[0], main, me)
                os.close(fds[0])
                children.add(pid)
                line.send(json.dumps(["pid", pid]).encode())
            else:
                os.read(reader, 4096)
                _reap(children, line)


def _read_nothing() -> None:
    """Have what user code reads from standard input end at once.

    At a terminal a read would stop the process, which is of no group in the foreground.
    """
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    if nothing:
        os.close(nothing)


def _reap(children: set[int], line: socket.socket) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        children.discard(pid)
        with contextlib.suppress(OSError):
            line.send(json.dumps(["exit", pid, os.waitstatus_to_exitcode(status)]).encode())


def _become(index: int, fd: int, main: Main, parent: int) -> NoReturn:
    """The new executor: its own process group, default signals but for the terminal's."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _shield_from_signals()
        die_with_parent(parent)
        os.setpgid(0, 0)
        status = main(index, socket.socket(fileno=fd))
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001  nothing may escape into the fork server's loop
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _shield_from_signals() -> None:
    """SIGTERM and SIGINT are the supervisor's to answer; yet what user code starts must obey them.

    An ignored signal stays ignored in every child, by fork and by exec. A handler that does nothing
    is reset by exec, and by us after a fork.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)

    def obey() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)

    os.register_at_fork(after_in_child=obey)


def kill(pid: int) -> None:
    """End an executor and what it started; one that is new may have no group of its own yet."""
    for send in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)
