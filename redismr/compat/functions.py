"""How the ancestors' functions become ours.

mincemeat.py hands ``mapfn(key, value)`` one item of the datasource, groups what it yields, and
applies ``collectfn`` once to each group; its fork allows ``collectfn``, ``reducefn`` and
``finishfn`` also as functions of an iterator of (key, value). Which form a function has is told by
its required parameters, never by calling it and catching a TypeError.
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import functools
import importlib
import inspect
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from types import FunctionType
from typing import Any

from redismr.core.keyhash import partition_of
from redismr.core.pairs import check_pair, pairs_of
from redismr.errors import BadKey, ConfigError
from redismr.shipping.blame import globals_of

Function = Callable[..., Any]
Pair = tuple[Any, Any]

OWN = "REDISMR_MINCEMEAT_FUNCTIONS"
"""The variable that holds a worker's own functions, in the environment of its executors."""

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
    try:
        parameters = inspect.signature(func).parameters.values()
    except (TypeError, ValueError):  # some functions written in C
        return False
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return False
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    return sum(p.default is p.empty for p in positional) == 1


def any_key(key: Any, partitions: int) -> int:
    """Where a key goes: also one whose hash differs in each process, as theirs may."""
    try:
        return partition_of(key, partitions)
    except BadKey:
        return 0


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
        ConfigError: one of them is no function.
    """
    for role, func in (("mapfn", mapfn), ("collectfn", collectfn), ("reducefn", reducefn)):
        if func and not callable(func):
            raise ConfigError(f"{role} must be a function, not {func!r}")
    own = mapfn is None and reducefn is None
    maps: Any = Own("mapfn") if own or mapfn is False else mapfn
    reduces: Any = Own("reducefn", optional=own) if own or reducefn is False else reducefn
    names = Names([maps, collectfn, reduces])
    whole, lists = maps is None, collectfn is not None and takes_items(collectfn)
    theirs = isinstance(reduces, Own) or (reduces is not None and takes_items(reduces))
    if whole or lists or theirs:
        reduces = Reducer(reduces, lists=lists, whole=whole)
    if maps and collectfn:
        maps = Mapper(maps, collectfn)
    return Program(maps, reduces, names)


class Mapper:
    """mapfn, and collectfn applied once to what it yielded for one item of the datasource.

    ``collectfn(key, values)`` returns one value, whatever its type. Of the pairs that
    ``collectfn(items)`` gives, a list is a key's values, and anything else its one value; those
    go on as lists, for ``Reducer`` to join, so that an empty one keeps its key.
    """

    def __init__(self, mapfn: Function, collectfn: Function) -> None:
        self.mapfn, self.collectfn = mapfn, collectfn
        self.items = takes_items(collectfn)

    def __call__(self, key: Any, value: Any) -> Iterable[Pair]:
        """What one item contributes."""
        groups: dict[Any, list[Any]] = {}
        for pair in pairs_of(self.mapfn(key, value)):
            check_pair(pair)
            groups.setdefault(pair[0], []).append(pair[1])
        if not self.items:
            return [(k, self.collectfn(k, values)) for k, values in groups.items()]
        lists: dict[Any, list[Any]] = {}
        for pair in pairs_of(self.collectfn(iter(groups.items())), "collectfn"):
            check_pair(pair, "collectfn")
            lists[pair[0]] = pair[1] if isinstance(pair[1], list) else [pair[1]]
        return lists.items()


class Reducer:
    """reducefn of either form, or None; one result for each key, under the same key.

    ``lists``: what arrives are lists to be joined. ``whole``: the datasource's own values, as
    they are; of equal keys the first counts.
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
            return reducefn(key, values)
        pairs = list(pairs_of(reducefn(iter([(key, values)])), "reducefn"))
        if len(pairs) != 1 or pairs[0][0] != key:
            raise ValueError(
                f"reducefn must give exactly one pair, with the key it was given ({key!r}); "
                f"it gave {pairs!r:.200}"
            )
        return pairs[0][1]

    @functools.cached_property
    def _reducefn(self) -> Function | None:
        reducefn = self.reducefn
        return reducefn.function() if isinstance(reducefn, Own) else reducefn

    @functools.cached_property
    def _items(self) -> bool:
        return self._reducefn is not None and takes_items(self._reducefn)


class Own:
    """A function that the worker has: set on its ``Client``, and not sent by the server."""

    def __init__(self, name: str, *, optional: bool = False) -> None:
        self.name, self.optional = name, optional

    def __call__(self, key: Any, value: Any) -> Any:
        """What the worker's function makes of it."""
        return self.function()(key, value)  # type: ignore[misc]  # None only if optional

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


@functools.cache
def _own_functions() -> Mapping[str, Function]:
    packed = os.environ.get(OWN)  # by our parent: whoever sets our environment has us anyway
    return pickle.loads(base64.b85decode(packed)) if packed else {}  # noqa: S301


class Names:
    """An initfn: the functions find what mincemeat.py's own globals held, hashlib for one.

    Their code ran among those, so programs use modules that they never import. Only names that
    the code uses and that its own globals lack are set, on the worker only.
    """

    def __init__(self, functions: Iterable[object]) -> None:
        self.functions = [function for function in functions if function]

    def __call__(self) -> None:
        """Set them. Modules beside the worker can be imported too, after all others."""
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
