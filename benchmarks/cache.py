"""The folder of inputs, and the scale of their sizes. An input is made at its first use.

``$REDISMR_BENCH_CACHE`` names the folder; the default is in the user's cache.
``$REDISMR_BENCH_SCALE`` is the share of each input's full size that is made and read: 1 for
figures, less for tests.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def scale() -> float:
    """Return the share of its full size that every input has."""
    return float(os.environ.get("REDISMR_BENCH_SCALE") or 1)


def scaled(number: int) -> int:
    """Return the number at this scale; at least one."""
    return max(1, round(number * scale()))


def cache_folder() -> Path:
    """Return the folder of the inputs that were made or downloaded once."""
    named_folder = os.environ.get("REDISMR_BENCH_CACHE")
    if named_folder:
        return Path(named_folder)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "redismr-benchmarks"


def load_into_page_cache(paths: Iterable[str]) -> None:
    """Read the files once, so that no side reads them from the disk for the sides after it.

    A virtual machine may lose its page cache while nobody reads: after three minutes of other
    sides, redismr's word count waited for the disk for a quarter of its time, and the Pool, which
    ran next, read from memory.
    """
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def make_once(name: str, make: Callable[[Path], object], *, size: float | None = None) -> Path:
    """Return the folder of that name; ``make`` fills it first if it does not exist.

    ``make`` fills a folder beside the final one, which is then renamed, so no input is ever
    incomplete.
    """
    share = scale() if size is None else size
    folder = cache_folder() / (name if share == 1 else f"{name}-{share:g}")
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        fresh = Path(scratch) / name
        fresh.mkdir()
        make(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    return folder
