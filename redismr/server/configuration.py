"""The configuration of a private server, and the place of its files."""

import contextlib
import os
import tempfile
from pathlib import Path

MAX_SOCKET_PATH_BYTES = 103  # on macOS; Linux takes four bytes more


def make_directory() -> str:
    """Make a directory for this user alone, whose path is short enough for a socket in it."""
    parent = str(Path(tempfile.gettempdir()).absolute())
    if len(os.fsencode(parent)) + len("/redismr-12345678/s") > MAX_SOCKET_PATH_BYTES:
        parent = "/tmp"  # noqa: S108 - the directory in it is made by mkdtemp
    return tempfile.mkdtemp(prefix="redismr-", dir=parent)


def server_configuration(
    socket_path: str, bind: str | None, users: str, maxmemory: int | None
) -> str:
    """Return a configuration with a unix socket, these users, and nothing kept on disk.

    A TCP port, with ``bind``, stays closed at first. ``maxmemory`` None is half of the memory.
    """
    return (
        ("" if bind is None else f"bind {bind or '*'}\n")
        + "port 0\n"  # the early listener has the port until PrivateServer.listen
        "protected-mode no\n"  # It would refuse everybody else: there is no default user.
        f"unixsocket {_quoted_word(socket_path)}\n"
        "unixsocketperm 600\n"
        f"dir {_quoted_word(os.path.dirname(socket_path))}\n"
        'save ""\n'
        "appendonly no\n"
        f"maxmemory {_half_the_memory() if maxmemory is None else maxmemory}\n"
        "maxmemory-policy noeviction\n"
        # Measured: the expiry of a hash of a million fields stalls the server for 240 ms.
        "lazyfree-lazy-expire yes\n"
        "lazyfree-lazy-user-del yes\n"
        # SIGTERM is noticed at the next tick: 20 ms instead of 100, for 0.2 % of a core.
        "hz 50\n"
        "loglevel warning\n" + users
    )


def _quoted_word(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def _half_the_memory() -> int:
    """Return half the memory of the machine or container, so that a full server does not swap."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError, ValueError):  # Not in a container, or "max".
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return memory // 2
