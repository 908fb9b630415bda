"""Compare redismr with mincemeat.py itself: the same scripts, two workers each, in turn.

``python -m benchmarks.ancestors`` runs every row, ``python -m benchmarks.ancestors runs100`` one.
A side is a folder with a ``mincemeat.py`` in it. There are three: a few lines that import
redismr's; the original from PyPI, which needs Python 2.7; and the original with the bytes and
iterators of Python 3, as in the fastest of its forks, which needs Python 3.11 or older. Without
the last two, redismr is compared with the sequential loop alone. The program prints a table, then
one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import mincemeat_jobs
from benchmarks.corpus import cache_folder

WORKERS = 2
MIN_SPEEDUP = 3.0
RUN_TIMEOUT_SECONDS = 300
SEQUENTIAL, REDISMR = "sequential", "redismr"
PROGRAM = mincemeat_jobs.__file__

SHIM = """from redismr.compat.mincemeat import *
if __name__ == "__main__":
    run_client()
"""
MINCEMEAT_SHA256 = "28cfde2d829c41107e52f57d5aee96b8a3376c850ab2d571b9993c6bdd0bf14a"
PYTHON_3_PATCHES = (
    (r"cPickle as pickle", "pickle"),
    (r"set_terminator\(\"\\n\"\)", 'set_terminator(b"\\\\n")'),
    (r"push\(command \+ \"\\n\" \+ pdata\)", 'push(command.encode() + b"\\\\n" + pdata)'),
    (r"push\(command \+ \"\\n\"\)", 'push(command.encode() + b"\\\\n")'),
    (r"pickle\.loads\(''\.join", "pickle.loads(b''.join"),
    (r" ''\.join\((self\.buffer)\)", r" b''.join(\1).decode()"),
    (r"\(''\.join\((self\.buffer)\)", r"(b''.join(\1).decode()"),
    (r"(os\.urandom\(20\)|mac\.digest\(\))\.encode\(\"hex\"\)", r"\1.hex()"),
    (r"hmac\.new\(self\.password, ", "hmac.new(self.password.encode(), "),
    (r"(data|self\.auth), (hashlib\.sha1)", r"\1.encode(), \2"),
    (r"(self\.\w+_iter)\.next\(\)", r"next(\1)"),
    (r"([\w.\[\]]+)\.iteritems\(\)", r"iter(\1.items())"),
    (r"random\.choice\((self\.\w+)\.keys\(\)\)", r"random.choice(list(\1))"),
    (r"\.func_code", ".__code__"),
    (r"self\.setsockopt", "self.socket.setsockopt"),
)
"""(pattern, replacement): the changes with which mincemeat.py 0.1.4 runs on Python 3, no others."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """One ``mincemeat`` and the Python that runs it."""

    name: str
    python: str
    folder: Path | None = None

    def command(self, *words: object) -> list[str]:
        """Return the command with which this side runs the program of the rows."""
        return [self.python, PROGRAM, *map(str, words)]

    @property
    def environ(self) -> dict[str, str]:
        """The environment without variables that name a server of the user's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("REDISMR_", "REDIS_URL"))}
        return kept | {"PYTHONPATH": os.pathsep.join(self._path()), "PYTHONWARNINGS": "ignore"}

    def _path(self) -> Iterator[str]:
        if self.folder:
            yield str(self.folder)
        if self.name == REDISMR:
            yield str(Path(PROGRAM).parents[1])


def main() -> int:
    """Run the given rows; return 1 if ``--check`` is given and a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    rows = tuple(mincemeat_jobs.ROWS)
    parser.add_argument("rows", nargs="*", help=f"of: {' '.join(rows)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="fetch and run no ancestor")
    parser.add_argument("--check", action="store_true", help="exit 1 if a floor is missed")
    args = parser.parse_args()
    if unknown := set(args.rows) - set(rows):
        parser.error(f"no such row: {' '.join(sorted(unknown))}")
    sides = [
        Implementation(SEQUENTIAL, sys.executable),
        _redismr_side(),
        *([] if args.alone else _ancestors()),
    ]
    load = os.getloadavg()[0]
    print(f"python {platform.python_version()}, {os.cpu_count()} cores, load before {load:.1f}")
    sys.stdout.flush()
    reports = [_run_row(row, sides, args.rounds) for row in args.rows or rows]
    print(json.dumps(reports))
    return int(args.check and not all(report["met"] for report in reports))


def _run_row(row: str, sides: list[Implementation], rounds: int) -> dict[str, Any]:
    runs: dict[str, list[dict[str, Any]]] = {side.name: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            runs[side.name].append(_run_side(side, row))
    digests = {run["digest"] for side_runs in runs.values() for run in side_runs}
    if len(digests) != 1:
        raise SystemExit(f"{row}: results differ: {digests}")
    work = {name: median(run["work"] for run in side_runs) for name, side_runs in runs.items()}
    title = str(mincemeat_jobs.ROWS[row].__doc__).rstrip(".")
    print(f"\n{title}\n  {'side':<28}{'work s':>9}{'x sequential':>14}")
    for name, seconds in work.items():
        print(f"  {name:<28}{seconds:>9.2f}{seconds / work[SEQUENTIAL]:>14.1f}")
    others = [seconds for name, seconds in work.items() if name not in {SEQUENTIAL, REDISMR}]
    speedup = min(others) / work[REDISMR] if others else None
    met = speedup is None or speedup >= MIN_SPEEDUP
    if speedup is not None:
        verdict = "met" if met else "MISSED"
        print(
            f"  {speedup:.1f} times faster than the best ancestor "
            f"(floor: {MIN_SPEEDUP:g}): {verdict}"
        )
    sys.stdout.flush()
    return {"row": row, "title": title, "figure": speedup, "met": met, "work": work, "runs": runs}


def _run_side(side: Implementation, row: str) -> dict[str, Any]:
    """Run a row once in a fresh process, with fresh workers."""
    port = free_port()
    words = ("loop", row) if side.folder is None else ("run", row, port)
    with workers(side, port):
        done = subprocess.run(
            side.command(*words), env=side.environ, stdout=subprocess.PIPE, check=True, text=True,
            timeout=RUN_TIMEOUT_SECONDS,
        )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def workers(side: Implementation, port: int) -> Iterator[None]:
    """Start two workers that wait for the server, and end them after the body."""
    command = side.command("work", port)
    quiet = subprocess.DEVNULL  # workers print a traceback each time that no server is there yet
    started = [
        subprocess.Popen(
            command, env=side.environ, stdout=quiet, stderr=quiet, start_new_session=True
        )
        for _ in range(WORKERS if side.folder else 0)
    ]
    try:
        yield
    finally:
        for worker in started:
            os.killpg(worker.pid, signal.SIGTERM)
        for worker in started:
            worker.wait()


def _redismr_side() -> Implementation:
    folder = cache_folder() / "mincemeat-ours"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mincemeat.py").write_text(SHIM, encoding="utf-8")
    return Implementation(REDISMR, sys.executable, folder)


def _ancestors() -> Iterator[Implementation]:
    """Yield the original and its port, each if a Python that runs it is installed."""
    original = cache_folder() / "mincemeat-0.1.4"
    if not (original / "mincemeat.py").exists() and not fetch_mincemeat(original):
        print("mincemeat 0.1.4 cannot be downloaded: no ancestor to compare with", file=sys.stderr)
        return
    if importlib.util.find_spec("asyncore"):
        ported = cache_folder() / "mincemeat-ported"
        ported.mkdir(exist_ok=True)
        text = (original / "mincemeat.py").read_text(encoding="utf-8")
        for pattern, replacement in PYTHON_3_PATCHES:
            text = re.sub(pattern, replacement, text)
        (ported / "mincemeat.py").write_text(text, encoding="utf-8")
        yield Implementation("mincemeat.py, Python 3", sys.executable, ported)
    else:
        print("this Python has no asyncore: the port of the original is left out", file=sys.stderr)
    if python := find_python2():
        yield Implementation("mincemeat.py, Python 2.7", python, original)
    else:
        print("there is no Python 2.7: the original is left out", file=sys.stderr)


def fetch_mincemeat(folder: Path) -> bool:
    """Download the original, one file, into ``folder``; False if there is no access to PyPI."""
    folder.mkdir(parents=True, exist_ok=True)
    options = ["mincemeat==0.1.4", "--no-binary", ":all:", "--no-deps", "-qqd", str(folder)]
    if subprocess.run([sys.executable, "-m", "pip", "download", *options], check=False).returncode:
        return False
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        member = tar.extractfile("mincemeat-0.1.4/mincemeat.py")
        assert member is not None
        text = member.read()
    if hashlib.sha256(text).hexdigest() != MINCEMEAT_SHA256:
        raise SystemExit(f"{archive} does not hold the expected mincemeat.py")
    (folder / "mincemeat.py").write_bytes(text)
    return True


def find_python2() -> str | None:
    """Return a Python 2.7 of this machine, or None."""
    candidates = [shutil.which("python2.7"), shutil.which("python2")]
    candidates += map(str, Path.home().glob(".pyenv/versions/2.7*/bin/python"))
    for python in filter(None, candidates):
        done = subprocess.run([python, "-c", "import asyncore"], capture_output=True, check=False)
        if done.returncode == 0:
            return python
    return None


def free_port() -> int:
    """Return a port that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
