"""Warnings about what a program hands to us, at the line where it does so."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from types import FrameType

_HERE = os.path.join(os.path.dirname(__file__), "")


class Advice(UserWarning):
    """Something works, and could be done better. Python shows each text once for each line."""


def advise(text: str) -> None:
    """Warn at the innermost line that is not ours, however deep in us the reason was found."""
    ours = sum(1 for _ in _frames_of_ours(sys._getframe()))  # noqa: SLF001  the way to frames
    warnings.warn(text, Advice, stacklevel=ours + 1)


def _frames_of_ours(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        yield frame
        frame = frame.f_back
