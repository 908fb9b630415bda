"""The keys and values of random programs, in families of keys that are equal or look equal."""

from __future__ import annotations

import datetime as dt
import ipaddress
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from fuzz.classes import (
    Access,
    CaselessName,
    CaselessStr,
    CaselessTuple,
    Colour,
    Corner,
    EqualModulo3,
    Level,
    Money,
    Peak,
    Place,
    Point,
    PointWithNote,
    Spot,
    Tone,
    Weight,
)

NAIVE = dt.datetime.fromisoformat("2026-01-01")

Family = Sequence[Any]
"""Keys or values that one program mixes; equal keys must be grouped, whatever their types."""

KEYS: Mapping[str, Family] = {
    "one": (1, 1.0, True, Decimal(1), Decimal("1.0"), Fraction(1), complex(1), Level.ONE,
            np.float64(1), np.float32(1), np.bool_(True)),
    # Without Decimal, which raises when it is compared with a numpy integer.
    "numpy one": (1, 1.0, True, Fraction(1), np.int64(1), np.uint8(1), np.float64(1),
                  np.bool_(True)),
    "zero": (0, 0.0, -0.0, False, Decimal(0), Level.NONE, np.float16(0)),
    "numpy zero": (0, -0.0, False, Level.NONE, np.int8(0), np.float16(0)),
    "half": (0.5, Fraction(1, 2), Decimal("0.5"), np.float32(0.5), complex(0.5)),
    "tenth": (0.1, Decimal("0.1"), Fraction(1, 10), np.float32(0.1), np.float64(0.1)),
    "huge": (2**80, float(2**80), Decimal(2**80), Fraction(2**80)),
    "limits": (float("inf"), float("-inf"), Decimal("Infinity"), np.float64("inf")),
    "text": ("a", "b", "B", "", Tone.LOW, Tone.HIGH, np.str_("a"), "é", "\ud800"),
    "words": ("abc", "ABC", "x", "X", "y", "Y", "w1", "w2", "w3", "w4", "w5", "w6"),
    "bytes": (b"a", b"b", b"", np.bytes_(b"a")),
    "mixed": ("a", b"a", 1, "1", None, (), (1,), ("a", None), frozenset(), frozenset({1, "a"})),
    "tuples": ((1, 2), (1.0, True + 1), Place(1, 2), (1, Place(2, 3)), (1, (2, 3)), (Level.ONE, 2)),
    "sets": (frozenset({1, 2}), frozenset({1.0, 2.0}), frozenset({2, True}), frozenset({(1, 2)})),
    "points": (Point(1), Point(1.0), Point(True, 0.0), Point("a"), Point((1, 2)), PointWithNote(1),
               PointWithNote(1, "x"), PointWithNote(1.0, "y")),
    "named tuples": (Place(1, 2), Spot(1), Spot(1.0, 2), (1, 2), (True, 2), (Spot(1), 0)),
    "kinds of points": (Point(1), Point(1, False), Corner(1), Corner(1.0), Peak(1),
                        Peak(1, 0, 0.0)),
    "flags": (Access.READ, Access.READ | Access.WRITE, Access(0), 1, (Access.READ, 1)),
    "enums": (Colour.RED, Colour.BLUE, 1, 2, Level.TWO, (Colour.RED, 1), (Colour.RED, True)),
    "days": (dt.date(2026, 1, 1), NAIVE, dt.time(1, 2), dt.timedelta(1),
             dt.timedelta(hours=24)),
    "moments": (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), NAIVE,
                dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))),
    "stamps": (pd.Timestamp("2026-01-01"), NAIVE, pd.Timestamp(2026, 1, 1), pd.Timestamp(0),
               pd.Timestamp(1), pd.Timestamp("2026-01-01", tz="UTC"),
               dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    "spans": (pd.Timedelta(1, "D"), dt.timedelta(1), pd.Timedelta(24, "h"), pd.Timedelta(1, "ns"),
              (pd.Timedelta(1, "D"), 1), (dt.timedelta(hours=24), True)),
    "things": (uuid.UUID(int=1), uuid.UUID(int=2), pathlib.PurePosixPath("a"),
               pathlib.PurePosixPath("a/."), pathlib.PureWindowsPath("A"),
               pathlib.PureWindowsPath("a")),
    "addresses": (ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("::1"),
                  ipaddress.ip_address(int(ipaddress.ip_address("10.0.0.1"))),
                  ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_interface("10.0.0.1/8")),
    "ranges": (range(3), range(3), range(0, 3, 1), range(0), range(5, 5), range(0, 3, 2),
               range(0, 4, 2)),
    "numpy days": (np.datetime64("2026-01-01"), np.datetime64("2026-01-01T00"),
                   np.timedelta64(1, "D"), np.timedelta64(24, "h")),
    "cases": tuple(CaselessTuple(text) for text in ("abc", "x", "y", "ABC", "X", "Y")),
    "modulo": tuple(map(EqualModulo3, range(9))),
    "modulo in tuples": tuple((EqualModulo3(n),) for n in range(9)),
    "names": tuple(CaselessName(text) for text in ("abc", "x", "y", "ABC", "X", "Y", "aBc")),
    "folded": tuple(CaselessStr(text) for text in ("abc", "ABC", "x", "X")),
    "names in tuples": tuple((1, CaselessName(text)) for text in ("abc", "ABC", "x", "X", "y", "Y")),  # noqa: E501
    "names in sets": tuple(frozenset({CaselessName(text)}) for text in ("abc", "ABC", "x", "X")),
    "names in points": tuple(Point(CaselessName(text)) for text in ("abc", "ABC", "x", "X")),
}  # fmt: skip

SORTABLE_FAMILIES = ("words", "zero", "huge", "numpy zero")
"""Families whose keys can be sorted."""

REFUSABLE_FAMILIES = frozenset({
    "addresses", "ranges", "numpy days", "names", "folded", "names in tuples", "names in sets",
    "names in points", "cases", "modulo", "modulo in tuples",
})  # fmt: skip
"""Families of keys that may have no stable hash: a program groups them right, or refuses them."""

FAMILIES_WITH_HASH_OF_NONE = frozenset({"mixed", "addresses", "ranges"})
"""Families with keys whose Python hash uses that of None, which before Python 3.12 is its address:
also ``range(0)`` and IPv6 addresses, which have None among their parts."""

NAN = float("nan")

EXACT_SUM_FAMILIES = ("ints", "huge", "bools", "fractions", "durations")
"""Families whose sums do not show the order of adding."""

ROUNDING_FAMILIES = ("numpy bools", "float32", "float64", "decimals", "nan")
"""Families whose sums depend on the order, or the cut, of adding."""

VALUES: Mapping[str, Family] = {
    "ints": (0, 1, 2, -3, 10**6),
    "huge": (2**70, -(2**70), 1, 3),
    "bools": (True, False),
    "floats": (0.1, 0.2, 1e16, -1e16, 1.0, -0.0, 3.5),
    "large floats": (1e308, 1.7e308, -1e308, 1.0),
    "limits": (float("inf"), float("-inf"), 1.0, 2, NAN),
    "nan": (NAN, 0.5, 1, 2.5),
    "ints and floats": (1, 0.1, True, 2**60, 0.7, -3),
    "decimals": (Decimal("0.1"), Decimal("1.0"), Decimal("1.00"), Decimal(10) ** 27,
                 Decimal("1E-9")),
    "decimals and ints": (Decimal("0.1"), 1, True, Decimal("2.50")),
    "decimals and floats": (Decimal("0.1"), 1.5),
    "fractions": (Fraction(1, 3), Fraction(1, 2), 1, Fraction(3)),
    # Which task adds what changes the last digits of such mixtures, so these need no rounding.
    "fractions and floats": (Fraction(1, 4), 0.5, 1, 2.5),
    "complex": (complex(0.1, 1 / 3), complex(1, 0), complex(1e16, 1), complex(-1e16, 0.1)),
    "complex and others": (complex(0.5, 1), 0.25, 1, True),
    "durations": (dt.timedelta(1), dt.timedelta(seconds=3)),
    "levels": (Level.ONE, Level.TWO, Level.NONE, 1, 2),
    "money": (Money(1, "a"), Money(2, "b"), Money(3, "c")),
    "moments": (NAIVE, dt.datetime(2026, 1, 2), dt.datetime(2025, 1, 1)),  # noqa: DTZ001
    "decimal nan": (Decimal("NaN"), Decimal(1), Decimal(2)),
    "strings": ("a", "b", "", "é"),
    "bytes": (b"a", b"b", b""),
    "buffers": (bytearray(b"a"), bytearray(b"b")),
    "dicts": ({"a": 1}, {}, {"b": [2], "a": 1}),
    "lists": ([1], [2, 3], []),
    "named tuples": (Spot(1), Spot(0, 3), Spot(1, 1)),
    "tuples": ((1, 2), (1, 2.0), (0, "a")),
    "sets": (frozenset({1}), frozenset({2}), frozenset({1, 2}), frozenset()),
    "nothing": (None,),
    "anything": (1, "a", None, 2.5, (1,), [1]),
    "weights": (Weight(1, "a"), Weight(1, "b"), Weight(2, "c")),
    "numpy bools": (np.bool_(True), np.bool_(False)),
    "numpy bools and ints": (np.bool_(True), 1, True, np.bool_(False)),
    "arrays": (np.array([1, 2]), np.array([3, -4])),
    "float arrays": (np.array([0.1, 1e16]), np.array([0.2, 1.0]), np.array([0.3, -1e16])),
    "single arrays": (np.array([1]), np.array([0])),
    "small arrays": (np.array([100, 1], "int8"), np.array([100, 2], "int8")),
    "numpy text": (np.str_("a"), np.str_("b"), "a"),
    "numpy complex": (np.complex64(0.1 + 1j), np.complex64(1), np.complex64(1e8)),
    "numpy spans": (np.timedelta64(1, "D"), np.timedelta64(3, "h")),
    "stamps": (pd.Timestamp("2026-01-01"), pd.Timestamp("2025-01-01"), NAIVE),
    "spans": (pd.Timedelta(1, "D"), pd.Timedelta(1, "ns"), dt.timedelta(1)),
    "missing": (pd.NaT, pd.Timestamp("2026-01-01")),
    "numpy ints": (np.int64(1), np.int64(5), np.int64(-2)),
    "small unsigned": (np.uint8(200), np.uint8(100), np.uint8(7)),
    "small numpy ints": (np.int8(1), np.uint8(3), np.int16(5), 1),
    "float32": (np.float32(0.1), np.float32(1e8), np.float32(1), np.float32(-1e8)),
    "float16": (np.float16(0.1), np.float16(2000), np.float16(1)),
    "float64": (np.float64(0.1), np.float64(0.2), np.float64(1e16), np.float64(-1e16)),
    "numpy and plain": (np.float32(0.5), 1, 0.25, np.int64(2), np.float64(0.75), True),
}  # fmt: skip
