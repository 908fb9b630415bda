"""The named reducers: "sum", "count" and the like, whose combiner is known.

Each works in two steps. ``condense`` turns the values that one task has of a key into states,
mostly a single one; ``finish`` turns the states of all tasks, in task order, into the result.
Together they give what a plain sequential run gives, wherever the input was cut:

- A sum of ints is an int. As soon as a float is among the values it is their exact sum, rounded
  once: ``math.fsum`` of all of them. The states of a float sum are floats whose exact sum is the
  sum so far, so nothing is lost between tasks.
- Of equal values, min and max show the first, as Python's own do. Values without a total order
  (NaN, sets) are not condensed: only the whole, in order, has an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from itertools import chain
from math import fsum, isfinite
from operator import add, eq, neg
from typing import Any, Literal

_MAX_EXACT = 1 << 53  # ints up to here are floats without rounding

_ORDERED = frozenset((int, str, bytes, bool))
_ORDERED_BUT_NAN = frozenset((float, Decimal, Fraction, date, datetime, time, timedelta))
_UNSUMMABLE = (str, bytes, bytearray, list)


@dataclass(frozen=True, slots=True)
class Reducer:
    """A named reducer.

    ``condense`` takes the values of a key in input order and returns states, in order; ``finish``
    takes states and returns the value. ``fold`` says that int values (or a 1 for each value, with
    "ones") may be added up as they come, which is the fast way through the kernel.
    """

    name: str
    condense: Callable[[list[Any]], list[Any]]
    finish: Callable[[list[Any]], Any]
    fold: Literal["", "values", "ones"] = ""

    def __call__(self, _key: Any, values: list[Any]) -> Any:
        """The result of these values and no others."""
        return self.finish(self.condense(values))


def _condense_sum(values: list[Any]) -> list[Any]:
    ints, floats, others = _kinds(values)
    if others:
        return [_finish_sum(values)]
    if not floats:
        return [ints]
    return [ints, *_exact_parts(floats)] if ints else _exact_parts(floats)


def _finish_sum(values: list[Any]) -> Any:
    ints, floats, others = _kinds(values)
    if floats:
        total: Any = fsum(chain(_as_floats(ints), floats)) if ints else fsum(floats)
    else:
        total = ints
    if not others:
        return total
    # A plain 0 is left out: 0 + timedelta is an error.
    return reduce(add, [total, *others] if total or floats else others)


def _kinds(values: list[Any]) -> tuple[int, list[float], list[Any]]:
    """The sum of the ints, the floats, and the rest."""
    types = set(map(type, values))
    if types <= {int, bool}:
        return sum(values), [], []
    if types == {float}:
        return 0, values, []
    ints, floats, others = 0, [], []
    for value in values:
        if isinstance(value, int):
            ints += value
        elif isinstance(value, float):
            floats.append(value)
        elif isinstance(value, _UNSUMMABLE) or type(value) is tuple or value is None:
            raise TypeError(f'"sum" cannot add {type(value).__name__} values')
        else:
            others.append(value)
    return int(ints), floats, others


def _exact_parts(floats: list[float]) -> list[float]:
    """A few floats that have the same exact sum.

    The rounded sum, then what rounding lost, and so on: each is a pass of fsum over the values, at
    C speed, and two or three are all there is. What fsum refuses (an overflow, inf and -inf) is
    left for ``finish`` to be refused there.
    """
    if len(floats) == 1:
        return floats
    try:
        parts = [fsum(floats)]
        if not isfinite(parts[0]):
            return _specials(floats)
        while rest := fsum([*floats, *map(neg, parts)]):
            parts.append(rest)
    except ValueError:
        return _specials(floats)
    except OverflowError:
        return floats
    return parts


def _specials(floats: list[float]) -> list[float]:
    """One of each that is not finite: nothing else matters for the sum."""
    return list({repr(value): value for value in floats if not isfinite(value)}.values())


def _as_floats(number: int) -> Iterator[float]:
    """Floats whose exact sum is the int."""
    while abs(number) > _MAX_EXACT:
        part = float(number)
        yield part
        number -= int(part)
    yield float(number)


def _condense_mean(values: list[Any]) -> list[Any]:
    first, *rest = _condense_sum(values)
    return [(len(values), first), *((0, part) for part in rest)]


def _finish_mean(states: list[Any]) -> Any:
    counts, parts = zip(*states, strict=True)
    return _finish_sum(list(parts)) / sum(counts)


def _condense_extreme(extreme: Callable[[Iterable[Any]], Any]) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [extreme(values)] if _totally_ordered(values) else values


def _totally_ordered(values: Iterable[Any]) -> bool:
    """Whether min of mins is surely the min: known scalars, no NaN, and tuples of such."""
    values = list(values)
    types = set(map(type, values))
    if types <= _ORDERED:
        return True
    if types <= _ORDERED | _ORDERED_BUT_NAN:
        return all(map(eq, values, values))
    return types <= {tuple, list} and _totally_ordered(chain.from_iterable(values))


def _as_is(values: list[Any]) -> list[Any]:
    return values


def _first(values: list[Any]) -> Any:
    return values[0]


REDUCERS = {
    reducer.name: reducer
    for reducer in (
        Reducer("sum", _condense_sum, _finish_sum, fold="values"),
        Reducer("count", lambda values: [len(values)], sum, fold="ones"),
        Reducer("min", _condense_extreme(min), min),
        Reducer("max", _condense_extreme(max), max),
        Reducer("mean", _condense_mean, _finish_mean),
        Reducer("list", _as_is, list),
        # The first of equal members is the one a set keeps.
        Reducer("set", lambda values: list(dict.fromkeys(values)), set),
        Reducer("first", lambda values: values[:1], _first),
        Reducer("any", lambda values: [any(values)], any),
        Reducer("all", lambda values: [all(values)], all),
    )
}
"""By name. "len" is another word for "count"."""

REDUCERS["len"] = REDUCERS["count"]

BUILTINS: tuple[tuple[Any, str], ...] = (
    (sum, "sum"),
    (min, "min"),
    (max, "max"),
    (len, "count"),
    (list, "list"),
    (set, "set"),
    (any, "any"),
    (all, "all"),
)
"""Python's own functions, which mean the named reducers when passed as objects."""
