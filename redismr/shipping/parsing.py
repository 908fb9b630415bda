"""The one place where sources of the user's are parsed."""

import ast
import threading

_parse_lock = threading.Lock()


def parse_source(source: str) -> ast.Module | None:
    """Return the syntax tree; None if Python cannot parse the source."""
    try:
        with _parse_lock:  # in Python 3.11 two threads that parse at once may get a SystemError
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
