"""The fork server: deaths are events that come by themselves, and nobody outlives anybody."""

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
from support import eventually, runs

from redismr.workers import process
from redismr.workers.nursery import Exit, Nursery

if TYPE_CHECKING:
    from collections.abc import Iterator

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs PDEATHSIG")


def obedient(_index: int, line: socket.socket) -> int:
    """An executor that ends as it is told: by a status, by a signal ("-9"), by an exception."""
    word = line.recv(100).decode()
    if word == "raise":
        raise SystemExit(5)
    if word.startswith("-"):
        os.kill(os.getpid(), -int(word))
        time.sleep(60)
    return int(word or 0)


def reading(_index: int, _line: socket.socket) -> int:
    """An executor whose user code reads standard input."""
    return len(os.read(0, 1))


def test_user_code_reads_the_end_of_standard_input():
    ours, theirs = os.pipe()  # never ends, as a terminal
    before = os.dup(0)
    os.dup2(ours, 0)
    nursery = Nursery(reading)
    try:
        pid, line = nursery.spawn(0)
        assert told(nursery) == [Exit(pid, 0)]
        line.close()
    finally:
        nursery.close()
        os.dup2(before, 0)
        for each in (ours, theirs, before):
            os.close(each)


@pytest.mark.parametrize("chosen", ["0", "os.getpid"])
def test_a_breakpoint_may_be_switched_off_or_be_another_debugger(monkeypatch, chosen):
    monkeypatch.setenv("PYTHONBREAKPOINT", chosen)
    assert process._breakpoint() == (os.getpid() if chosen != "0" else None)


@pytest.fixture
def nursery() -> Iterator[Nursery]:
    nursery = Nursery(obedient)
    yield nursery
    with contextlib.suppress(ProcessLookupError, OSError):
        nursery.close()


def told(nursery: Nursery) -> list[Exit]:
    """What comes on the socket; asks nobody."""
    assert select.select([nursery.socket], [], [], 10)[0], "no event came"
    return nursery.exits()


def close(children: list[tuple[int, socket.socket]]) -> None:
    for _, line in children:
        line.close()


@pytest.mark.parametrize(
    ("word", "status"), [("0", 0), ("75", 75), ("-9", -9), ("-10", -10), ("raise", 1)]
)
def test_a_death_is_an_event_with_its_cause(nursery, word, status, capfd):
    pid, line = nursery.spawn(0)
    assert nursery.exits() == []
    line.send(word.encode())
    assert told(nursery) == [Exit(pid, status)]
    assert nursery.exits() == []
    close([(pid, line)])


def test_deaths_that_come_while_one_is_spawned_are_not_lost(nursery):
    children = [nursery.spawn(index) for index in range(5)]
    for _, line in children:
        line.send(b"3")
    for pid, _ in children:
        eventually(lambda pid=pid: not runs(pid))
    last, line = nursery.spawn(5)
    found = list(nursery.early)
    while len(found) < 5:
        found = [*found, *told(nursery)]
    assert {(gone.pid, gone.status) for gone in found} == {(pid, 3) for pid, _ in children}
    assert runs(last)
    close([*children, (last, line)])


def test_the_end_of_the_supervisor_ends_all(nursery):
    children = [nursery.spawn(index) for index in range(3)]
    nursery.close()
    eventually(lambda: not any(runs(pid) for pid, _ in children))
    close(children)


@LINUX
def test_executors_die_with_the_fork_server(nursery):
    children = [nursery.spawn(index) for index in range(3)]
    os.kill(nursery.pid, signal.SIGKILL)
    eventually(lambda: not any(runs(pid) for pid, _ in children))
    with pytest.raises(OSError, match="ended"):
        told(nursery)
    close(children)
