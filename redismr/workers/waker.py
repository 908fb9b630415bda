"""Waits on the wake-up list for the whole worker: idle executors block on no connection."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time

from redismr.config import Connection
from redismr.core.model import PYTHON
from redismr.errors import RedismrError
from redismr.store import Store

WAIT_SECONDS = 10.0
"""For how long a token is waited for at a time. Who finds work without one is the supervisor."""


class Waker:
    """One thread and one connection; pops a token only while an executor is idle."""

    def __init__(self, connection: Connection, key_id: str) -> None:
        self._connection, self._key_id = connection, key_id
        self._requested = threading.Event()
        self.pipe, self._writer = os.pipe()
        os.set_blocking(self.pipe, False)

    def start(self) -> None:
        """Start waiting. Ends with the process."""
        threading.Thread(target=self._run, name="waker", daemon=True).start()

    def request_wakeup(self) -> None:
        """An executor is idle."""
        self._requested.set()

    def take_wakeups(self) -> list[bool]:
        """What came since the last call: False for one token, True for "look again, all".

        Nothing, if a wait was over: then ``request_wakeup`` asks for the next one, if somebody is
        idle still.
        """
        try:
            return [byte == ord("a") for byte in os.read(self.pipe, 4096) if byte != ord("t")]
        except BlockingIOError:
            return []

    def _run(self) -> None:
        store = Store(self._connection, patience=0, name="redismr-waker")
        while True:
            self._requested.wait()
            # Before the pop: a wish that comes during it asks for another one.
            self._requested.clear()
            try:
                seconds = WAIT_SECONDS * random.uniform(0.8, 1.0)
                woken = store.wait_wake(PYTHON, self._key_id, seconds)
                message = b"w" if woken else b"t"
            except RedismrError:
                time.sleep(random.uniform(0.2, 1.0))
                message = b"a"
            with contextlib.suppress(OSError):
                os.write(self._writer, message)
