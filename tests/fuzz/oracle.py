"""The plain loop that a program must agree with, and how the two are compared."""

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
    """What the loop gives: pairs in order of first appearance, counters, skips, refusals."""

    pairs: list[tuple[Any, Any]] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    skipped: int = 0
    refusals: set[type[Exception]] = field(default_factory=set)


def plain_loop(program: RandomProgram) -> ExpectedResult:
    """One process, one dict."""
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
    """Each pair is copied by the caller before the next is asked for."""
    mapfn = MAPFNS[program.functions.mapfn]
    return mapfn(record) if program.functions.mapfn == "by_value" else mapfn(key, record)


Reduce = Callable[[Any, list[Any], Counter[str]], list[tuple[Any, Any]]]


def _reducer(name: str) -> Reduce:
    name = name.removeprefix("builtin ")
    if name in _BUILTIN_RESULTS:
        return lambda key, values, _counters: [(key, _BUILTIN_RESULTS[name](values))]

    def own(key: Any, values: list[Any], counters: Counter[str]) -> list[tuple[Any, Any]]:
        if name in {"user_list", "user_items", "user_generator"}:
            counters["keys"] += 1
        if name == "user_items":
            return list(reducer_by_name(name)([(key, values)]))
        if name == "user_generator":
            return list(reducer_by_name(name)(key, values))
        return [(key, reducer_by_name(name)(key, values))]

    return own


def exact_sum(values: list[Any]) -> Any:
    """The builtin's; where there are only ints and floats, floats among them, without rounding."""
    types = set(map(type, values))
    floats = types & {float, np.float64}
    if floats and types <= {int, bool, float, np.float64}:
        try:
            return (np.float64 if np.float64 in floats else float)(math.fsum(values))
        except (OverflowError, ValueError):
            pass
    return sum(values)


def set_with_one_nan(values: list[Any]) -> set[Any]:
    """A set in which NaN stands once: which of them are one object is not seen elsewhere."""
    set(values)  # raises where one of them has no hash
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
    """How what ``run`` gives differs from the plain loop; [] if it does not.

    An error is right where the loop raises one of the same class; where a key may be refused, if
    it refuses a key; and where the partitionfn parts equal keys, if it names the partitionfn.
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
    """Whether two values are alike in type and value, all the way down; NaN is like NaN."""
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
        return repr(one) == repr(other)  # told apart: 0.0 and -0.0
    return bool(one == other) or (_is_nan(one) and _is_nan(other))


def _is_nan(value: Any) -> bool:
    return not bool(operator.eq(value, value))
