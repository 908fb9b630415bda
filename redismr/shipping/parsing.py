"""The syntax tree of a user's source, for all that asks what the source says."""

from __future__ import annotations

import ast
import threading

_parse_lock = threading.Lock()


def parse_source(source: str) -> ast.Module | None:
    """The tree; None if Python cannot read the source."""
    try:
        with _parse_lock:  # in Python 3.11 two threads at once get a SystemError now and then
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
