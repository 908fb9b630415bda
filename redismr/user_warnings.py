"""Warnings about what a program hands to us, at the line where it does so."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from types import FrameType

REDISMR_FOLDER = os.path.join(os.path.dirname(__file__), "")


class Advice(UserWarning):
    """Something works, and could be done better. Python shows each text once for each line."""


def warn_user(text: str) -> None:
    """Warn at the innermost line that is not ours, however deep in us the reason was found."""
    depth = sum(1 for _ in _redismr_frames(sys._getframe()))  # noqa: SLF001  the way to frames
    warnings.warn(text, Advice, stacklevel=depth + 1)


def _redismr_frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame.f_code.co_filename.startswith(REDISMR_FOLDER):
        yield frame
        frame = frame.f_back
