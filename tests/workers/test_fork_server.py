"""The fork server: exits come as events, and no process outlives its parent."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import pytest
from support import eventually, is_running

from redismr.workers import process_setup
from redismr.workers.fork_server import ExecutorExit, ForkServer

if TYPE_CHECKING:
    from collections.abc import Iterator

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs PDEATHSIG")


def exit_as_told(_index: int, line: socket.socket) -> int:
    """End as the received word says: with a status, by a signal ("-9"), by an exception."""
    word = line.recv(100).decode()
    if word == "raise":
        raise SystemExit(5)
    if word.startswith("-"):
        os.kill(os.getpid(), -int(word))
        time.sleep(60)
    return int(word or 0)


def read_stdin(_index: int, _line: socket.socket) -> int:
    """Read standard input, as user code may."""
    return len(os.read(0, 1))


def test_user_code_reads_the_end_of_standard_input():
    ours, theirs = os.pipe()  # never ends, as a terminal
    before = os.dup(0)
    os.dup2(ours, 0)
    fork_server = ForkServer(read_stdin)
    try:
        pid, line = fork_server.spawn(0)
        assert next_exits(fork_server) == [ExecutorExit(pid, 0)]
        line.close()
    finally:
        fork_server.close()
        os.dup2(before, 0)
        for each in (ours, theirs, before):
            os.close(each)


@pytest.mark.parametrize("chosen", ["0", "os.getpid"])
def test_a_breakpoint_may_be_switched_off_or_be_another_debugger(monkeypatch, chosen):
    monkeypatch.setenv("PYTHONBREAKPOINT", chosen)
    assert process_setup._on_breakpoint() == (os.getpid() if chosen != "0" else None)


@pytest.fixture
def fork_server() -> Iterator[ForkServer]:
    fork_server = ForkServer(exit_as_told)
    yield fork_server
    with contextlib.suppress(ProcessLookupError, OSError):
        fork_server.close()


def next_exits(fork_server: ForkServer) -> list[ExecutorExit]:
    """Wait for an event on the socket; return the exits."""
    assert select.select([fork_server.socket], [], [], 10)[0], "no event came"
    return fork_server.read_exits()


def close(children: list[tuple[int, socket.socket]]) -> None:
    for _, line in children:
        line.close()


@pytest.mark.parametrize(
    ("word", "status"), [("0", 0), ("75", 75), ("-9", -9), ("-10", -10), ("raise", 1)]
)
def test_an_exit_is_an_event_with_its_cause(fork_server, word, status, capfd):
    pid, line = fork_server.spawn(0)
    assert fork_server.read_exits() == []
    line.send(word.encode())
    assert next_exits(fork_server) == [ExecutorExit(pid, status)]
    assert fork_server.read_exits() == []
    close([(pid, line)])


def test_exits_that_come_during_a_spawn_are_not_lost(fork_server):
    children = [fork_server.spawn(index) for index in range(5)]
    for _, line in children:
        line.send(b"3")
    for pid, _ in children:
        eventually(lambda pid=pid: not is_running(pid))
    last, line = fork_server.spawn(5)
    found = list(fork_server.pending_exits)
    while len(found) < 5:
        found = [*found, *next_exits(fork_server)]
    assert {(exited.pid, exited.status) for exited in found} == {(pid, 3) for pid, _ in children}
    assert is_running(last)
    close([*children, (last, line)])


def test_the_end_of_the_supervisor_ends_all(fork_server):
    children = [fork_server.spawn(index) for index in range(3)]
    fork_server.close()
    eventually(lambda: not any(is_running(pid) for pid, _ in children))
    close(children)


@LINUX
def test_executors_die_with_the_fork_server(fork_server):
    children = [fork_server.spawn(index) for index in range(3)]
    os.kill(fork_server.pid, signal.SIGKILL)
    eventually(lambda: not any(is_running(pid) for pid, _ in children))
    with pytest.raises(OSError, match="ended"):
        next_exits(fork_server)
    close(children)
