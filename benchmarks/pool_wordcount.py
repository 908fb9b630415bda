"""The word count that a good programmer writes by hand with ``multiprocessing.Pool``.

Words are combined per file in the processes of the Pool, and merged in the parent. The program
shares only ``words`` with redismr's, and does what a programmer would really do: no chunk protocol,
no retries, no memory limit. ``python -m benchmarks.pool_wordcount 'texts/*.txt'`` runs it alone.
"""

from __future__ import annotations

import glob
import multiprocessing
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks.jobs import words


def count_file(path: str) -> dict[str, int]:
    """Count the words of one file."""
    counts: dict[str, int] = defaultdict(int)
    for word, one in words(path, Path(path).read_text(encoding="utf-8")):
        counts[word] += one
    return counts


def count(paths: list[str], processes: int = 2) -> dict[str, int]:
    """Count the words of all files."""
    totals: dict[str, int] = defaultdict(int)
    with multiprocessing.Pool(processes) as pool:
        for counts in pool.imap_unordered(count_file, paths):
            for word, number in counts.items():
                totals[word] += number
    return totals


if __name__ == "__main__":
    totals = count(sorted(glob.glob(sys.argv[1])))
    for word in sorted(totals, key=totals.__getitem__, reverse=True)[:10]:
        print(f"{totals[word]:>10} {word}")
