"""Tells Ctrl-C from a KeyboardInterrupt that a user function raises by itself."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupts:
    """Takes note of Ctrl-C in its body; whoever handled it before handles it still."""

    def __init__(self) -> None:
        self._seen = False
        self._before: Any = None

    def __enter__(self) -> Self:
        # Only the main thread hears of signals.
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):  # neither ignored, nor handled outside Python
                self._before = before
                try:
                    signal.signal(signal.SIGINT, self._handle)
                except ValueError:  # the main thread of a sub-interpreter hears of none
                    self._before = None
            else:
                self._seen = before is None
        return self

    def __exit__(self, *_: object) -> None:
        # A user function may have set another handler, which stays.
        if self._before is not None and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._before)

    def explain(self, error: BaseException) -> bool:
        """Whether the error is what Ctrl-C raises, and Ctrl-C may have raised it."""
        return isinstance(error, KeyboardInterrupt) and self._seen

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._seen = True
        self._before(number, frame)
