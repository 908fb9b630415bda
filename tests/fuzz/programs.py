"""Random programs: records, a source, functions and options, drawn from a seed."""

from __future__ import annotations

import pickle
import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import redismr
from fuzz.functions import COMBINERS, EXACT_SUM_COMBINERS, MAPFNS, PARTITIONFNS, USER_REDUCEFNS
from fuzz.palette import (
    EXACT_SUM_FAMILIES,
    FAMILIES_WITH_HASH_OF_NONE,
    KEYS,
    REFUSABLE_FAMILIES,
    ROUNDING_FAMILIES,
    SORTABLE_FAMILIES,
    VALUES,
)

NAMED_REDUCERS = ("sum", "count", "min", "max", "mean", "list", "set", "first", "any", "all")
BUILTIN_FUNCTIONS = {f.__name__: f for f in (sum, min, max, len, list, set, any, all)}
SOURCES = (
    "list", "generator", "refilled", "refilled dict", "views", "mapping", "shared mapping", "pairs",
    "refilled pairs",
)  # fmt: skip

Record = tuple[bool, tuple[tuple[Any, Any], ...]]


@dataclass(frozen=True)
class RandomFunctions:
    """The functions and options of a program: its code, which several sets of records share.

    ``keys`` and ``values`` are the families that may be among the records.
    """

    mapfn: str
    reducer: str
    combiner: str | None
    partitionfn: str | None
    options: Mapping[str, Any]
    keys: tuple[str, ...]
    values: tuple[str, ...]

    def arguments(self) -> dict[str, Any]:
        """What ``redismr.run`` takes besides the source."""
        given: dict[str, Any] = {
            "mapfn": MAPFNS[self.mapfn],
            "reducefn": reducer_by_name(self.reducer),
        }
        if self.combiner:
            given["combinefn"] = reducer_by_name(self.combiner)
        if self.partitionfn:
            given["partitionfn"] = PARTITIONFNS[self.partitionfn]
        return given | dict(self.options)


@dataclass(frozen=True)
class RandomProgram:
    """Functions, and records from a source of some kind."""

    functions: RandomFunctions
    key_families: tuple[str, ...]
    value_family: str
    source: str
    records: tuple[Record, ...]
    label: str = field(default="", compare=False)

    @property
    def may_be_refused(self) -> bool:
        """Whether a key may be refused as one without a stable hash."""
        return self.functions.partitionfn is None and not REFUSABLE_FAMILIES.isdisjoint(
            self.key_families
        )

    @property
    def may_split_keys(self) -> bool:
        """Whether the partitionfn may answer otherwise for a key, or for keys that are equal."""
        return self.functions.partitionfn in {"by_repr", "round_robin"} or (
            self.functions.partitionfn == "by_python_hash"
            and not FAMILIES_WITH_HASH_OF_NONE.isdisjoint(self.key_families)
        )

    def open_source(self) -> Any:
        """The source as a user would pass it; a fresh one for each run."""
        if self.source == "list":
            return list(self.records)
        if self.source == "generator":
            return iter(self.records)
        if self.source == "refilled":
            return refilled(self.records)
        if self.source == "refilled dict":
            return refilled_dict(self.records)
        if self.source == "views":
            return views(self.records)
        if self.source == "mapping":
            return dict(enumerate(self.records))
        if self.source == "shared mapping":
            return SharedBuffer(self.records)
        if self.source == "pairs":
            return redismr.pairs(list(enumerate(self.records)))
        return redismr.pairs(refilled_pairs(self.records))

    def __str__(self) -> str:
        shown = ", ".join(map(repr, self.records[:6])) + ", ..." * (len(self.records) > 6)
        families = ", ".join((*self.key_families, self.value_family))
        return f"{self.label}: {self.functions}, {families}: {self.source} of [{shown}]"


def refilled(records: Iterable[Record]) -> Iterator[list[Any]]:
    """One list object, and one in it, filled anew for each record."""
    inner: list[Any] = []
    row: list[Any] = [None, inner]
    for row[0], inner[:] in records:
        yield row
    inner.clear()


def refilled_dict(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """One dict, as a cursor's row may be."""
    row: dict[str, Any] = {}
    for row["bad"], row["pairs"] in records:
        yield row
    row.clear()


def views(records: Iterable[Record]) -> Iterator[memoryview]:
    """Slices of one buffer, which is read into again and again."""
    buffer = bytearray(1 << 16)
    for record in records:
        data = pickle.dumps(record)
        buffer[: len(data)] = data
        yield memoryview(buffer)[: len(data)]
    buffer[:] = bytes(len(buffer))


def refilled_pairs(records: Iterable[Record]) -> Iterator[list[Any]]:
    """One pair, and one record in it."""
    row: list[Any] = [None, None]
    pair = [None, row]
    for pair[0], (row[0], row[1]) in enumerate(records):  # type: ignore[call-overload]
        yield pair
    row[1] = ()


class SharedBuffer:
    """An ancestor's datasource whose ``[]`` answers with one buffer."""

    def __init__(self, records: tuple[Record, ...]) -> None:
        self.records, self.buffer = records, [False, ()]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.records)))

    def __getitem__(self, number: int) -> list[Any]:
        self.buffer[:] = self.records[number]
        return self.buffer


def reducer_by_name(name: str) -> Any:
    """A reducer by the name that stands in a program."""
    return USER_REDUCEFNS.get(name) or BUILTIN_FUNCTIONS.get(name.removeprefix("builtin "), name)


def random_functions(rng: random.Random) -> RandomFunctions:
    """Functions and options that could be a user's."""
    mapfn, reducer = rng.choice(list(MAPFNS)), _reducer(rng)
    keys, values = tuple(KEYS), tuple(VALUES)
    options: dict[str, Any] = {"partitions": rng.choice((1, 2, 3, 5, 8))}
    if (chunk := rng.choice((None, 1, 2, 5, 20))) is not None:
        options["chunk"] = chunk
    if rng.random() < 0.25:
        keys, options["sort"] = SORTABLE_FAMILIES, True
        mapfn = "yielding" if mapfn == "with_shared_key" else mapfn
        reducer = "user_list" if reducer == "user_generator" else reducer
    partitionfn = rng.choice(list(PARTITIONFNS)) if rng.random() < 0.25 else None
    if partitionfn == "by_python_hash" and rng.random() < 0.5:
        keys = ("words",)
    if rng.random() < 0.3:
        options["on_error"] = rng.choice(("skip", "skip", 3, 0.25))
        if partitionfn is None:  # a record with a key that is refused would be skipped as well
            keys = tuple(family for family in keys if family not in REFUSABLE_FAMILIES)
    if rng.random() < 0.1:
        options["memory"] = 64 << 20
    # What a combinefn raises is no record's fault, and so never skipped.
    combiners = () if "on_error" in options else COMBINERS.get(reducer, ())
    combiner = rng.choice(combiners) if combiners and rng.random() < 0.5 else None
    if combiner in EXACT_SUM_COMBINERS:
        values = EXACT_SUM_FAMILIES
    return RandomFunctions(mapfn, reducer, combiner, partitionfn, options, keys, values)


def _reducer(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.6:
        return rng.choice(("sum", "mean", *NAMED_REDUCERS))
    return rng.choice(
        [f"builtin {name}" for name in BUILTIN_FUNCTIONS] if kind < 0.75 else list(USER_REDUCEFNS)
    )


def random_program(
    functions: RandomFunctions, rng: random.Random, label: str = ""
) -> RandomProgram:
    """Records for the functions, and a source."""
    delicate = ROUNDING_FAMILIES if functions.reducer in {"sum", "mean", "builtin sum"} else ()
    families, values = (
        _key_families(functions, rng),
        _choose_family(functions.values, delicate, rng),
    )
    keys = [key for family in families for key in KEYS[family]]
    rng.shuffle(keys)
    keys = keys[: rng.choice((1, 3, len(keys)))]
    most = rng.choice((4, 4, 20))
    skips = "on_error" in functions.options

    def record() -> Record:
        pairs = [
            (rng.choice(keys), rng.choice(VALUES[values])) for _ in range(rng.randrange(most + 1))
        ]
        return (skips and rng.random() < 0.2, tuple(pairs))

    records = tuple(record() for _ in range(rng.choice((0, 1, 3, 10, 40, 40))))
    return RandomProgram(functions, families, values, rng.choice(SOURCES), records, label)


def _key_families(functions: RandomFunctions, rng: random.Random) -> tuple[str, ...]:
    first = _choose_family(functions.keys, REFUSABLE_FAMILIES, rng)
    second = rng.choice(functions.keys)
    # What numpy's numbers are compared with is chosen within their families.
    alone = "sort" in functions.options or "numpy" in first + second or rng.random() < 0.7
    return (first,) if alone or first == second else (first, second)


def _choose_family(families: tuple[str, ...], delicate: Collection[str], rng: random.Random) -> str:
    """One of the families; half of the time one in which more has gone wrong than in others."""
    likely = [family for family in families if family in delicate]
    return rng.choice(likely if likely and rng.random() < 0.5 else families)


def smaller_programs(whole: RandomProgram) -> Iterator[RandomProgram]:
    """Parts of a program, the halves of its records first: for showing what went wrong."""
    size = len(whole.records) // 2
    while size:
        for at in range(0, len(whole.records), size):
            yield replace(whole, records=whole.records[:at] + whole.records[at + size :])
        size //= 2
