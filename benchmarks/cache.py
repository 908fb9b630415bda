"""Where inputs are kept, and how large they are: made on first use, whole or not at all.

``$REDISMR_BENCH_CACHE`` names the folder, else the user's cache has one. ``$REDISMR_BENCH_SCALE``
is the share of each input's full size that is made and read: 1 for figures, less for tests.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def scale() -> float:
    """The share of full size that every input has."""
    return float(os.environ.get("REDISMR_BENCH_SCALE") or 1)


def scaled(number: int) -> int:
    """So many, at this scale; at least one."""
    return max(1, round(number * scale()))


def cache_folder() -> Path:
    """Where the benchmarks keep what they have made or fetched once."""
    given = os.environ.get("REDISMR_BENCH_CACHE")
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "redismr-benchmarks"


def load_into_page_cache(paths: Iterable[str]) -> None:
    """Have the files in memory: who runs first would else read from the disk for the others.

    A virtual machine may be taken its page cache while nobody reads: after three minutes of other
    sides, our word count waited for the disk for a quarter of its time, and the Pool after it read
    from memory.
    """
    for path in paths:
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass


def make_once(name: str, make: Callable[[Path], object], *, size: float | None = None) -> Path:
    """The folder of that name, filled by ``make`` if need be.

    ``make`` gets a folder beside the final one, which is then renamed: never half an input.
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
