"""What the fork's REPL does: word counts in a table, and what each worker tells about itself.

Workers import this, so it needs next to nothing.
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
    """The words of a text, in lower case, without digits and punctuation."""
    for word in text.lower().replace("--", " ").split():
        if word := word.translate(_PUNCTUATION_AND_DIGITS):
            yield word, 1


def worker_info(number: int, _item: object) -> Iterator[tuple[int, tuple[str, str]]]:
    """What a worker tells about itself: its host, and the kind of its system."""
    yield number, (socket.gethostname(), os.name)


def count_table(counts: Mapping[str, int], top: int) -> Iterator[str]:
    """The largest counts in two columns: by name, backwards, and by count; rows end with lines.

    Of names that are as frequent it has all or none.
    """
    ascending = sorted((count, name) for name, count in counts.items())
    cut_off = ascending[-top:][:1]
    largest = ascending[bisect_left(ascending, (cut_off[0][0], "")) :] if cut_off else []
    by_name = sorted(largest, key=itemgetter(1), reverse=True)
    for (count, name), (other, another) in zip(by_name, largest, strict=True):
        yield f"{count:8} {name:40.40} {other:8} {another}\n"
