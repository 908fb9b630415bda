"""Warn about what a program passes to redismr, at the line where it does so."""

import os
import sys
import warnings
from collections.abc import Iterator
from types import FrameType

REDISMR_FOLDER = os.path.join(os.path.dirname(__file__), "")
"""The folder of this package; ends with a separator."""


class Advice(UserWarning):
    """The program works, but could do better. Python shows each text once for each line."""


def warn_user(text: str) -> None:
    """Warn at the innermost line outside redismr, however deep in redismr the caller is."""
    depth = sum(1 for _ in _redismr_frames(sys._getframe()))  # noqa: SLF001  the way to frames
    warnings.warn(text, Advice, stacklevel=depth + 1)


def _redismr_frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame.f_code.co_filename.startswith(REDISMR_FOLDER):
        yield frame
        frame = frame.f_back
