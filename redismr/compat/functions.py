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

from redismr.core.arguments import ANY, arguments_of
from redismr.core.frozen import CannotKeep, snapshot
from redismr.core.functions import check_functions
from redismr.core.pairs import check_pair, key_kept, named, pairs_of
from redismr.errors import ConfigError
from redismr.shipping.blame import globals_of

Function = Callable[..., Any]
Pair = tuple[Any, Any]

OWN = "REDISMR_MINCEMEAT_FUNCTIONS"
"""The variable that holds the descriptor of a file with a worker's own functions."""

LEVEL = "REDISMR_MINCEMEAT_LEVEL"
"""The variable that holds the log level for them, if the worker's program has set one."""

_MODULES = frozenset(
    "argparse asynchat asyncore binascii collections hashlib hmac logging marshal optparse os "  # noqa: SIM905
    "pickle random select socket sys threading time timeit traceback types".split()
)
_NAMES = frozenset(
    "Client Server Protocol ServerChannel TaskManager DEFAULT_PORT VERSION run_client".split()  # noqa: SIM905
)


def generator(func: Function) -> Function:
    """``func(key, value)``, which returns a value, as a function of an iterator of pairs."""

    def over(items: Iterable[Pair]) -> Iterator[Pair]:
        for key, value in items:
            yield key, func(key, value)

    return over


def applyover(func: Function, items: Iterable[Pair]) -> Iterable[Any]:
    """The pairs that ``func``, of either form, makes of the items."""
    return (func if takes_items(func) else generator(func))(iter(items))  # type: ignore[no-any-return]


def takes_items(func: Function) -> bool:
    """Whether it is a function of an iterator of pairs: just one parameter is required."""
    required, most, _ = arguments_of(func)
    return required == 1 and most < ANY


@dataclass(frozen=True)
class Program:
    """What a job is submitted with, besides its source."""

    mapfn: Function | None
    reducefn: Function | None
    initfn: Callable[[], object]


def program(
    mapfn: Function | bool | None,  # noqa: FBT001  the fork's False: the worker's own function
    collectfn: Function | None,
    reducefn: Function | bool | None,  # noqa: FBT001
) -> Program:
    """The job that these functions make. With neither mapfn nor reducefn the workers' own run.

    Without a reducefn each key keeps its list of values; without a mapfn the datasource's own
    pairs are reduced; False means the worker's own function of that name.

    Raises:
        ConfigError: one of them is no function, or none that we could call.
    """
    for role, func in (("mapfn", mapfn), ("collectfn", collectfn), ("reducefn", reducefn)):
        if func and not callable(func):
            raise ConfigError(f"{role} must be a function, not {func!r}")
    mapfn, collectfn, reducefn = map(_as_sent, (mapfn, collectfn, reducefn))
    check_functions(mapfn or None, reducefn or None)  # type: ignore[arg-type]  # True is none
    own = mapfn is None and reducefn is None
    maps: Any = Own("mapfn") if own or mapfn is False else mapfn
    reduces: Any = Own("reducefn", optional=own) if own or reducefn is False else reducefn
    if isinstance(maps, Own) and collectfn is None:
        maps = OwnMapper()
    names = Names([maps, collectfn, reduces])
    whole, lists = maps is None, collectfn is not None and takes_items(collectfn)
    theirs = isinstance(reduces, Own) or (reduces is not None and takes_items(reduces))
    if whole or lists or theirs or not (reduces is None or _known_to_core(reduces)):
        reduces = Reducer(reduces, lists=lists, whole=whole)
    required, most, _ = arguments_of(maps) if maps else (2, 2, "")
    if maps and (collectfn or required < 2 <= most):  # ours would call the latter with the value
        maps = Mapper(maps, collectfn)
    return Program(maps, reduces, names)


def _as_sent(func: Any) -> Any:
    """A method as mincemeat.py sent it, its code alone, where ``self`` is not among its parameters.

    So ``def mapfn(k, v)`` in a subclass, or set as a bound one, gets key and value.
    """
    plain = getattr(func, "__func__", None)
    if not isinstance(plain, FunctionType) or not isinstance(func, MethodType):
        return func
    required, most, _ = arguments_of(plain)
    alone = required == most == 2 and plain.__code__.co_varnames[0] not in {"self", "cls"}
    return plain if alone else func


class Mapper:
    """mapfn, and collectfn applied once to what it yielded for one item of the datasource.

    ``mapfn`` gets key and value if it can take both, else the value. ``collectfn(key, values)``
    returns one value, whatever its type. Of the pairs that ``collectfn(items)`` gives, a list is a
    key's values, and anything else its one value; those go on as lists, for ``Reducer`` to join,
    so that an empty one keeps its key.
    """

    def __init__(self, mapfn: Function, collectfn: Function | None) -> None:
        self.mapfn, self.collectfn = mapfn, collectfn
        self.by_value = arguments_of(mapfn).most == 1
        self.items = collectfn is not None and takes_items(collectfn)

    def __call__(self, key: Any, value: Any) -> Iterable[Pair]:
        """What one item contributes."""
        found = self.mapfn(value) if self.by_value else self.mapfn(key, value)
        if self.collectfn is None:
            return found  # type: ignore[no-any-return]
        groups: dict[Any, list[Any]] = {}
        for key, value in _kept(found, "mapfn"):  # noqa: PLR1704 - found is all that is left of them
            groups.setdefault(key, []).append(value)
        if not self.items:
            return [(k, _value(self.collectfn(k, values))) for k, values in groups.items()]
        lists: dict[Any, list[Any]] = {}
        for key, value in _kept(self.collectfn(iter(groups.items())), "collectfn"):
            lists[key] = value if isinstance(value, list) else [value]
        return lists.items()


def _kept(found: Any, role: str) -> Iterator[Pair]:
    """The pairs that a function emits, each as it is then, and of an iterator its list.

    Raises:
        BadPair, BadValue: what it emitted is none, or cannot be kept.
    """
    for pair in pairs_of(found, role):
        check_pair(pair, role)
        try:
            yield key_kept(pair[0]), snapshot(_value(pair[1]))
        except CannotKeep as error:
            raise named(error, pair, role) from error


class Reducer:
    """reducefn of either form, or None; one result for each key, under the same key.

    Only a generator function of key and values gives pairs instead, as ours may. ``lists``: what
    arrives are lists to be joined. ``whole``: the datasource's own values, as they are; of equal
    keys the first counts.
    """

    def __init__(self, reducefn: Function | None, *, lists: bool, whole: bool) -> None:
        self.reducefn, self.lists, self.whole = reducefn, lists, whole

    def __call__(self, key: Any, values: Any) -> Any:
        """The result of one key."""
        if self.whole:
            values = values[0]
        elif self.lists:
            values = list(chain.from_iterable(values))
        reducefn = self._reducefn
        if reducefn is None:
            return values
        if not self._items:
            result = reducefn(key, values)
            return result if self._emits else _value(result)
        pairs = list(pairs_of(reducefn(iter([(key, values)])), "reducefn"))
        if len(pairs) != 1 or pairs[0][0] != key:
            raise ValueError(
                f"reducefn must give exactly one pair, with the key it was given ({key!r}); "
                f"it gave {pairs!r:.200}"
            )
        return _value(pairs[0][1])

    @functools.cached_property
    def _reducefn(self) -> Function | None:
        reducefn = self.reducefn
        return reducefn.function() if isinstance(reducefn, Own) else reducefn

    @functools.cached_property
    def _items(self) -> bool:
        return self._reducefn is not None and takes_items(self._reducefn)

    @functools.cached_property
    def _emits(self) -> bool:
        return self._reducefn is not None and _emits_pairs(self._reducefn)


def _value(result: Any) -> Any:
    """What a function returned, as a value: of an iterator, its list."""
    # Asked for the method first: isinstance with an ABC costs more than most reducers.
    iterates = hasattr(type(result), "__next__") and isinstance(result, Iterator)
    return list(result) if iterates else result


def _emits_pairs(reducefn: Function) -> bool:
    return inspect.isgeneratorfunction(reducefn) or inspect.isgeneratorfunction(
        getattr(type(reducefn), "__call__", None)  # noqa: B004  an object's
    )


def _known_to_core(reducefn: Function) -> bool:
    """Whether our own rules for it are the ancestors': ``max`` and its like give no iterators."""
    return isinstance(reducefn, BuiltinFunctionType) or _emits_pairs(reducefn)


class Own:
    """A function that the worker has: set on its ``Client``, and not sent by the server."""

    def __init__(self, name: str, *, optional: bool = False) -> None:
        self.name, self.optional = name, optional

    def __call__(self, key: Any, value: Any) -> Any:
        """What the worker's function makes of it."""
        return self._mapper(key, value)

    @functools.cached_property
    def _mapper(self) -> Mapper:
        return Mapper(self.function(), None)  # type: ignore[arg-type]  # None only if optional

    def function(self) -> Function | None:
        """The worker's function, found once a process.

        Raises:
            LookupError: it has none, and cannot do without.
        """
        found = _own_functions().get(self.name)
        if found is None and not self.optional:
            raise LookupError(
                f"the server sent no {self.name}, and this worker has none of its own: set "
                f"Server.{self.name}, or {self.name} of the Client on every worker"
            )
        return found


class OwnMapper(Own):
    """The worker's own mapfn, and its own collectfn if it has one: the server sent neither."""

    def __init__(self) -> None:
        super().__init__("mapfn")

    def __call__(self, key: Any, value: Any) -> Any:
        """What the two contribute; lists that collectfn gives are values of their keys."""
        collectfn = Own("collectfn", optional=True).function()
        if collectfn is None:
            return super().__call__(key, value)
        mapper = Mapper(super().__call__, collectfn)
        pairs = mapper(key, value)
        if not mapper.items:
            return pairs
        return [(k, v) for k, values in pairs for v in values]


@functools.cache
def _own_functions() -> Mapping[str, Function]:
    if not (given := os.environ.get(OWN)):
        return {}
    file = int(given)
    # Read in place: executors share one position. By our parent, who has us anyway.
    return pickle.loads(os.pread(file, os.fstat(file).st_size, 0))  # type: ignore[no-any-return]  # noqa: S301


class Names:
    """An initfn: the functions find what mincemeat.py's own globals held, hashlib for one.

    Their code ran among those, so programs use modules that they never import. Only names that
    the code uses and that its own globals lack are set, on the worker only.
    """

    def __init__(self, functions: Iterable[object]) -> None:
        self.functions = [function for function in functions if function]

    def __call__(self) -> None:
        """Set them. Modules beside the worker can be imported too, after all others."""
        if level := os.environ.get(LEVEL):  # as if they ran in the worker's own process
            logging.basicConfig(level=int(level))
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        seen: set[int] = set()
        for function in self.functions:
            own = function.function() if isinstance(function, Own) else function
            _complete(own, seen)


def _complete(thing: object, seen: set[int]) -> None:
    """Set the names that a function lacks, and those that the functions beside it lack."""
    while not isinstance(thing, FunctionType):
        inner = getattr(thing, "func", getattr(thing, "__func__", getattr(thing, "__wrapped__", 0)))
        if not inner:
            return
        thing = inner
    if id(thing) in seen:
        return
    seen.add(id(thing))
    space = thing.__globals__
    for name in dict.fromkeys(globals_of(thing.__code__)):
        beside = space.get(name)
        if isinstance(beside, FunctionType) and beside.__globals__ is space:
            _complete(beside, seen)
        elif name not in space and not hasattr(builtins, name):
            with contextlib.suppress(ImportError):  # asyncore, since Python 3.12
                _provide(space, name)


def _provide(space: dict[str, Any], name: str) -> None:
    if name in _MODULES:
        space[name] = importlib.import_module(name)
    elif name in _NAMES:
        space[name] = getattr(importlib.import_module("redismr.compat.mincemeat"), name)
