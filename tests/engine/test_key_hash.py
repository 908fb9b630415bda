from __future__ import annotations

import os
import pickle
import subprocess
import sys
from ast import literal_eval
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from itertools import combinations
from operator import itemgetter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID
from zlib import crc32
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from redismr.engine.key_hash import partition_of, partitions_of, stable_hash
from redismr.errors import BadKey

T = TypeVar("T")


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


class Shouted(str):
    """A str whose encode() is not what it compares by."""

    __slots__ = ()

    def encode(self, *_):
        return b"!"


class Reversed(tuple):
    __slots__ = ()

    def __iter__(self):
        return reversed(tuple(self[:]))


class Odd(datetime):
    """A datetime whose methods return something else than ``__eq__`` uses."""

    def utcoffset(self):
        return timedelta(hours=3)

    def replace(self, **_):
        raise AssertionError


class Month(date, Enum):
    MAY = 2026, 5, 1


class Sums(Enum):
    """An enum whose members have unhashable values."""

    LIST = [1, 2]


class Sure(Enum):
    YES = 1

    def __hash__(self):
        return 7


@dataclass(frozen=True, slots=True)
class Slotted:
    x: object


@dataclass(unsafe_hash=True)
class Loose:
    x: object
    tags: list = field(default_factory=list, hash=False)


@dataclass(frozen=True)
class Titled(Point):
    title: str = ""


class Renamed(Point):
    """A subclass that is not decorated: compares as its base does."""


@dataclass(frozen=True)
class Cell(Generic[T]):
    x: T


@dataclass(frozen=True)
class Hashes:
    """A dataclass that hashes fewer fields than it compares."""

    x: int
    y: object

    def __hash__(self):
        return hash(self.x)


NUMPY = (np.int8, np.uint8, np.intc, np.int64, np.uint64, np.longlong, np.float16, np.float32)
NEW_YEAR = datetime(2026, 1, 1)  # noqa: DTZ001 - naive on purpose
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
HALF_PAST_TWO = datetime(2026, 10, 25, 2, 30)  # noqa: DTZ001 - naive on purpose

BERLIN = ZoneInfo("Europe/Berlin")

EQUAL = [
    (
        1,
        1.0,
        True,
        Decimal(1),
        Fraction(1),
        1 + 0j,
        Level.LOW,
        *(kind(1) for kind in NUMPY),
        np.True_,
    ),
    (0, 0.0, -0.0, False, Decimal("-0"), np.float16(0), np.False_),
    (0.5, Fraction(1, 2), Decimal("0.50"), np.float32(0.5), np.longdouble(0.5), np.complex64(0.5)),
    (2**70, float(2**70), np.float64(2**70), Decimal(2**70)),
    (2**64 - 1, np.uint64(2**64 - 1)),
    (float("inf"), Decimal("Infinity"), np.float32("inf")),
    ("a", Text("a"), Word.A, np.str_("a"), Shouted("a")),
    (b"a", np.bytes_(b"a")),
    ((1, "a"), (True, "a"), Pair(1.0, "a"), Reversed((1, "a")), (np.int8(1), np.str_("a"))),
    (frozenset((1, 2, "x")), frozenset(("x", 2.0, 1)), frozenset((np.str_("x"), Decimal(2), True))),
    (NOON, NOON.astimezone(timezone(timedelta(hours=9))), NOON.astimezone(ZoneInfo("Europe/Rome"))),
    (NEW_YEAR, Odd(2026, 1, 1), pd.Timestamp("2026-01-01")),
    (NEW_YEAR, np.datetime64("2026-01-01T00:00"), np.datetime64("2026-01-01", "us")),
    (np.datetime64("2026"), np.datetime64("2026-01"), np.datetime64("2026-01-01", "ns")),
    (np.datetime64("1969-12-31T23"), np.datetime64(-60, "m"), np.datetime64(-3600, "s")),
    (np.datetime64(-1, "ns"), np.datetime64(-1000, "ps"), pd.Timestamp(-1)),
    (NOON, pd.Timestamp(NOON), pd.Timestamp(NOON).tz_convert("Asia/Tokyo")),
    (pd.Timestamp(NOON).as_unit("s"), pd.Timestamp(NOON).as_unit("ns")),
    (pd.Timestamp(1, tz="UTC"), pd.Timestamp(1, tz="UTC").tz_convert("Asia/Tokyo")),
    (timedelta(days=1), timedelta(hours=24), pd.Timedelta(days=1)),
    (pd.Timedelta(-5), pd.Timedelta(-5)),
    (time(12, tzinfo=UTC), time(14, tzinfo=timezone(timedelta(hours=2)))),
    (time(1, 2, 3), time(1, 2, 3, fold=1)),
    (HALF_PAST_TWO, HALF_PAST_TWO.replace(fold=1)),
    (
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN),
        datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    ),
    (Path("a/b"), PurePosixPath("a//b")),
    (PureWindowsPath("A/b"), PureWindowsPath("a\\B")),
    (PureWindowsPath("c:\u03a3").parent, PureWindowsPath("C:\u03c3").parent),
    (Point(1, 2), Point(True, 2.0), Point(1, 2, "noted")),
    (Titled(1, 2, title="x"), Titled(1, 2, "noted", "x")),
    (Renamed(1, 2), Renamed(1.0, 2, "noted")),
    (Slotted(1), Slotted(1.0)),
    (Loose(1, ["a"]), Loose(np.int64(1), ["a"])),
    (Cell[int](1), Cell(1.0)),
    (Hashes(1, 2), Hashes(True, 2.0)),
    (range(0), range(5, 5), range(3, 0, 7)),
    (range(0, 3, 2), range(0, 4, 2)),
    (range(7, 8), range(7, 9, 5)),
    (ip_address("10.0.0.1"), ip_address(0x0A000001)),
    (ip_address("::1"), ip_address("0:0::1")),
    (ip_address("fe80::1%eth0"),),
    (ip_network("10.0.0.0/8"), ip_network("10.0.0.0/255.0.0.0")),
    (ip_interface("10.0.0.1/8"), ip_interface("10.0.0.1/255.0.0.0")),
    (ip_address("10.0.0.1"),),
    (ip_interface("10.0.0.1/32"),),
    (UTC, timezone(timedelta(0), "Z")),
    (BERLIN, ZoneInfo("Europe/Berlin")),
    (None,),
    (...,),
    (NotImplemented,),
    (date(2026, 7, 1),),
    (Month.MAY, date(2026, 5, 1)),
    (Sums.LIST,),
    (Sure.YES,),
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
    hashes = {stable_hash(keys[0]) for keys in EQUAL}
    assert len(hashes) >= len(set(map(itemgetter(0), EQUAL))) - 2


def test_keys_that_are_one_dict_key_hash_equal():
    every = [key for keys in EQUAL for key in keys]
    for a, b in combinations(every, 2):
        if are_one_dict_key(a, b):
            assert stable_hash(a) == stable_hash(b), (a, b)


def are_one_dict_key(a, b):
    """Return True if a dict takes the two for one key."""
    try:
        return hash(a) == hash(b) and bool(a == b)
    except TypeError:  # Decimal(1) == np.int64(1) raises it
        return False


equal_key_pairs = st.recursive(
    st.sampled_from(EQUAL).flatmap(
        lambda keys: st.tuples(st.sampled_from(keys), st.sampled_from(keys))
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(
            lambda pairs: (tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))
        ),
        st.tuples(inner, inner).map(lambda t: (Pair(t[0][0], t[1][0]), (t[0][1], t[1][1]))),
        st.tuples(inner, inner).map(
            lambda t: (Point(t[0][0], t[1][0]), Point(t[0][1], t[1][1], "n"))
        ),
        inner.map(lambda pair: (Slotted(pair[0]), Slotted(pair[1]))),
        st.lists(inner, max_size=3).map(
            lambda pairs: (frozenset(p[0] for p in pairs), frozenset(p[1] for p in reversed(pairs)))
        ),
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(equal_key_pairs)
def test_keys_that_are_one_dict_key_hash_equal_within_other_keys(pair):
    a, b = pair
    assume(are_one_dict_key(a, b))
    assert stable_hash(a) == stable_hash(b)
    assert stable_hash(pickle.loads(pickle.dumps(a))) == stable_hash(a)


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
def test_equal_random_keys_hash_equal(a, b):
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


def test_a_string_is_hashed_by_the_crc_of_its_utf8():
    assert partition_of("whale", 1000) == crc32(b"whale") % 1000


@pytest.mark.parametrize("step", [1, 16, 1 << 40, 0.5, 2.0**-40])
def test_regular_numbers_spread(step):
    counts = [0] * 16
    for part in partitions_of([i * step for i in range(4096)], 16):
        counts[part] += 1
    assert min(counts) > 128


WRITE_KEYS = """
import sys, cloudpickle, enum, dataclasses
@dataclasses.dataclass(frozen=True)
class Point:
    x: object
    y: object = dataclasses.field(default=0, compare=False)
@dataclasses.dataclass(frozen=True)
class Own:
    x: str
    def __eq__(self, other): return self.x.lower() == other.x.lower()
    def __hash__(self): return hash((self.x.lower(),))
class Colour(enum.Enum):
    RED = "red"
keys = [Point(1, 2), Colour.RED, (Point("a"), None), Own("low")]
open(sys.argv[1], "wb").write(cloudpickle.dumps(keys))
"""
READ_HASHES = """
import sys, pickle
from redismr.engine.key_hash import stable_hash
from redismr.errors import BadKey
def hash_or_refused(key):
    try: return stable_hash(key)
    except BadKey: return "refused"
print([hash_or_refused(key) for file in sys.argv[1:] for key in pickle.load(open(file, "rb"))])
"""


def test_every_process_agrees(tmp_path):
    """With any hash seed, and for classes that cloudpickle sends."""
    library, shipped = tmp_path / "library", tmp_path / "shipped"
    here = {"__main__", __name__}
    keys = [key for some in EQUAL for key in some if type(key).__module__ not in here]
    keys = [key for key in keys if not isinstance(key, (tuple, frozenset))]
    library.write_bytes(pickle.dumps(keys))

    def run(code, *files, seed="0"):
        environ = os.environ | {"PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", code, *map(str, files)]
        return subprocess.run(
            command, env=environ, capture_output=True, check=True, text=True
        ).stdout

    run(WRITE_KEYS, shipped)
    first, second = (run(READ_HASHES, library, shipped, seed=seed) for seed in ("1", "4711"))
    assert first == second
    hashes = literal_eval(first)
    assert hashes[: len(keys)] == [stable_hash(key) for key in keys]
    assert [type(answer) for answer in hashes[len(keys) :]] == [int, int, int, str]


@dataclass(frozen=True, eq=False)
class Same:
    """A dataclass whose instances equal only themselves."""

    x: int


@dataclass(frozen=True)
class Caselessly(Point):
    def __eq__(self, other):
        return str(self.x).lower() == str(other.x).lower()

    def __hash__(self):
        return hash((str(self.x).lower(), self.y))


class Below(Rounded):
    """A subclass of a class with its own ``__eq__``."""


class EqualToAnything:
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1


@dataclass(frozen=True)
class Narrow(EqualToAnything):
    """A dataclass whose base has instances that equal its own."""

    x: int


@dataclass(frozen=True)
class Marked(str):  # noqa: SLOT000 - a dataclass
    """Compares with its own class by fields, and with str as a str."""

    x: int = 0


class Stamp(NamedTuple):
    x: int

    def __eq__(self, other):
        return True

    __hash__ = tuple.__hash__


class Worth(Enum):
    ONE = 1

    def __eq__(self, other):
        return self.value == getattr(other, "value", other)

    def __hash__(self):
        return hash(self.value)


class Money(Decimal):
    def __eq__(self, other):
        return round(self, 2) == round(other, 2)

    def __hash__(self):
        return hash(round(self, 2))


class Day(date):
    def __eq__(self, other):
        return self.day == other.day

    def __hash__(self):
        return self.day


class Named(Path(".").__class__):
    def __str__(self):
        return self.name


class ComparesByName(type):
    """A metaclass whose classes are equal if their names are."""

    def __eq__(cls, other):
        return cls.__name__ == other.__name__

    def __hash__(cls):
        return hash(cls.__name__)


PLAIN, OWN = ComparesByName("Word", (str,), {}), ComparesByName("Word", (Caseless,), {})


REFUSED = [
    object(),
    len,
    int,
    lambda: 0,
    np.timedelta64(5, "s"),
    np.void(b"ab"),
    pd.NA,
    pd.Period("2026-05"),
    pd.Interval(0, 1),
    memoryview(b"a"),
    Caseless("a"),
    Rounded(1.5),
    Rounded(1.0),
    Below(1.0),
    Same(1),
    Caselessly("a", 1),
    Caselessly("A", 1),
    Narrow(1),
    Marked("a"),
    Stamp(1),
    Worth.ONE,
    Money("1.00"),
    Day(2026, 1, 1),
    Named("a/b"),
    ("fine", object()),
    ("fine", Rounded(1.0)),
    frozenset((object(),)),
    frozenset((Same(1),)),
    Point(object(), 1),
    Point(Rounded(1.0), 1),
    Slotted((1, Caseless("a"))),
]


@pytest.mark.parametrize("key", REFUSED, ids=lambda key: type(key).__name__)
@pytest.mark.parametrize("partitions", [1, 2])
def test_a_key_without_stable_hash_is_refused_with_advice(key, partitions):
    for _ in range(2):
        with pytest.raises(BadKey, match=r"no stable hash.*partitionfn"):
            partitions_of([key], partitions)


def test_a_time_zone_that_equals_no_other_is_refused():
    with pytest.raises(BadKey, match=r"no stable hash.*Use ZoneInfo\(name\)"):
        stable_hash(("a", ZoneInfo.no_cache("Europe/Berlin")))


@pytest.mark.parametrize("key", [np.str_("a\0"), np.bytes_(b"a\0")])
def test_a_key_that_numpy_pickles_as_another_is_refused(key):
    assert pickle.loads(pickle.dumps(key)) != key
    with pytest.raises(BadKey, match="no stable hash, as numpy's pickles drop the NUL"):
        stable_hash(("a", key))


def test_a_class_that_equals_another_is_refused():
    assert stable_hash(PLAIN("a")) == stable_hash("a")
    with pytest.raises(BadKey, match="no stable hash"):
        stable_hash(OWN("a"))


def test_a_refusal_names_the_part_and_the_key():
    with pytest.raises(
        BadKey, match=r"Caseless have no stable hash: 'x', which stands in \(1, 'x'\)"
    ):
        stable_hash((1, Caseless("x")))


NANS = [
    *(float("nan"), Decimal("nan"), complex("nan"), complex(0, float("nan"))),
    *(np.float16("nan"), np.float64("nan"), np.longdouble("nan"), np.complex64("nan")),
    *((1, float("nan")), frozenset((Decimal("nan"),)), Point(float("nan"), 1)),
]


@pytest.mark.parametrize("nat", [pd.NaT, np.datetime64("NaT", "s"), ("a", pd.NaT)])
def test_nat_is_refused_by_name(nat):
    with pytest.raises(BadKey, match=r"NaT is not equal to itself.*Use None"):
        stable_hash(nat)


@pytest.mark.parametrize("nan", NANS)
def test_nan_is_refused_by_name(nan):
    with pytest.raises(BadKey, match="NaN"):
        stable_hash(nan)


def test_the_refusal_names_the_type():
    with pytest.raises(BadKey, match="Caseless"):
        stable_hash(Caseless("a"))
