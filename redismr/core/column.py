"""A column of keys on its way to bytes: strings are joined while the cache still holds them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

SEPARATOR = "\0"
"""Between joined keys. Words and lines hold line feeds more often than NULs; a column with a key
that holds one stays a list."""

SLICE = 4096
"""Keys that are hashed, dealt out and joined together: few enough to stay in the cache from one
pass to the next. Measured on 208,000 words in 64 partitions, ns a key from dict to bytes: 350 in
slices of 2048 to 8192; 530 with columns that are joined when all keys have been dealt out."""


class Keys:
    """Keys in the order added, as text where all of them are exactly str."""

    __slots__ = ("_count", "_kept", "_texts")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._count = 0
        self._kept: list[Any] | None = None

    def add(self, keys: list[Any], *, plain: bool) -> None:
        """Take these too; ``plain`` says that each of them is exactly a str."""
        if not keys:
            return
        self._count += len(keys)
        if self._kept is None:
            text = SEPARATOR.join(keys) if plain else ""
            if plain and text.count(SEPARATOR) == len(keys) - 1:
                self._texts.append(text)
                return
            self._kept = list(self)
            self._texts = []
        self._kept += keys

    def __len__(self) -> int:
        """How many keys."""
        return self._count

    def __iter__(self) -> Iterator[Any]:
        """Each key."""
        if self._kept is not None:
            return iter(self._kept)
        return chain.from_iterable(text.split(SEPARATOR) for text in self._texts)

    def __contains__(self, key: object) -> bool:
        """Whether it is one of them."""
        return any(key == one for one in self)

    def characters(self) -> int:
        """How long ``text`` is; 0 if there is none."""
        return sum(map(len, self._texts)) + len(self._texts)

    def text(self) -> str | None:
        """All keys joined; None if they are not all strings that can be told apart again."""
        return SEPARATOR.join(self._texts) if self._texts else None


def all_text(keys: list[Any]) -> bool:
    """Whether each key is exactly a str."""
    return set(map(type, keys)) == {str}


def joined(keys: list[Any]) -> str | None:
    """``Keys.text`` of a list."""
    texts = []
    for at in range(0, len(keys), SLICE):
        some = keys[at : at + SLICE]
        if not all_text(some):
            return None
        text = SEPARATOR.join(some)
        if text.count(SEPARATOR) != len(some) - 1:
            return None
        texts.append(text)
    return SEPARATOR.join(texts) if texts else None
