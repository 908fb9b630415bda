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
    """The functions and options of a program, which several programs share."""

    mapfn: str
    reducer: str
    combiner: str | None
    partitionfn: str | None
    options: Mapping[str, Any]
    keys: tuple[str, ...]
    """Families from which records may take keys."""
    values: tuple[str, ...]
    """Families from which records may take values."""

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of ``redismr.run`` besides the source."""
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
    """Functions, records, and the kind of source that gives the records."""

    functions: RandomFunctions
    key_families: tuple[str, ...]
    value_family: str
    source: str
    records: tuple[Record, ...]
    label: str = field(default="", compare=False)

    @property
    def may_be_refused(self) -> bool:
        """True if a key may be refused because it has no stable hash."""
        return self.functions.partitionfn is None and not REFUSABLE_FAMILIES.isdisjoint(
            self.key_families
        )

    @property
    def may_split_keys(self) -> bool:
        """True if the partitionfn may send equal keys to different partitions."""
        return self.functions.partitionfn in {"by_repr", "round_robin"} or (
            self.functions.partitionfn == "by_python_hash"
            and not FAMILIES_WITH_HASH_OF_NONE.isdisjoint(self.key_families)
        )

    def open_source(self) -> Any:
        """Return the source as a user would pass it; a new one for each run."""
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
    """Yield one list with one inner list, both refilled for each record."""
    inner: list[Any] = []
    row: list[Any] = [None, inner]
    for row[0], inner[:] in records:
        yield row
    inner.clear()


def refilled_dict(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Yield one dict, refilled for each record, as a database cursor may."""
    row: dict[str, Any] = {}
    for row["bad"], row["pairs"] in records:
        yield row
    row.clear()


def views(records: Iterable[Record]) -> Iterator[memoryview]:
    """Yield slices of one buffer that is overwritten for each record."""
    buffer = bytearray(1 << 16)
    for record in records:
        data = pickle.dumps(record)
        buffer[: len(data)] = data
        yield memoryview(buffer)[: len(data)]
    buffer[:] = bytes(len(buffer))


def refilled_pairs(records: Iterable[Record]) -> Iterator[list[Any]]:
    """Yield one pair with one record in it, both refilled each time."""
    row: list[Any] = [None, None]
    pair = [None, row]
    for pair[0], (row[0], row[1]) in enumerate(records):  # type: ignore[call-overload]
        yield pair
    row[1] = ()


class SharedBuffer:
    """A datasource of an ancestor's kind whose ``[]`` returns one buffer, refilled each time."""

    def __init__(self, records: tuple[Record, ...]) -> None:
        self.records, self.buffer = records, [False, ()]

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.records)))

    def __getitem__(self, number: int) -> list[Any]:
        self.buffer[:] = self.records[number]
        return self.buffer


def reducer_by_name(name: str) -> Any:
    """Return the reducer that a program names."""
    return USER_REDUCEFNS.get(name) or BUILTIN_FUNCTIONS.get(name.removeprefix("builtin "), name)


def random_functions(rng: random.Random) -> RandomFunctions:
    """Draw functions and options such as a user might choose."""
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
        if partitionfn is None:  # a record with a refused key would be skipped too
            keys = tuple(family for family in keys if family not in REFUSABLE_FAMILIES)
    if rng.random() < 0.1:
        options["memory"] = 64 << 20
    # No record is skipped for an error of a combinefn.
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
    """Draw records for the functions, and a source."""
    fragile = ROUNDING_FAMILIES if functions.reducer in {"sum", "mean", "builtin sum"} else ()
    families, values = (
        _key_families(functions, rng),
        _choose_family(functions.values, fragile, rng),
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
    # The numpy families already hold what numpy numbers may be compared with.
    alone = "sort" in functions.options or "numpy" in first + second or rng.random() < 0.7
    return (first,) if alone or first == second else (first, second)


def _choose_family(families: tuple[str, ...], fragile: Collection[str], rng: random.Random) -> str:
    """Draw a family; half of the time from the ``fragile`` ones, which have had more bugs."""
    likely = [family for family in families if family in fragile]
    return rng.choice(likely if likely and rng.random() < 0.5 else families)


def smaller_programs(whole: RandomProgram) -> Iterator[RandomProgram]:
    """Yield the program with fewer records, first with half of them: to find a minimal example."""
    size = len(whole.records) // 2
    while size:
        for at in range(0, len(whole.records), size):
            yield replace(whole, records=whole.records[:at] + whole.records[at + size :])
        size //= 2
