"""How the ancestors' functions become ours.

mincemeat.py hands ``mapfn(key, value)`` one item of the datasource, groups what it yields, and
applies ``collectfn`` once to each group; its fork allows ``collectfn``, ``reducefn`` and
``finishfn`` also as functions of an iterator of (key, value). Which form a function has is told by
its parameters, never by calling it and catching a TypeError. What returned a list in Python 2 may
return an iterator today, zip and filter do: as a value that is its list.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import inspect
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from redismr.core.pickled_snapshots import CannotSnapshot
from redismr.core.value_snapshots import private_copy
from redismr.engine.emitted import check_pair, explain_output_error, iterate_pairs, snapshot_key
from redismr.engine.program import check_functions
from redismr.engine.signatures import UNLIMITED, count_arguments
from redismr.errors import ConfigError
from redismr.shipping.pickle_diagnosis import global_names

Function = Callable[..., Any]
Pair = tuple[Any, Any]

FUNCTIONS_FD_VARIABLE = "REDISMR_MINCEMEAT_FUNCTIONS"
"""The variable that holds the descriptor of a file with a worker's own functions."""

LOG_LEVEL_VARIABLE = "REDISMR_MINCEMEAT_LEVEL"
"""The variable that holds the log level for them, if the worker's program has set one."""

_MINCEMEAT_MODULES = frozenset(
    "argparse asynchat asyncore binascii collections hashlib hmac logging marshal optparse os "  # noqa: SIM905
    "pickle random select socket sys threading time timeit traceback types".split()
)
_MINCEMEAT_NAMES = frozenset(
    "Client Server Protocol ServerChannel TaskManager DEFAULT_PORT VERSION run_client".split()  # noqa: SIM905
)


def generator(func: Function) -> Function:
    """``func(key, value)``, which returns a value, as a function of an iterator of pairs."""

    def apply_to_items(items: Iterable[Pair]) -> Iterator[Pair]:
        for key, value in items:
            yield key, func(key, value)

    return apply_to_items


def applyover(func: Function, items: Iterable[Pair]) -> Iterable[Any]:
    """The pairs that ``func``, of either form, makes of the items."""
    return (func if takes_items(func) else generator(func))(iter(items))  # type: ignore[no-any-return]


def takes_items(func: Function) -> bool:
    """Whether it is a function of an iterator of pairs: just one parameter is required."""
    required, most, _ = count_arguments(func)
    return required == 1 and most < UNLIMITED


@dataclass(frozen=True)
class JobFunctions:
    """What a job is submitted with, besides its source."""

    mapfn: Function | None
    reducefn: Function | None
    initfn: Callable[[], object]


def adapt_functions(
    mapfn: Function | bool | None,  # noqa: FBT001  the fork's False: the worker's own function
    collectfn: Function | None,
    reducefn: Function | bool | None,  # noqa: FBT001
) -> JobFunctions:
    """The job that these functions make. With neither mapfn nor reducefn the workers' own run.

    Without a reducefn each key keeps its list of values; without a mapfn the datasource's own
    pairs are reduced; False means the worker's own function of that name.

    Raises:
        ConfigError: one of them is no function, or none that we could call.
    """
    for role, func in (("mapfn", mapfn), ("collectfn", collectfn), ("reducefn", reducefn)):
        if func and not callable(func):
            raise ConfigError(f"{role} must be a function, not {func!r}")
    mapfn, collectfn, reducefn = map(_without_self, (mapfn, collectfn, reducefn))
    check_functions(mapfn or None, reducefn or None)  # type: ignore[arg-type]  # True is none
    uses_worker_functions = mapfn is None and reducefn is None
    map_function: Any = (
        WorkerFunction("mapfn") if uses_worker_functions or mapfn is False else mapfn
    )
    reduce_function: Any = (
        WorkerFunction("reducefn", optional=uses_worker_functions)
        if uses_worker_functions or reducefn is False
        else reducefn
    )
    if isinstance(map_function, WorkerFunction) and collectfn is None:
        map_function = WorkerMapper()
    initfn = MincemeatGlobals([map_function, collectfn, reduce_function])
    first_value_only, joins_lists = (
        map_function is None,
        collectfn is not None and takes_items(collectfn),
    )
    reduces_items = isinstance(reduce_function, WorkerFunction) or (
        reduce_function is not None and takes_items(reduce_function)
    )
    if (
        first_value_only
        or joins_lists
        or reduces_items
        or not (reduce_function is None or _has_core_semantics(reduce_function))
    ):
        reduce_function = AdaptedReducer(
            reduce_function, joins_lists=joins_lists, first_value_only=first_value_only
        )
    required, most, _ = count_arguments(map_function) if map_function else (2, 2, "")
    if map_function and (
        collectfn or required < 2 <= most
    ):  # ours would call the latter with the value
        map_function = AdaptedMapper(map_function, collectfn)
    return JobFunctions(map_function, reduce_function, initfn)


def _without_self(func: Any) -> Any:
    """A method as mincemeat.py sent it, its code alone, where ``self`` is not among its parameters.

    So ``def mapfn(k, v)`` in a subclass, or set as a bound one, gets key and value.
    """
    underlying = getattr(func, "__func__", None)
    if not isinstance(underlying, FunctionType) or not isinstance(func, MethodType):
        return func
    required, most, _ = count_arguments(underlying)
    takes_no_self = required == most == 2 and underlying.__code__.co_varnames[0] not in {
        "self",
        "cls",
    }
    return underlying if takes_no_self else func


class AdaptedMapper:
    """mapfn, and collectfn applied once to what it yielded for one item of the datasource.

    ``mapfn`` gets key and value if it can take both, else the value. ``collectfn(key, values)``
    returns one value, whatever its type. Of the pairs that ``collectfn(items)`` gives, a list is a
    key's values, and anything else its one value; those go on as lists, for ``AdaptedReducer`` to
    join,
    so that an empty one keeps its key.
    """

    def __init__(self, mapfn: Function, collectfn: Function | None) -> None:
        self.mapfn, self.collectfn = mapfn, collectfn
        self.takes_value_only = count_arguments(mapfn).maximum == 1
        self.collects_items = collectfn is not None and takes_items(collectfn)

    def __call__(self, key: Any, value: Any) -> Iterable[Pair]:
        """What one item contributes."""
        found = self.mapfn(value) if self.takes_value_only else self.mapfn(key, value)
        if self.collectfn is None:
            return found  # type: ignore[no-any-return]
        groups: dict[Any, list[Any]] = {}
        for key, value in _snapshot_pairs(found, "mapfn"):  # noqa: PLR1704 - found is all that is left of them
            groups.setdefault(key, []).append(value)
        if not self.collects_items:
            return [
                (k, _iterator_as_list(self.collectfn(k, values))) for k, values in groups.items()
            ]
        lists: dict[Any, list[Any]] = {}
        for key, value in _snapshot_pairs(self.collectfn(iter(groups.items())), "collectfn"):
            lists[key] = value if isinstance(value, list) else [value]
        return lists.items()


def _snapshot_pairs(found: Any, role: str) -> Iterator[Pair]:
    """The pairs that a function emits, each as it is then, and of an iterator its list.

    Raises:
        BadPair, BadValue: what it emitted is none, or cannot be kept.
    """
    for pair in iterate_pairs(found, role):
        check_pair(pair, role)
        try:
            yield snapshot_key(pair[0]), private_copy(_iterator_as_list(pair[1]))
        except CannotSnapshot as error:
            raise explain_output_error(error, pair, role) from error


class AdaptedReducer:
    """reducefn of either form, or None; one result for each key, under the same key.

    Only a generator function of key and values gives pairs instead, as ours may. ``joins_lists``:
    what
    arrives are lists to be joined. ``first_value_only``: the datasource's own values, as they are;
    of equal
    keys the first counts.
    """

    def __init__(
        self, reducefn: Function | None, *, joins_lists: bool, first_value_only: bool
    ) -> None:
        self.reducefn, self.joins_lists, self.first_value_only = (
            reducefn,
            joins_lists,
            first_value_only,
        )

    def __call__(self, key: Any, values: Any) -> Any:
        """The result of one key."""
        if self.first_value_only:
            values = values[0]
        elif self.joins_lists:
            values = list(chain.from_iterable(values))
        reducefn = self._reducefn
        if reducefn is None:
            return values
        if not self._reduces_items:
            result = reducefn(key, values)
            return result if self._yields_pairs else _iterator_as_list(result)
        pairs = list(iterate_pairs(reducefn(iter([(key, values)])), "reducefn"))
        if len(pairs) != 1 or pairs[0][0] != key:
            raise ValueError(
                f"reducefn must give exactly one pair, with the key it was given ({key!r}); "
                f"it gave {pairs!r:.200}"
            )
        return _iterator_as_list(pairs[0][1])

    @functools.cached_property
    def _reducefn(self) -> Function | None:
        reducefn = self.reducefn
        return reducefn.look_up() if isinstance(reducefn, WorkerFunction) else reducefn

    @functools.cached_property
    def _reduces_items(self) -> bool:
        return self._reducefn is not None and takes_items(self._reducefn)

    @functools.cached_property
    def _yields_pairs(self) -> bool:
        return self._reducefn is not None and _emits_pairs(self._reducefn)


def _iterator_as_list(result: Any) -> Any:
    """What a function returned, as a value: of an iterator, its list."""
    # Asked for the method first: isinstance with an ABC costs more than most reducers.
    iterates = hasattr(type(result), "__next__") and isinstance(result, Iterator)
    return list(result) if iterates else result


def _emits_pairs(reducefn: Function) -> bool:
    return inspect.isgeneratorfunction(reducefn) or inspect.isgeneratorfunction(
        getattr(type(reducefn), "__call__", None)  # noqa: B004  an object's
    )


def _has_core_semantics(reducefn: Function) -> bool:
    """Whether our own rules for it are the ancestors': ``max`` and its like give no iterators."""
    return isinstance(reducefn, BuiltinFunctionType) or _emits_pairs(reducefn)


class WorkerFunction:
    """A function that the worker has: set on its ``Client``, and not sent by the server."""

    def __init__(self, name: str, *, optional: bool = False) -> None:
        self.name, self.optional = name, optional

    def __call__(self, key: Any, value: Any) -> Any:
        """What the worker's function makes of it."""
        return self._mapper(key, value)

    @functools.cached_property
    def _mapper(self) -> AdaptedMapper:
        return AdaptedMapper(self.look_up(), None)  # type: ignore[arg-type]  # None only if optional

    def look_up(self) -> Function | None:
        """The worker's function, found once a process.

        Raises:
            LookupError: it has none, and cannot do without.
        """
        found = _worker_functions().get(self.name)
        if found is None and not self.optional:
            raise LookupError(
                f"the server sent no {self.name}, and this worker has none of its own: set "
                f"Server.{self.name}, or {self.name} of the Client on every worker"
            )
        return found


class WorkerMapper(WorkerFunction):
    """The worker's own mapfn, and its own collectfn if it has one: the server sent neither."""

    def __init__(self) -> None:
        super().__init__("mapfn")

    def __call__(self, key: Any, value: Any) -> Any:
        """What the two contribute; lists that collectfn gives are values of their keys."""
        collectfn = WorkerFunction("collectfn", optional=True).look_up()
        if collectfn is None:
            return super().__call__(key, value)
        mapper = AdaptedMapper(super().__call__, collectfn)
        pairs = mapper(key, value)
        if not mapper.collects_items:
            return pairs
        return [(k, v) for k, values in pairs for v in values]


@functools.cache
def _worker_functions() -> Mapping[str, Function]:
    if not (given := os.environ.get(FUNCTIONS_FD_VARIABLE)):
        return {}
    file = int(given)
    # Read in place: executors share one position. By our parent, who has us anyway.
    return pickle.loads(os.pread(file, os.fstat(file).st_size, 0))  # type: ignore[no-any-return]  # noqa: S301


class MincemeatGlobals:
    """An initfn: the functions find what mincemeat.py's own globals held, hashlib for one.

    Their code ran among those, so programs use modules that they never import. Only names that
    the code uses and that its own globals lack are set, on the worker only.
    """

    def __init__(self, functions: Iterable[object]) -> None:
        self.functions = [function for function in functions if function]

    def __call__(self) -> None:
        """Set them. Modules beside the worker can be imported too, after all others."""
        if level := os.environ.get(
            LOG_LEVEL_VARIABLE
        ):  # as if they ran in the worker's own process
            logging.basicConfig(level=int(level))
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        seen: set[int] = set()
        for function in self.functions:
            resolved = function.look_up() if isinstance(function, WorkerFunction) else function
            _fill_missing_globals(resolved, seen)


def _fill_missing_globals(thing: object, seen: set[int]) -> None:
    """Set the names that a function lacks, and those that the functions beside it lack."""
    while not isinstance(thing, FunctionType):
        inner = getattr(thing, "func", getattr(thing, "__func__", getattr(thing, "__wrapped__", 0)))
        if not inner:
            return
        thing = inner
    if id(thing) in seen:
        return
    seen.add(id(thing))
    function_globals = thing.__globals__
    for name in dict.fromkeys(global_names(thing.__code__)):
        global_value = function_globals.get(name)
        if isinstance(global_value, FunctionType) and global_value.__globals__ is function_globals:
            _fill_missing_globals(global_value, seen)
        elif name not in function_globals and not hasattr(builtins, name):
            with contextlib.suppress(ImportError):  # asyncore, since Python 3.12
                _set_mincemeat_name(function_globals, name)


def _set_mincemeat_name(function_globals: dict[str, Any], name: str) -> None:
    if name in _MINCEMEAT_MODULES:
        function_globals[name] = importlib.import_module(name)
    elif name in _MINCEMEAT_NAMES:
        function_globals[name] = getattr(importlib.import_module("redismr.compat.mincemeat"), name)
