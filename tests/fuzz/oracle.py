"""The plain loop with which a program must agree, and the comparison of both."""

from __future__ import annotations

import copy
import math
import operator
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import redismr
from fuzz.functions import MAPFNS, USER_REDUCEFNS, BadRecord
from fuzz.palette import KEYS
from fuzz.programs import RandomProgram, reducer_by_name

_ABSENT = object()


@dataclass(slots=True)
class ExpectedResult:
    """The results of the plain loop."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    """Ordered as their keys first came, or sorted."""
    counters: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    refusals: set[type[Exception]] = field(default_factory=set)
    """The classes of errors of which the program must raise one; empty if it must succeed."""


def plain_loop(program: RandomProgram) -> ExpectedResult:
    """Run a program in one process, with one dict."""
    answer, groups, records = ExpectedResult(), dict[Any, list[Any]](), 0
    for key, record in _items(program):
        records += 1
        try:
            pairs = [copy.deepcopy(tuple(pair)) for pair in _emitted(program, key, record)]
        except BadRecord:
            answer.skipped += 1
            continue
        answer.counters["records"] += 1
        for k, v in pairs:
            groups.setdefault(k, []).append(v)
    reduce = _reducer(program.functions.reducer)
    skips_keys = "on_error" in program.functions.options and _skips_single_keys(
        program.functions.reducer
    )
    for key, values in groups.items():
        try:
            answer.pairs += reduce(key, values, answer.counters)
        except Exception as error:
            if skips_keys:
                answer.skipped += 1
            else:
                answer.refusals.add(type(error))
    if answer.skipped > _allowed(program, records):
        answer.refusals.add(redismr.TooManySkipped)
    answer.pairs = list(dict(answer.pairs).items())
    if program.functions.options.get("sort"):
        answer.pairs.sort(key=lambda pair: pair[0])
    return answer


def _allowed(program: RandomProgram, records: int) -> float:
    budget = program.functions.options.get("on_error", 0)
    if budget == "skip":
        return math.inf
    return budget * records if isinstance(budget, float) else budget


def _skips_single_keys(reducer: str) -> bool:
    return reducer in USER_REDUCEFNS and reducer != "user_items"


def _items(program: RandomProgram) -> Any:
    source = program.open_source()
    if hasattr(source, "splits"):
        return list(enumerate(program.records))
    if hasattr(source, "__getitem__") and not isinstance(source, list):
        return ((key, source[key]) for key in source)
    return enumerate(source)


def _emitted(program: RandomProgram, key: Any, record: Any) -> Any:
    """Return the output of mapfn; the caller copies each pair before it reads the next."""
    mapfn = MAPFNS[program.functions.mapfn]
    return mapfn(record) if program.functions.mapfn == "by_value" else mapfn(key, record)


Reduce = Callable[[Any, list[Any], Counter[str]], list[tuple[Any, Any]]]


def _reducer(name: str) -> Reduce:
    name = name.removeprefix("builtin ")
    if name in _BUILTIN_RESULTS:
        return lambda key, values, _counters: [(key, _BUILTIN_RESULTS[name](values))]

    def reduce_group(key: Any, values: list[Any], counters: Counter[str]) -> list[tuple[Any, Any]]:
        if name in {"user_list", "user_items", "user_generator"}:
            counters["keys"] += 1
        if name == "user_items":
            return list(reducer_by_name(name)([(key, values)]))
        if name == "user_generator":
            return list(reducer_by_name(name)(key, values))
        return [(key, reducer_by_name(name)(key, values))]

    return reduce_group


def exact_sum(values: list[Any]) -> Any:
    """Return ``sum(values)``; without rounding if all are ints or floats, at least one a float."""
    types = set(map(type, values))
    floats = types & {float, np.float64}
    if floats and types <= {int, bool, float, np.float64}:
        try:
            return (np.float64 if np.float64 in floats else float)(math.fsum(values))
        except (OverflowError, ValueError):
            pass
    return sum(values)


def set_with_one_nan(values: list[Any]) -> set[Any]:
    """Return a set with one NaN: other processes cannot know which NaNs are one object."""
    set(values)  # raises if a value has no hash
    nans = list(filter(_is_nan, values))
    return {value for value in values if not _is_nan(value)}.union(nans[:1])


_BUILTIN_RESULTS: Mapping[str, Callable[[list[Any]], Any]] = {
    "sum": exact_sum,
    "mean": lambda values: exact_sum(values) / len(values),
    "count": len,
    "len": len,
    "min": min,
    "max": max,
    "list": list,
    "set": set_with_one_nan,
    "first": lambda values: values[0],
    "any": any,
    "all": all,
}


def differences(program: RandomProgram, run: Callable[[], redismr.Results]) -> list[str]:
    """Return the differences between the results of ``run`` and those of the plain loop.

    An error of ``run`` is no difference in three cases: the loop raises one of the same class; a
    key may be refused, and the error is a BadKey; the partitionfn may send equal keys to different
    partitions, and the error names the partitionfn.
    """
    answer = plain_loop(program)
    try:
        results = run()
        found = list(results.items())
    except redismr.RedismrError as error:
        if any(isinstance(error, kind) for kind in answer.refusals):
            return []
        if program.may_be_refused and isinstance(error, redismr.BadKey):
            return []
        if program.may_split_keys and "partitionfn" in str(error):
            return []
        return [f"{type(error).__name__}: {str(error)[:300]}"]
    if answer.refusals:
        return [f"gives {found[:5]!r}, where a plain loop raises {answer.refusals}"]
    found_differences = _compare(program, answer, results, found)
    results.close()
    return found_differences


def _compare(
    program: RandomProgram,
    answer: ExpectedResult,
    results: redismr.Results,
    found: list[tuple[Any, Any]],
) -> list[str]:
    wanted = dict(answer.pairs)
    if program.functions.options.get("sort") and not is_same(found, answer.pairs):
        return [f"in order: {found!r} instead of {answer.pairs!r}"]
    found_differences = [f"{name}: {a!r} instead of {b!r}" for name, a, b in (
        ("keys", sorted(map(repr, (k for k, _ in found))), sorted(map(repr, wanted))),
        ("len", len(results), len(wanted)),
        ("dict", len(dict(results)), len(wanted)),
        ("counters", dict(results.counters), dict(answer.counters)),
        ("skipped", results.skipped.total, answer.skipped),
    ) if a != b]  # fmt: skip
    found_differences += [
        f"{key!r}: {value!r} instead of {wanted.get(key, 'no such key')!r}"
        for key, value in found
        if not is_same(value, wanted.get(key, _ABSENT))
    ]
    again = dict(results)
    found_differences += [
        f"dict()[{key!r}]: {again.get(key)!r}" for key, value in found
        if not is_same(again.get(key, _ABSENT), value)
    ]  # fmt: skip
    for family in program.key_families:
        for key in KEYS[family]:
            there, value = key in results, results.get(key, _ABSENT)
            if there != (key in wanted) or not is_same(value, wanted.get(key, _ABSENT)):
                found_differences.append(f"look-up of {key!r}: {there}, {value!r}")
    return found_differences


def is_same(one: Any, other: Any) -> bool:
    """Return True if two values agree in type and value, at every depth; NaN agrees with NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, (set, frozenset)):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    if isinstance(one, np.generic):
        return one.dtype == other.dtype and (
            bool(one == other) or (_is_nan(one) and _is_nan(other))
        )
    if isinstance(one, (float, complex)):
        return repr(one) == repr(other)  # 0.0 and -0.0 differ
    return bool(one == other) or (_is_nan(one) and _is_nan(other))


def _is_nan(value: Any) -> bool:
    return not bool(operator.eq(value, value))
