"""Turns the functions of mincemeat.py and its forks into those of a redismr job.

mincemeat.py calls ``mapfn(key, value)`` with one item of the datasource, groups what it yields, and
applies ``collectfn`` once to each group. Its fork allows ``collectfn``, ``reducefn`` and
``finishfn`` also in an iterator form: a function of an iterator of (key, value) pairs. The
parameters of a function tell its form; it is never called to find out. Functions that returned a
list in Python 2 may return an iterator today (zip and filter do): the list of such an iterator is
taken as the value.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from redismr.compat.doorway import (
    UNLIMITED,
    CannotSnapshot,
    check_functions,
    check_pair,
    count_arguments,
    explain_output_error,
    iterate_pairs,
    private_copy,
    snapshot_key,
)
from redismr.compat.worker_functions import WorkerFunction
from redismr.errors import ConfigError

Function = Callable[..., Any]
Pair = tuple[Any, Any]

Gather = Callable[[Any], Any]
"""Makes the values that the user's reducefn gets of the values that have arrived for a key."""


def generator(func: Function) -> Function:
    """Return the iterator form of ``func(key, value)``, which returns a value."""

    def apply_to_items(items: Iterable[Pair]) -> Iterator[Pair]:
        for key, value in items:
            yield key, func(key, value)

    return apply_to_items


def applyover(func: Function, items: Iterable[Pair]) -> Iterable[Any]:
    """Return the pairs that ``func``, of either form, makes of the items."""
    return (func if takes_items(func) else generator(func))(iter(items))  # type: ignore[no-any-return]


def takes_items(func: Function) -> bool:
    """True if ``func`` has the iterator form: exactly one parameter is required."""
    required, maximum, _ = count_arguments(func)
    return required == 1 and maximum < UNLIMITED


@dataclass(frozen=True)
class JobFunctions:
    """The functions that a job is submitted with."""

    mapfn: Function | None
    reducefn: Function | None
    user_functions: list[object]
    """The functions behind these two, as the user or the worker has them."""


def adapt_functions(
    mapfn: Function | bool | None,  # noqa: FBT001  the fork's False: the worker's own function
    collectfn: Function | None,
    reducefn: Function | bool | None,  # noqa: FBT001
) -> JobFunctions:
    """Return the job functions that do what these functions did in mincemeat.py.

    Without a reducefn each key keeps the list of its values. Without a mapfn the pairs of the
    datasource are reduced. Without both, the workers' own functions run. False stands for the
    worker's own function of that name.

    Raises:
        ConfigError: one of them is not a function, or takes parameters that no call can give.
    """
    for role, func in (("mapfn", mapfn), ("collectfn", collectfn), ("reducefn", reducefn)):
        if func and not callable(func):
            raise ConfigError(f"{role} must be a function, not {func!r}")
    map_function: Any
    reduce_function: Any
    map_function, collectfn, reduce_function = map(_without_self, (mapfn, collectfn, reducefn))
    check_functions(map_function or None, reduce_function or None)
    all_from_worker = mapfn is None and reducefn is None
    collects_items = collectfn is not None and takes_items(collectfn)
    gather: Gather | None = join_lists if collects_items else None
    if mapfn is None and not all_from_worker:
        gather = itemgetter(0)  # the value in the datasource; of equal keys the first counts

    user_functions: list[object] = [map_function, collectfn, reduce_function]
    if all_from_worker or mapfn is False:
        map_function = WorkerMapper(collectfn)
        user_functions[:2] = map_function.mapfn, map_function.collectfn
    elif map_function:
        required, maximum, _ = count_arguments(map_function)
        # The kernel would call a function of one or two arguments with the value alone.
        if collectfn or required < 2 <= maximum:
            map_function = AdaptedMapper(map_function, collectfn)
    if all_from_worker or reducefn is False:
        user_functions[2] = own_reducefn = WorkerFunction("reducefn", optional=all_from_worker)
        reduce_function = WorkerReducer(own_reducefn, gather)
    elif gather or not (reduce_function is None or _has_core_semantics(reduce_function)):
        reduce_function = _adapt_reducer(reduce_function, gather)
    return JobFunctions(map_function, reduce_function, user_functions)


def _without_self(func: Any) -> Any:
    """Return the plain function of a method that has no parameter for ``self``, else ``func``.

    mincemeat.py sent the code alone, so ``def mapfn(k, v)`` in a subclass got key and value.
    """
    underlying = getattr(func, "__func__", None)
    if not isinstance(underlying, FunctionType) or not isinstance(func, MethodType):
        return func
    required, maximum, _ = count_arguments(underlying)
    names = underlying.__code__.co_varnames
    return underlying if required == maximum == 2 and names[0] not in {"self", "cls"} else func


class AdaptedMapper:
    """Calls mapfn, and applies collectfn once to what mapfn yielded for one item.

    ``mapfn`` gets key and value if it can take both, else the value. ``collectfn(key, values)``
    returns one value of any type. Of the pairs that ``collectfn(items)`` gives, a list holds all
    values of its key, and anything else is the only value. This class emits lists for all of them,
    so that a key with an empty list is kept; ``join_lists`` joins them before the reducer runs.
    """

    def __init__(self, mapfn: Function, collectfn: Function | None) -> None:
        self.mapfn, self.collectfn = mapfn, collectfn
        self.takes_value_only = count_arguments(mapfn).maximum == 1
        self.collects_items = collectfn is not None and takes_items(collectfn)

    def __call__(self, key: Any, value: Any) -> Iterable[Pair]:
        """Return the pairs that one item of the datasource contributes."""
        found = self.mapfn(value) if self.takes_value_only else self.mapfn(key, value)
        if self.collectfn is None:
            return found  # type: ignore[no-any-return]
        groups: dict[Any, list[Any]] = {}
        for key, value in _snapshot_pairs(found, "mapfn"):  # noqa: PLR1704 - the item is done with
            groups.setdefault(key, []).append(value)
        if not self.collects_items:
            return [
                (k, _iterator_as_list(self.collectfn(k, values))) for k, values in groups.items()
            ]
        lists: dict[Any, list[Any]] = {}
        for key, value in _snapshot_pairs(self.collectfn(iter(groups.items())), "collectfn"):
            lists[key] = value if isinstance(value, list) else [value]
        return lists.items()


class WorkerMapper:
    """Calls the worker's own mapfn, with the collectfn of the server, else that of the worker."""

    def __init__(self, collectfn: Function | None) -> None:
        self.mapfn = WorkerFunction("mapfn")
        self.collectfn = collectfn or WorkerFunction("collectfn", optional=True)

    def __call__(self, key: Any, value: Any) -> Iterable[Pair]:
        """Return the pairs that one item of the datasource contributes."""
        pairs = self._mapper(key, value)
        if not self._expands_lists:
            return pairs
        return [(k, v) for k, values in pairs for v in values]

    @functools.cached_property
    def _mapper(self) -> AdaptedMapper:
        collectfn = self.collectfn
        if isinstance(collectfn, WorkerFunction):
            collectfn = collectfn.look_up()  # type: ignore[assignment]
        return AdaptedMapper(self.mapfn.look_up(), collectfn)  # type: ignore[arg-type]  # not optional

    @functools.cached_property
    def _expands_lists(self) -> bool:
        """True if the job's reducer does not join lists: its server knows nothing of collectfn."""
        return isinstance(self.collectfn, WorkerFunction) and self._mapper.collects_items


def _snapshot_pairs(found: Any, role: str) -> Iterator[Pair]:
    """Yield the pairs that a function emits, each copied as it is then; an iterator as its list.

    Raises:
        BadPair, BadValue: the function emitted something that is no pair, or cannot be copied.
    """
    for pair in iterate_pairs(found, role):
        check_pair(pair, role)
        try:
            yield snapshot_key(pair[0]), private_copy(_iterator_as_list(pair[1]))
        except CannotSnapshot as error:
            raise explain_output_error(error, pair, role) from error


def join_lists(values: Any) -> list[Any]:
    """Return the values of one key out of the lists that ``AdaptedMapper`` emitted for the key."""
    return list(chain.from_iterable(values))


class KeyReducer:
    """Makes one result of a key, under the same key, with ``reducefn(key, values)``, if there is one.

    A generator function may emit other pairs instead.
    """  # noqa: E501

    def __init__(self, reducefn: Function | None, gather: Gather | None) -> None:
        self.reducefn, self.gather = reducefn, gather
        self.emits_pairs = reducefn is not None and _emits_pairs(reducefn)

    def __call__(self, key: Any, values: Any) -> Any:
        """Return the result of one key."""
        if self.gather is not None:
            values = self.gather(values)
        if self.reducefn is None:
            return values
        result = self.reducefn(key, values)
        return result if self.emits_pairs else _iterator_as_list(result)


class ItemsReducer:
    """Makes one result of a key with ``reducefn(items)``, called with one item: the key's."""

    def __init__(self, reducefn: Function, gather: Gather | None) -> None:
        self.reducefn, self.gather = reducefn, gather

    def __call__(self, key: Any, values: Any) -> Any:
        """Return the result of one key.

        Raises:
            ValueError: reducefn gave no pair, several pairs, or one with another key.
        """
        if self.gather is not None:
            values = self.gather(values)
        pairs = list(iterate_pairs(self.reducefn(iter([(key, values)])), "reducefn"))
        if len(pairs) != 1 or pairs[0][0] != key:
            raise ValueError(
                f"reducefn must give exactly one pair, with the key it was given ({key!r}); "
                f"it gave {pairs!r:.200}"
            )
        return _iterator_as_list(pairs[0][1])


class WorkerReducer:
    """Calls the worker's own reducefn, whose form only the worker knows."""

    def __init__(self, function: WorkerFunction, gather: Gather | None) -> None:
        self.function, self.gather = function, gather

    def __call__(self, key: Any, values: Any) -> Any:
        """Return the result of one key."""
        return self._reducer(key, values)

    @functools.cached_property
    def _reducer(self) -> KeyReducer | ItemsReducer:
        return _adapt_reducer(self.function.look_up(), self.gather)


def _adapt_reducer(reducefn: Function | None, gather: Gather | None) -> KeyReducer | ItemsReducer:
    if reducefn is not None and takes_items(reducefn):
        return ItemsReducer(reducefn, gather)
    return KeyReducer(reducefn, gather)


def _iterator_as_list(result: Any) -> Any:
    """Return the list of an iterator; any other value as it is."""
    # The method is looked for first: isinstance with an ABC takes longer than most reducers.
    iterates = hasattr(type(result), "__next__") and isinstance(result, Iterator)
    return list(result) if iterates else result


def _emits_pairs(reducefn: Function) -> bool:
    return inspect.isgeneratorfunction(reducefn) or inspect.isgeneratorfunction(
        getattr(type(reducefn), "__call__", None)  # noqa: B004  an object's
    )


def _has_core_semantics(reducefn: Function) -> bool:
    """True if the kernel's rules for ``reducefn`` are those of mincemeat.py.

    ``max`` and other built-in functions return no iterators; generator functions emit pairs.
    """
    return not takes_items(reducefn) and (
        isinstance(reducefn, BuiltinFunctionType) or _emits_pairs(reducefn)
    )
