"""The word count that a good programmer writes by hand with ``multiprocessing.Pool``.

Combined per file in the pool's processes, merged in the parent. It shares only ``mapfn`` with the
redismr program it is compared with, and it does what one would really do: no chunk protocol, no
retries, no memory limit. ``python -m benchmarks.pool_wordcount 'texts/*.txt'`` runs it alone.
"""

from __future__ import annotations

import glob
import multiprocessing
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path


def mapfn(_name: str, text: str) -> Iterator[tuple[str, int]]:
    """Each word of a text, once for each time it stands there."""
    for word in text.split():
        yield word, 1


def count_file(path: str) -> dict[str, int]:
    """The words of one file and how often each stands in it."""
    counts: dict[str, int] = defaultdict(int)
    for word, one in mapfn(path, Path(path).read_text(encoding="utf-8")):
        counts[word] += one
    return counts


def count(pattern: str, processes: int = 2) -> dict[str, int]:
    """The words of all files that match ``pattern``."""
    totals: dict[str, int] = defaultdict(int)
    with multiprocessing.Pool(processes) as pool:
        for counts in pool.imap_unordered(count_file, sorted(glob.glob(pattern))):
            for word, number in counts.items():
                totals[word] += number
    return totals


if __name__ == "__main__":
    words = count(sys.argv[1])
    for word in sorted(words, key=words.__getitem__, reverse=True)[:10]:
        print(f"{words[word]:>10} {word}")
