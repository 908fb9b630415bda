"""A column of keys on its way to bytes: strings are joined while the cache still holds them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

KEY_SEPARATOR = "\0"
"""Between joined keys. Words and lines hold line feeds more often than NULs; a column with a key
that holds one stays a list."""

SLICE_KEYS = 4096
"""Keys that are hashed, dealt out and joined together: few enough to stay in the cache from one
pass to the next. Measured on 208,000 words in 64 partitions, ns a key from dict to bytes: 350 in
slices of 2048 to 8192; 530 with columns that are joined when all keys have been dealt out."""


class KeyColumn:
    """Keys in the order added, as text where all of them are exactly str."""

    __slots__ = ("_count", "_joined_slices", "_mixed_keys")

    def __init__(self) -> None:
        self._joined_slices: list[str] = []
        self._count = 0
        self._mixed_keys: list[Any] | None = None

    def add(self, keys: list[Any], *, all_str: bool) -> None:
        """Take these too; ``all_str`` says that each of them is exactly a str."""
        if not keys:
            return
        self._count += len(keys)
        if self._mixed_keys is None:
            text = KEY_SEPARATOR.join(keys) if all_str else ""
            if all_str and text.count(KEY_SEPARATOR) == len(keys) - 1:
                self._joined_slices.append(text)
                return
            self._mixed_keys = list(self)
            self._joined_slices = []
        self._mixed_keys += keys

    def __len__(self) -> int:
        """How many keys."""
        return self._count

    def __iter__(self) -> Iterator[Any]:
        """Each key."""
        if self._mixed_keys is not None:
            return iter(self._mixed_keys)
        return chain.from_iterable(text.split(KEY_SEPARATOR) for text in self._joined_slices)

    def __contains__(self, key: object) -> bool:
        """Whether it is one of them."""
        return any(key == one for one in self)

    def joined_length(self) -> int:
        """How long ``text`` is; 0 if there is none."""
        return sum(map(len, self._joined_slices)) + len(self._joined_slices)

    def text(self) -> str | None:
        """All keys joined; None if they are not all strings that can be told apart again."""
        return KEY_SEPARATOR.join(self._joined_slices) if self._joined_slices else None


def are_all_str(keys: list[Any]) -> bool:
    """Whether each key is exactly a str."""
    return set(map(type, keys)) == {str}


def join_keys(keys: list[Any]) -> str | None:
    """``KeyColumn.text`` of a list."""
    texts = []
    for at in range(0, len(keys), SLICE_KEYS):
        some = keys[at : at + SLICE_KEYS]
        if not are_all_str(some):
            return None
        text = KEY_SEPARATOR.join(some)
        if text.count(KEY_SEPARATOR) != len(some) - 1:
            return None
        texts.append(text)
    return KEY_SEPARATOR.join(texts) if texts else None
