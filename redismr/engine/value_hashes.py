"""Stable hashes of single values: equal values have equal hashes, in every process.

The class of a value chooses its hasher. A subclass counts as its base only if it inherits the
base's ``__eq__`` and ``__hash__``: else, equal keys of a case-insensitive str could be sent to
different partitions. Hashers call the methods of the base, because a subclass may override methods
that ``__eq__`` does not call. A small constant goes into most hashes, to tell types apart.

Of a class's name only ``__name__`` is hashed: the submitter's ``__main__`` has another name on a
worker, and cloudpickle drops the function in which a class was made.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import field, fields, make_dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from inspect import getattr_static
from pathlib import PurePath, PureWindowsPath
from struct import Struct
from types import FunctionType
from typing import Any
from uuid import UUID
from zlib import crc32

Hasher = Callable[[Any], int]
UINT32_MASK = 0xFFFFFFFF
_pack_two = Struct("<II").pack
_EPOCH = datetime(1, 1, 1, tzinfo=UTC).replace(tzinfo=None)
_DAYS_TO_1970 = 719_162  # from the first day of year 1
_DAY_ATTOSECONDS = 86_400 * 10**18
_UNITS = ("s", "ms", "us", "ns", "ps", "fs", "as")
_ATTOSECONDS = {
    **{unit: 10 ** (18 - 3 * at) for at, unit in enumerate(_UNITS)},
    "m": 60 * 10**18,
    "h": 3600 * 10**18,
    "D": _DAY_ATTOSECONDS,
    "W": 7 * _DAY_ATTOSECONDS,
}


class NoStableHash(Exception):
    """A value has no hash that all processes agree on."""

    def __init__(self, value: Any, reason: str, advice: str = "") -> None:
        super().__init__(reason)
        self.value, self.reason, self.advice = value, reason, advice


def find_value_hasher(cls: type) -> Hasher | None:
    """Return the hasher of a class whose instances are single values; None for other classes."""
    if issubclass(cls, Enum) and getattr_static(cls, "__eq__") is object.__eq__:
        return _hash_flag if issubclass(cls, Flag) else _hash_enum
    for base, hasher in (*_HASHERS_BY_BASE, *_loaded_hashers()):
        used_by_eq = ("__str__",) if base is PurePath else ()
        if issubclass(cls, base) and inherits_equality(cls, base, *used_by_eq):
            return hasher
    return None


def mix_hashes(*numbers: int) -> int:
    """Return one hash of several."""
    return crc32(b"".join((number & UINT32_MASK).to_bytes(4, "little") for number in numbers))


def mix_two_hashes(one: int, other: int) -> int:
    """Return ``mix_hashes`` of two 32-bit numbers. Measured: 170 ns; ``mix_hashes`` takes 750."""
    return crc32(_pack_two(one, other))


def hash_str(key: str) -> int:
    """Return the CRC-32 of the key in UTF-8."""
    return crc32(str.encode(key, "utf-8", "surrogatepass"))


def hash_bytes(key: bytes) -> int:
    """Return a CRC-32 with another start value than that of str."""
    return crc32(key, 1)


def hash_number(key: Any) -> int:
    """Return a hash of ``hash(key)``, which Python makes equal for 1, 1.0, True and Decimal(1)."""
    if not (key == key):  # noqa: PLR0124 - NaN of any type; a subclass may override !=
        raise _self_unequal_error(key, "NaN")
    # hash(n) is n for small n: without the CRC, keys that are multiples of the number of
    # partitions would all fall into one.
    return crc32(hash(key).to_bytes(8, "little", signed=True), 2)


def _hash_enum(key: Enum) -> int:
    # By name, because an enum member equals only itself.
    return hash_str(f"{type(key).__name__}.{key._name_}")


def _hash_flag(key: Flag) -> int:
    return hash_str(type(key).__name__) ^ hash_number(key._value_)


def _hash_datetime(key: datetime) -> int:
    # Datetimes with a zone are equal if they are the same instant; fold does not count.
    plain = key
    if key.fold or type(key) is not datetime:
        plain = datetime.combine(datetime.date(key), datetime.timetz(key).replace(fold=0))
    offset = plain.utcoffset()
    since = plain.replace(tzinfo=None) - _EPOCH
    return _hash_timedelta(since if offset is None else since - offset)


def _hash_time(key: time) -> int:
    offset = time.utcoffset(key)
    since = datetime.combine(_EPOCH, key, None) - _EPOCH
    return _hash_timedelta(since if offset is None else since - offset)


def _hash_timedelta(key: timedelta) -> int:
    plain = timedelta.__pos__(key)
    return mix_hashes(plain.days, plain.seconds, plain.microseconds)


def _hash_path(key: PurePath) -> int:
    text = PurePath.__str__(key)
    if isinstance(key, PureWindowsPath):
        # Windows paths are equal in any case. Some Pythons compare parts, others the whole path,
        # and a sigma at the end of a part has a small letter of its own: casefold() unites both.
        text = text.lower().casefold()
    return hash_str(text)


def _hash_range(key: range) -> int:
    # Ranges are equal if they hold the same numbers.
    size = len(key)
    first, step = (key.start if size else 0), (key.step if size > 1 else 0)
    return mix_hashes(9, hash_number(size), hash_number(first), hash_number(step))


def _hash_address(key: Any) -> int:
    scope = getattr(key, "_scope_id", None) or ""
    return mix_hashes(10, key.version, hash_number(int(key)), hash_str(scope))


def _hash_interface(key: Any) -> int:
    return mix_hashes(11, _hash_address(key), _hash_network(key.network))


def _hash_network(key: Any) -> int:
    return mix_hashes(12, _hash_address(key.network_address), key.prefixlen)


def _hash_zone(key: Any) -> int:
    if type(key)(key.key) is not key:
        reason = "a ZoneInfo of no_cache or from_file has no stable hash, as it equals only itself"
        raise NoStableHash(key, reason, "Use ZoneInfo(name), or its name")
    return mix_hashes(13, hash_str(key.key))


def _hash_timestamp(key: Any) -> int:
    """Hash a pandas.Timestamp as the equal datetime, unless it has nanoseconds or a far year."""
    if key.nanosecond or not 1 <= key.year <= 9999:
        return _hash_datetime64(key.asm8)
    return _hash_datetime(key)


def _hash_pandas_timedelta(key: Any) -> int:
    """Hash a pandas.Timedelta as the equal timedelta, unless it has nanoseconds."""
    whole = mix_hashes(key.days, key.seconds, key.microseconds)
    return mix_hashes(whole, key.nanoseconds) if key.nanoseconds else whole


def _hash_datetime64(key: Any) -> int:
    """Return equal hashes for equal times in different units, and for an equal datetime."""
    if not (key == key):  # noqa: PLR0124
        raise _self_unequal_error(key, "NaT")
    unit, step = sys.modules["numpy"].datetime_data(key.dtype)
    if unit in {"Y", "M"}:
        key, unit, step = key.astype("datetime64[D]"), "D", 1
    count = int(key.view("int64")) * step
    days, rest = divmod(count * _ATTOSECONDS[unit], _DAY_ATTOSECONDS)
    seconds, rest = divmod(rest, 10**18)
    microseconds, rest = divmod(rest, 10**12)
    whole = mix_hashes(days + _DAYS_TO_1970, seconds, microseconds)
    return mix_hashes(whole, hash_number(rest)) if rest else whole


def _check_trailing_nul(key: Any, nul: str | bytes) -> Any:
    if key.endswith(nul):
        reason = "this key has no stable hash, as numpy's pickles drop the NUL at its end"
        raise NoStableHash(key, reason, "Use a plain str or bytes")
    return key


def _refuse_nat(key: Any) -> int:
    raise _self_unequal_error(key, "NaT")


def _self_unequal_error(key: Any, name: str) -> NoStableHash:
    reason = f"{name} is not equal to itself, so it cannot be a key"
    return NoStableHash(key, reason, "Use None in its place, or leave such records out")


def _loaded_hashers() -> Iterator[tuple[type, Hasher]]:
    """Yield (class, hasher) for classes of modules that are loaded wherever such a key is."""
    for module, hashers in _HASHERS_BY_MODULE.items():
        names = vars(sys.modules[module]) if module in sys.modules else {}
        for name, hasher in hashers.items():
            if isinstance(base := names.get(name), type):
                yield base, hasher
    if pandas := sys.modules.get("pandas"):
        yield type(getattr(pandas, "NaT", None)), _refuse_nat


_HASHERS_BY_BASE: tuple[tuple[type, Hasher], ...] = (
    (str, hash_str),
    (bytes, hash_bytes),
    *((number, hash_number) for number in (int, float, complex, Decimal, Fraction)),
    (datetime, _hash_datetime),
    (date, lambda key: mix_hashes(5, date.toordinal(key))),
    (time, _hash_time),
    (timedelta, _hash_timedelta),
    (timezone, lambda key: mix_hashes(8, _hash_timedelta(key.utcoffset(None)))),
    (UUID, lambda key: crc32(key.int.to_bytes(16), 7)),
    (PurePath, _hash_path),
    (range, _hash_range),
    (type(None), lambda _key: 6),
    (type(...), lambda _key: 14),
    (type(NotImplemented), lambda _key: 15),
)

_NUMPY_NUMBER_NAMES = """
    bool_ byte short intc int_ longlong ubyte ushort uintc uint ulonglong int32 uint32 int64 uint64
    half single double longdouble csingle cdouble clongdouble"""

_HASHERS_BY_MODULE: dict[str, dict[str, Hasher]] = {
    "ipaddress": {
        **dict.fromkeys(("IPv4Address", "IPv6Address"), _hash_address),
        **dict.fromkeys(("IPv4Interface", "IPv6Interface"), _hash_interface),
        **dict.fromkeys(("IPv4Network", "IPv6Network"), _hash_network),
    },
    "zoneinfo": {"ZoneInfo": _hash_zone},
    "pandas": {"Timestamp": _hash_timestamp, "Timedelta": _hash_pandas_timedelta},
    "numpy": {
        **dict.fromkeys(_NUMPY_NUMBER_NAMES.split(), hash_number),
        "str_": lambda key: hash_str(_check_trailing_nul(key, "\0")),
        "bytes_": lambda key: hash_bytes(_check_trailing_nul(key, b"\0")),
        "datetime64": _hash_datetime64,
    },
}
"""Hashers by module and class; no numpy.timedelta64: 5 seconds equal 5, and so do 5 days."""


# ---- how instances of a class are compared: known from the class alone


def inherits_equality(cls: type, base: type, *other_methods: str) -> bool:
    """True if a subclass inherits ``__eq__``, ``__hash__`` and ``other_methods`` of the base."""
    names = ("__eq__", "__hash__", *other_methods)
    # getattr_static, because a metaclass may show another method than the class has.
    return all(getattr_static(cls, name) is getattr_static(base, name) for name in names)


def compared_fields(cls: type) -> Callable[[Any], tuple[Any, ...]] | None:
    """Return a function that returns the compared fields of a dataclass instance.

    Fields with ``hash=False`` are left out, because they may not be hashable. The answer is None
    for a class whose ``__eq__`` was not made by ``dataclass``, and for one with a base that
    compares in its own way: an instance of that base may equal one of the class.
    """
    owners: list[Any] = [base for base in cls.__mro__[:-1] if "__eq__" in vars(base)]
    if not owners or not all(map(_has_generated_eq, owners)):
        return None
    names = [f.name for f in fields(owners[0]) if f.compare and f.hash is not False]
    return lambda key: tuple([getattr(key, name) for name in names])


def _has_generated_eq(owner: type) -> bool:
    """True if ``dataclass`` made the ``__eq__`` of this very class.

    Compares its code with what ``dataclass`` makes here and now for the same fields. Names do not
    help: they differ in a class that came to a worker by cloudpickle.
    """
    eq_method = vars(owner)["__eq__"]
    if "__dataclass_fields__" not in vars(owner) or type(eq_method) is not FunctionType:
        return False
    probe_fields = [(f.name, object, field(default=None, compare=f.compare)) for f in fields(owner)]
    probe: Any = make_dataclass("Probe", probe_fields, init=False, repr=False)
    return _code_behaviour(eq_method) == _code_behaviour(probe.__eq__)


def _code_behaviour(function: Any) -> tuple[Any, ...]:
    """Return all that decides what a call does; the file and line of the function do not."""
    code = function.__code__
    return (
        (code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_exceptiontable),
        (code.co_argcount, code.co_kwonlyargcount, code.co_flags),
        (function.__closure__, function.__defaults__, function.__kwdefaults__),
    )
