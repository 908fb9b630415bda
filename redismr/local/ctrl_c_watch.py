"""Tells Ctrl-C from a KeyboardInterrupt that a user function raises itself."""

import signal
import threading
from types import FrameType
from typing import Any, Self


class CtrlCWatch:
    """Context manager that notes Ctrl-C in its body, and still calls the previous handler."""

    def __init__(self) -> None:
        self._was_pressed = False
        self._previous_handler: Any = None

    def __enter__(self) -> Self:
        # Only the main thread gets signals.
        if threading.current_thread() is threading.main_thread():
            previous = signal.getsignal(signal.SIGINT)
            if callable(previous):  # SIGINT is neither ignored nor handled outside Python
                self._previous_handler = previous
                try:
                    signal.signal(signal.SIGINT, self._handle)
                except ValueError:  # the main thread of a sub-interpreter gets no signals
                    self._previous_handler = None
            else:
                self._was_pressed = previous is None
        return self

    def __exit__(self, *_: object) -> None:
        # If a user function has set another handler, it stays.
        if self._previous_handler is not None and signal.getsignal(signal.SIGINT) == self._handle:
            signal.signal(signal.SIGINT, self._previous_handler)

    def caused(self, error: BaseException) -> bool:
        """True if the error is a KeyboardInterrupt and Ctrl-C was pressed."""
        return isinstance(error, KeyboardInterrupt) and self._was_pressed

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._was_pressed = True
        self._previous_handler(number, frame)
