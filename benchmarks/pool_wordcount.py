"""The word count that a good programmer writes by hand with ``multiprocessing.Pool``.

Combined per file in the pool's processes, merged in the parent. It shares only ``words`` with the
redismr program it is compared with, and it does what one would really do: no chunk protocol, no
retries, no memory limit. ``python -m benchmarks.pool_wordcount 'texts/*.txt'`` runs it alone.
"""

from __future__ import annotations

import glob
import multiprocessing
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks.jobs import words


def count_file(path: str) -> dict[str, int]:
    """The words of one file and how often each stands in it."""
    counts: dict[str, int] = defaultdict(int)
    for word, one in words(path, Path(path).read_text(encoding="utf-8")):
        counts[word] += one
    return counts


def count(paths: list[str], processes: int = 2) -> dict[str, int]:
    """The words of all these files."""
    totals: dict[str, int] = defaultdict(int)
    with multiprocessing.Pool(processes) as pool:
        for counts in pool.imap_unordered(count_file, paths):
            for word, number in counts.items():
                totals[word] += number
    return totals


if __name__ == "__main__":
    found = count(sorted(glob.glob(sys.argv[1])))
    for word in sorted(found, key=found.__getitem__, reverse=True)[:10]:
        print(f"{found[word]:>10} {word}")
