"""Which processes may wait for this one: those that it descends from."""

from __future__ import annotations

import os
import socket
from pathlib import Path

Place = tuple[str, int]
"""Host and process id."""


def here() -> Place:
    """This process, in words for others."""
    return socket.gethostname(), os.getpid()


def descends_from(place: Place) -> bool:
    """Whether that is this process, its parent or, where /proc tells, an earlier one."""
    host, wanted = place
    pid, seen = os.getpid(), {0}
    while host == socket.gethostname() and pid not in seen:
        if pid == wanted:
            return True
        seen.add(pid)
        pid = os.getppid() if len(seen) == 2 else _parent(pid)
    return False


def _parent(pid: int) -> int:
    try:
        # After the name, which may hold anything: state, parent.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0
