"""Waits on the wake-up list for the whole worker: no idle executor blocks on a connection."""

import contextlib
import os
import random
import threading
import time

from redismr.config import Connection
from redismr.core.model import PYTHON
from redismr.errors import RedismrError
from redismr.store import Store

WAIT_SECONDS = 10.0  # length of one wait for a token; without tokens the supervisor finds the work

# Bytes on the pipe to the supervisor.
ONE_TOKEN = b"w"
LOOK_AGAIN = b"a"  # tokens may have been missed: all idle executors must look for work
TIMED_OUT = b"t"  # a wait ended without a token


class Waker:
    """A thread with its own connection that pops tokens only while an executor is idle."""

    def __init__(self, connection: Connection, key_id: str) -> None:
        self._connection, self._key_id = connection, key_id
        self._requested = threading.Event()
        self.pipe, self._writer = os.pipe()
        os.set_blocking(self.pipe, False)

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        threading.Thread(target=self._run, name="waker", daemon=True).start()

    def request_wakeup(self) -> None:
        """Ask for one wait: an executor is idle."""
        self._requested.set()

    def take_wakeups(self) -> list[bool]:
        """Return the wake-ups since the last call; True in the list means: wake all idle executors.

        A wait that ended without a token gives no wake-up. After each call, call
        ``request_wakeup`` if an executor is still idle.
        """
        try:
            received = os.read(self.pipe, 4096)
        except BlockingIOError:
            return []
        return [byte == ord(LOOK_AGAIN) for byte in received if byte != ord(TIMED_OUT)]

    def _run(self) -> None:
        store = Store(self._connection, patience=0, name="redismr-waker")
        while True:
            self._requested.wait()
            # Cleared before the pop: a request that comes during the pop asks for another pop.
            self._requested.clear()
            try:
                seconds = WAIT_SECONDS * random.uniform(0.8, 1.0)
                woken = store.wait_wake(PYTHON, self._key_id, seconds)
                message = ONE_TOKEN if woken else TIMED_OUT
            except RedismrError:
                time.sleep(random.uniform(0.2, 1.0))
                message = LOOK_AGAIN
            with contextlib.suppress(OSError):
                os.write(self._writer, message)
