"""The jobs of the fork's REPL: word counts in a table, and what each worker says about itself.

Workers import this module, so it imports next to nothing.
"""

from __future__ import annotations

import os
import socket
import string
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from operator import itemgetter

_PUNCTUATION_AND_DIGITS = str.maketrans("", "", string.punctuation + string.digits)


def word_count(_path: object, text: str) -> Iterator[tuple[str, int]]:
    """Yield (word, 1) for the words of a text, in lower case, without digits and punctuation."""
    for word in text.lower().replace("--", " ").split():
        if word := word.translate(_PUNCTUATION_AND_DIGITS):
            yield word, 1


def worker_info(number: int, _item: object) -> Iterator[tuple[int, tuple[str, str]]]:
    """Yield what a worker says about itself: its host, and the kind of its system."""
    yield number, (socket.gethostname(), os.name)


def count_table(counts: Mapping[str, int], top: int) -> Iterator[str]:
    """Yield rows of the ``top`` largest counts: by name, backwards, and beside that by count.

    Rows end with a newline. All names with the smallest of these counts have a row.
    """
    ascending = sorted((count, name) for name, count in counts.items())
    cut_off = ascending[-top:][:1]
    largest = ascending[bisect_left(ascending, (cut_off[0][0], "")) :] if cut_off else []
    by_name = sorted(largest, key=itemgetter(1), reverse=True)
    for (left_count, left_name), (right_count, right_name) in zip(by_name, largest, strict=True):
        yield f"{left_count:8} {left_name:40.40} {right_count:8} {right_name}\n"
