"""Which partition a key belongs to: the same in every process, and the same for equal keys.

Python's own ``hash`` keeps the second promise but not the first: strings hash differently in each
process. So single values go by ``hashers``, and tuples, frozensets, slices and dataclasses by
their parts. What cannot be told apart by value, a plain object say, is refused by name. Whether a
key is refused is up to its class and those of its parts, and never to what was seen before. Only of
some classes single values are refused: NaN, for one.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

from redismr.core.equality import compares_like, parts_compared
from redismr.core.hashers import (
    Hasher,
    Unhashable,
    hasher_of,
    mixed_two,
    name_of,
    of_bytes,
    of_number,
    of_str,
)
from redismr.core.trace import short_repr
from redismr.errors import BadKey

_MASK = 0xFFFFFFFF
_ADVICE = (
    "Use a str, bytes, number, date, UUID, Enum, None, frozen dataclass that compares by its"
    " fields, or a tuple or frozenset of these; or give a partitionfn(key, partitions)"
)


def partition_of(key: Any, partitions: int) -> int:
    """The partition of one key, 0 to ``partitions - 1``.

    Raises:
        BadKey: the key has no stable hash.
    """
    return stable_hash(key) % partitions


def partition_of_any(key: Any, partitions: int) -> int:
    """``partition_of``, and 0 for a key that has no stable hash."""
    try:
        return partition_of(key, partitions)
    except BadKey:
        return 0


def has_stable_hash(key: Any) -> bool:
    """Whether ``stable_hash`` knows the key."""
    try:
        stable_hash(key)
    except BadKey:
        return False
    return True


def partitions_of(keys: list[Any], partitions: int) -> list[int]:
    """``partition_of`` of each key, in bulk.

    Raises:
        BadKey: one of the keys has no stable hash.
    """
    types = set(map(type, keys))
    if types == {str}:
        if partitions == 1:
            return [0] * len(keys)
        try:
            # Measured: 85 ns a key against 290 through stable_hash; map() instead of a
            # comprehension gains nothing.
            return [crc32(key.encode()) % partitions for key in keys]
        except UnicodeEncodeError:
            pass  # lone surrogates: of_str knows them
    if len(types) == 1:
        hasher = _of(types.pop())
        try:
            return [hasher(key) % partitions for key in keys]
        except Unhashable:
            pass  # stable_hash makes a message of it
    return [stable_hash(key) % partitions for key in keys]


def stable_hash(key: Any) -> int:
    """32 bits that are equal for equal keys, in every process, whatever PYTHONHASHSEED says.

    Raises:
        BadKey: the key has no stable hash; the message names what of it has none, and the way out.
    """
    kind = type(key)
    try:
        return (_HASHERS.get(kind) or _of(kind))(key)
    except Unhashable as error:
        raise _refusal(key, error) from None


def _of(kind: type) -> Hasher:
    """The hasher for keys of this class, remembered for the next one."""
    hasher = _HASHERS.get(kind)
    if hasher is None:
        hasher = _composed(kind) or hasher_of(kind) or _refuse
        if compares_like(type(kind), type):  # else another class may pass for this one
            _HASHERS[kind] = hasher
    return hasher


def _composed(kind: type) -> Hasher | None:
    """A hasher for those that have parts."""
    if issubclass(kind, tuple) and compares_like(kind, tuple):
        # The copy is a plain one: a subclass may iterate over something else than it compares.
        return lambda key: _tuple(tuple.__getitem__(key, slice(None)))
    if issubclass(kind, frozenset) and compares_like(kind, frozenset):
        return lambda key: _frozenset(frozenset.copy(key))
    if kind is slice:  # hashable since 3.12, by the same three
        return lambda key: _tuple((key.start, key.stop, key.step))
    parts = parts_compared(kind)
    if parts is None:
        return None
    seed = of_str(name_of(kind))
    return lambda key: _tuple(parts(key)) ^ seed


def _refuse(key: Any) -> int:
    kind = type(key)
    module = kind.__module__
    prefix = "" if module in {"builtins", "__main__"} else f"{module}."
    raise Unhashable(key, f"keys of type {prefix}{kind.__qualname__} have no stable hash")


def _refusal(key: Any, error: Unhashable) -> BadKey:
    whole = "" if error.value is key else f", which stands in {short_repr(key)}"
    return BadKey(f"{error.why}: {short_repr(error.value)}{whole}. {error.advice or _ADVICE}")


def _tuple(key: tuple[Any, ...]) -> int:
    total, get = 3, _HASHERS.get
    for part in key:
        kind = type(part)
        total = (total * 1000003 ^ (get(kind) or _of(kind))(part)) & _MASK
    return mixed_two(total, len(key))


def _frozenset(key: frozenset[Any]) -> int:
    # Members are mixed first, or {1, 2} and a set with the same sum of hashes would meet.
    total = 0
    for member in key:
        kind = type(member)
        total += mixed_two((_HASHERS.get(kind) or _of(kind))(member), 4)
    return mixed_two(total & _MASK, len(key))


_HASHERS: dict[type, Hasher] = {
    str: of_str,
    bytes: of_bytes,
    int: of_number,
    bool: of_number,
    float: of_number,
    tuple: _tuple,
    frozenset: _frozenset,
}
"""Exact types; those of other keys are added as they are met."""
