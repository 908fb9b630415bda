"""The part that all sides of the sort share: ranges, and a hash of the files that they write."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.cache import cache_folder
from benchmarks.measure import Side

T = TypeVar("T")

RANGES = 16
"""Number of part files of tools that sort range by range; GNU sort writes one file."""


def side(
    open_tool: Callable[[], AbstractContextManager[T]],
    warm: Callable[[T], object],
    sort: Callable[[Path, T], Sequence[Path]],
) -> Side[Any]:
    """Return a side that sorts into an empty folder; its parts are compared as one file."""

    @contextmanager
    def opened() -> Iterator[tuple[Path, T]]:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder, open_tool() as ready:
            yield Path(folder), ready

    return Side(
        open_tool=opened,
        warm=lambda pair: warm(pair[1]),
        work=lambda pair: sort(*pair),
        digest=_fingerprint,
    )


def _fingerprint(parts: Sequence[Path]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()
