"""Warn about what a program passes to redismr, at the line where it does so."""

import os
import sys
import warnings
from types import FrameType

REDISMR_FOLDER = os.path.join(os.path.dirname(__file__), "")  # ends with a separator


class Advice(UserWarning):
    """The program works, but could do better. Python shows each text once for each line."""


def warn_user(text: str) -> None:
    """Warn at the innermost line outside redismr, however deep in redismr the caller is."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  the way to frames
    depth = 1
    while frame is not None and frame.f_code.co_filename.startswith(REDISMR_FOLDER):
        frame, depth = frame.f_back, depth + 1
    warnings.warn(text, Advice, stacklevel=depth)
