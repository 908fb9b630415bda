from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import NamedTuple
from uuid import UUID
from zlib import crc32
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redismr.core.keyhash import partition_of, partitions_of, stable_hash
from redismr.errors import BadKey


class Colour(Enum):
    RED = 1
    BLUE = 2


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    A = "a"


class Access(Flag):
    READ = 1
    WRITE = 2


class Text(str):
    __slots__ = ()


class Caseless(str):
    __slots__ = ()

    def __eq__(self, other):
        return self.lower() == other.lower()

    def __hash__(self):
        return hash(self.lower())


class Pair(NamedTuple):
    a: object
    b: object


@dataclass(frozen=True)
class Point:
    x: object
    y: object
    note: str = field(default="", compare=False)


@dataclass(frozen=True)
class Rounded:
    x: float

    def __eq__(self, other):
        return int(self.x) == int(other.x)

    def __hash__(self):
        return hash(int(self.x))


class NumpyLike:
    """What a numpy scalar shows of itself; numpy is no dependency of the tests."""

    __module__ = "numpy"

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return hash(self.value)

    def __eq__(self, other):
        return self.value == getattr(other, "value", other)

    def __str__(self):
        return str(self.value)


class NumpyInt(NumpyLike):
    __module__ = "numpy"
    dtype = SimpleNamespace(kind="i")


class NumpyStr(NumpyLike):
    __module__ = "numpy"
    dtype = SimpleNamespace(kind="U")


class NumpyDate(NumpyLike):
    __module__ = "numpy"
    dtype = SimpleNamespace(kind="M")


NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
HALF_PAST_TWO = datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001 - naive on purpose

EQUAL = [
    (1, 1.0, True, Decimal(1), Fraction(1), 1 + 0j, Level.LOW, NumpyInt(1)),
    (0, 0.0, -0.0, False, Decimal("-0")),
    (0.5, Fraction(1, 2), Decimal("0.50")),
    (2**70, float(2**70)),
    (float("inf"), Decimal("Infinity")),
    ("a", Text("a"), Word.A, NumpyStr("a")),
    ((1, "a"), (True, "a"), Pair(1.0, "a")),
    (frozenset((1, 2, "x")), frozenset(("x", 2.0, 1))),
    (NOON, NOON.astimezone(timezone(timedelta(hours=9))), NOON.astimezone(ZoneInfo("Europe/Rome"))),
    (time(12, tzinfo=UTC), time(14, tzinfo=timezone(timedelta(hours=2)))),
    (HALF_PAST_TWO, HALF_PAST_TWO.replace(fold=1)),
    (Path("a/b"), PurePosixPath("a//b")),
    (PureWindowsPath("A/b"), PureWindowsPath("a\\B")),
    (Point(1, 2), Point(True, 2.0), Point(1, 2, "noted")),
    (timedelta(hours=24), timedelta(days=1)),
    (None,),
    (b"a",),
    (date(2026, 7, 1),),
    (UUID(int=7),),
    (Colour.RED,),
    (Access.READ | Access.WRITE, Access.WRITE | Access.READ),
    (datetime.min.replace(tzinfo=timezone(timedelta(hours=9))),),
    (datetime.max.replace(tzinfo=timezone(timedelta(hours=-9))),),
    ("\ud800",),
    ((),),
    (frozenset(),),
]


@pytest.mark.parametrize("keys", EQUAL, ids=lambda keys: type(keys[0]).__name__)
def test_equal_keys_hash_equal(keys):
    assert all(key == keys[0] for key in keys)
    assert len({stable_hash(key) for key in keys}) == 1
    assert partitions_of(list(keys), 7) == [partition_of(keys[0], 7)] * len(keys)


def test_different_keys_mostly_hash_differently():
    hashes = [stable_hash(keys[0]) for keys in EQUAL]
    assert len(set(hashes)) >= len(hashes) - 1


def test_time_zones_agree_where_a_clock_is_set_back():
    rome = ZoneInfo("Europe/Rome")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=rome)
    assert first == first.replace(fold=1)
    assert stable_hash(first) == stable_hash(first.replace(fold=1))


numbers = (
    st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
)
atoms = numbers | st.text() | st.binary() | st.none() | st.dates() | st.datetimes() | st.uuids()
keys = st.recursive(
    atoms, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4), max_leaves=6
)


@given(keys, keys)
def test_whatever_is_equal_hashes_equal(a, b):
    if a == b:
        assert stable_hash(a) == stable_hash(b)


@given(numbers)
def test_numbers_hash_by_value(number):
    for kind in (int, float, Fraction, Decimal, complex):
        try:
            other = kind(number)
        except (TypeError, ValueError, OverflowError):
            continue
        if other == number:
            assert stable_hash(other) == stable_hash(number)


@given(st.lists(keys), st.integers(1, 300))
def test_bulk_agrees_with_one_by_one(some, partitions):
    assert partitions_of(some, partitions) == [partition_of(key, partitions) for key in some]


@given(st.lists(st.text() | st.just("\ud800"), min_size=1), st.integers(1, 300))
def test_bulk_of_strings_agrees_with_one_by_one(some, partitions):
    assert partitions_of(some, partitions) == [partition_of(key, partitions) for key in some]


def test_a_string_goes_by_the_crc_of_its_utf8():
    assert partition_of("whale", 1000) == crc32(b"whale") % 1000


@pytest.mark.parametrize("step", [1, 16, 1 << 40, 0.5, 2.0**-40])
def test_regular_numbers_spread(step):
    counts = [0] * 16
    for part in partitions_of([i * step for i in range(4096)], 16):
        counts[part] += 1
    assert min(counts) > 128


def test_every_process_agrees():
    code = (
        "from redismr.core.keyhash import stable_hash as h\n"
        "import datetime, decimal, uuid, pathlib\n"
        "print([h(k) for k in ('a', b'a', 1, 2.5, None, ('a', 1), frozenset('abc'),"
        " datetime.date(2026, 1, 1), datetime.datetime(2026, 1, 1), decimal.Decimal('1.1'),"
        " uuid.UUID(int=5), pathlib.PurePosixPath('x/y'))])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert len(outputs) == 1


REFUSED = [
    object(),
    len,
    lambda: 0,
    NumpyDate(1),
    Caseless("a"),
    Rounded(1.5),
    ("fine", object()),
    frozenset((object(),)),
    Point(object(), 1),
]


@pytest.mark.parametrize("key", REFUSED, ids=lambda key: type(key).__name__)
@pytest.mark.parametrize("partitions", [1, 2])
def test_what_has_no_stable_hash_is_refused_with_the_way_out(key, partitions):
    with pytest.raises(BadKey, match=r"no stable hash.*partitionfn"):
        partitions_of([key], partitions)


@pytest.mark.parametrize("nan", [float("nan"), Decimal("nan"), complex("nan"), (1, float("nan"))])
def test_nan_is_refused_by_name(nan):
    with pytest.raises(BadKey, match="NaN"):
        stable_hash(nan)


def test_the_refusal_names_the_type():
    with pytest.raises(BadKey, match=r"test_keyhash\.Caseless|Caseless"):
        stable_hash(Caseless("a"))
