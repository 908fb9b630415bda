"""Fixtures for attacks: an attacker can write to Redis and has no secret.

Most tests run the worker in this process: ``SteppedWorker`` is the real executor and the real lease
keeper, driven step by step, so that an attack comes exactly between two steps.
"""

from __future__ import annotations

import contextlib
import pickle
import socket
import time
from typing import Any

import pytest
from system.processes import SECRET, Processes

import redismr
from redismr.config import Connection
from redismr.core.seal import Keyring
from redismr.store import Store
from redismr.workers.executor import Executor, ExecutorSetup, Served
from redismr.workers.leases import LeaseKeeper
from redismr.workers.shared_slots import Slots

ESCAPE = "\x1b]0;owned\x07\x1b[2J\r"
"""Text that must never reach a terminal."""

# The functions are in no module: they travel by value, and loading them changes nothing here.
_WORLD: dict[str, Any] = {"__name__": "__main__"}
exec(  # noqa: S102
    """
def mapfn(key, value):
    for i in range(120):
        yield f"{key}.{i}", str(value) * 60
    yield "shared", value

def reducefn(key, values):
    return [v for v in values] * 3

def tiny(key, value):
    yield value % 3, value

def dice(key, value):
    import os
    for i in range(int.from_bytes(os.urandom(1), "big") % 20 + 20):
        yield f"{key}.{i}", os.urandom(100).hex() * 2
    yield f"count {key}", i + 1

def boom(key, value):
    raise ValueError("no luck")
""",
    _WORLD,
)
mapfn, reducefn, tiny, dice, boom = (
    _WORLD[name] for name in ("mapfn", "reducefn", "tiny", "dice", "boom")
)
SOURCE = {"a": 1, "b": 2, "c": 3}


def sequential(source: dict[str, int] = SOURCE) -> dict[str, Any]:
    """Return the right result of the job."""
    groups: dict[str, list[Any]] = {}
    for key, value in source.items():
        for k, v in mapfn(key, value):
            groups.setdefault(k, []).append(v)
    return {k: reducefn(k, values) for k, values in groups.items()}


class PickleBomb:
    """An object that makes a file when it is unpickled."""

    def __init__(self, path: Any) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


class SteppedWorker:
    """A worker in this process: the real executor and lease keeper, one step at a time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.keyring = Keyring(connection.secret, connection.namespace)
        self._lines: list[socket.socket] = []
        self._count = 0
        self.new_executor()

    def new_executor(self) -> Executor:
        """Start another executor, which knows no job yet."""
        self._count += 1
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self._lines += [ours, theirs]
        self.notices = ours
        setup = ExecutorSetup(Slots(1).all[0], theirs, f"stepped:{self._count}")
        self.executor = Executor(setup, self.connection, self.keyring)
        self.executor.store.server.patience = 5
        self.leases = LeaseKeeper(self.executor.store, self.executor.reporter.fail_altered_job)
        return self.executor

    def step(self) -> bool:
        """Serve one job for a turn; return False if there was nothing to do."""
        outcome = self.executor._serve_next()
        if outcome is Served.NEEDS_NEW_PROCESS:
            self.new_executor()
        with contextlib.suppress(BlockingIOError):
            self.notices.recv(65536)
        self.executor._skip_until.clear()
        return outcome is not Served.NOTHING

    def close(self) -> None:
        for line in self._lines:
            line.close()


class AttackTestbed:
    """One job on a server that an attacker can write to."""

    def __init__(self, server: Any, tmp_path: Any, namespace: str = "redismr") -> None:
        self.connection = Connection(url=server.url, secret=SECRET, namespace=namespace)
        self.client = redismr.Client(server.url, secret=SECRET, namespace=namespace)
        self.redis = server.client()
        self.store = Store(self.connection, patience=5)
        self.keys = self.store.keys
        self.worker = SteppedWorker(self.connection)
        self.marker = tmp_path / "marker"
        self.bomb = pickle.dumps(PickleBomb(self.marker))

    def submit(self, function: Any = mapfn, source: Any = SOURCE, **options: Any) -> Any:
        chosen = {"partitions": 2, "lease": 0.1, "chunk": 1} | options
        self.job = self.client.submit(source, function, chosen.pop("reducefn", reducefn), **chosen)
        return self.job

    def key(self, name: str, job: Any = None) -> str:
        """Return the full name of a control key."""
        return self.keys.control((job or self.job).id, name)

    def run_until(self, state: str, timeout: float = 10) -> None:
        """Run one task after another until the job is in ``state``."""
        deadline = time.monotonic() + timeout
        while self.store.status(self.job.id).state != state:
            assert time.monotonic() < deadline
            self.run_one_task()

    def run_one_task(self) -> None:
        """Claim and commit exactly one task."""
        store = self.worker.executor.store
        claim, commit = store.claim, store.commit
        store.claim = lambda job, name, nonce, *_few, **o: claim(job, name, nonce, 1, 1, **o)
        store.commit = lambda job, name, commits, _nonce, _want, *a, **o: commit(
            job, name, commits, "", 0, *a, **o
        )
        try:
            self.worker.step()
        finally:
            store.claim, store.commit = claim, commit
            self.worker.executor._current_session = None

    def outcome(self, handle: Any = None, timeout: float = 12) -> Any:
        """Work until the job ends; return its result as a dict, or its error."""
        handle = handle or self.job
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            busy = False
            with contextlib.suppress(redismr.StoreError):  # as the supervisor does
                self.worker.leases.reclaim()
            with contextlib.suppress(redismr.StoreError):  # a supervisor would start another
                busy = self.worker.step()
            try:
                return dict(handle.result(timeout=0.0 if busy else 0.01))
            except redismr.JobTimeout:
                continue
            except redismr.RedismrError as error:
                return error
        pytest.fail(f"the job hangs: {self.store.status(handle.id)}")

    def check(self, outcome: Any, right: Any = None) -> None:
        """Check for the right result or a readable error, and that nothing was unpickled."""
        assert not self.marker.exists(), "bytes of the attacker were unpickled"
        if isinstance(outcome, Exception):
            assert len(str(outcome)) > 20
            assert_printable(str(outcome))
            assert SECRET not in str(outcome) + repr(outcome)
        else:
            assert outcome == (sequential() if right is None else right)

    def close(self) -> None:
        self.worker.close()
        self.client.close()
        self.store.server.close()


def assert_printable(text: str) -> None:
    unprintable = [c for c in text if not (c.isprintable() or c in "\n\t")]
    assert not unprintable, (unprintable, text[:300])


@pytest.fixture
def testbed(server, tmp_path):
    testbed = AttackTestbed(server, tmp_path)
    yield testbed
    testbed.close()


@pytest.fixture
def processes(server, tmp_path):
    """Return a starter of real workers, which kills them at the end of the test."""
    processes = Processes(server.url, tmp_path / "processes")
    yield processes
    processes.close()
