"""Finds out whether a reduce task may yield a key twice; readers of the result must know."""

from itertools import chain
from operator import is_
from typing import Any


class DuplicateKeyDetector:
    """Tells whether a key may have been yielded before, over all sub-passes of one partition.

    While every key is the key of its group, equal keys can only follow each other. So the detector
    remembers keys only if a reducefn yields other keys from the first column on: otherwise it would
    hold all keys of a partition that is reduced in sub-passes because it is too large for memory.
    """

    def __init__(self) -> None:
        self._seen: set[Any] | None = None
        self._last: Any = self  # equal to no key

    def add_and_check(self, keys: list[Any], *, has_other_keys: bool) -> bool:
        """Add the keys of ``ResultColumns``; True if a key repeats, or might repeat, another."""
        if not keys:
            return False
        last, self._last = self._last, keys[-1]
        if has_other_keys and last is self:
            self._seen = set()
        if self._seen is not None:
            seen_before = len(self._seen)
            self._seen.update(keys)
            return len(self._seen) - seen_before != len(keys)
        return has_other_keys or any(map(is_, chain((last,), keys), keys))
