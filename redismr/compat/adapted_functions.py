"""The mappers and reducers that travel to workers and call a user's functions as mincemeat.py did.

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
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from redismr.compat.doorway import (
    UNLIMITED,
    CannotSnapshot,
    Function,
    Pair,
    check_pair,
    count_arguments,
    explain_output_error,
    iterate_pairs,
    private_copy,
    snapshot_key,
)

FUNCTIONS_FD_VARIABLE = "REDISMR_MINCEMEAT_FUNCTIONS"
"""Environment variable with the descriptor of the file that holds a worker's functions, pickled."""
LOG_LEVEL_VARIABLE = "REDISMR_MINCEMEAT_LEVEL"  # with their log level; empty if none was set


def takes_items(func: Function) -> bool:
    """True if ``func`` has the iterator form: exactly one parameter is required."""
    required, maximum, _ = count_arguments(func)
    return required == 1 and maximum < UNLIMITED


class WorkerFunction:
    """Names a function that workers have of their own. No dataclass: executors import this."""

    def __init__(self, name: str, *, optional: bool = False) -> None:
        self.name, self.optional = name, optional

    def look_up(self) -> Function | None:
        """Return this worker's function; None if the worker has none and the job needs none.

        Raises:
            LookupError: the worker has no such function, and the job needs one.
        """
        function = _read_worker_functions().get(self.name)
        if function is None and not self.optional:
            raise LookupError(
                f"the server sent no {self.name}, and this worker has none of its own: set "
                f"Server.{self.name}, or {self.name} of the Client on every worker"
            )
        return function


@functools.cache
def _read_worker_functions() -> Mapping[str, Function]:
    if not (descriptor := os.environ.get(FUNCTIONS_FD_VARIABLE)):
        return {}
    file = int(descriptor)
    # pread, because all executors share one file position. The file was written by the parent
    # process, which could run any code here anyway.
    return pickle.loads(os.pread(file, os.fstat(file).st_size, 0))  # type: ignore[no-any-return]  # noqa: S301


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
    """Yield the pairs that a function emits, each copied as it is then; an iterator as its list."""
    for pair in iterate_pairs(found, role):
        check_pair(pair, role)
        try:
            yield snapshot_key(pair[0]), private_copy(_iterator_as_list(pair[1]))
        except CannotSnapshot as error:
            raise explain_output_error(error, pair, role) from error


def join_lists(values: Any) -> list[Any]:
    """Return the values of one key out of the lists that ``AdaptedMapper`` emitted for the key."""
    return list(chain.from_iterable(values))


class AdaptedReducer:
    """Makes the result of a key with ``reducefn``, called in the function's own form.

    Without ``reducefn`` the values are the result. A generator function of key and values emits
    pairs instead, whose keys may differ. The iterator form gets one item, the key's. ``gather``
    makes the values that reducefn gets of those that have arrived for a key.
    """

    def __init__(self, reducefn: Function | None, gather: Function | None) -> None:
        self.reducefn, self.gather = reducefn, gather
        self.takes_items = reducefn is not None and takes_items(reducefn)
        self.emits_pairs = reducefn is not None and emits_pairs(reducefn)

    def __call__(self, key: Any, values: Any) -> Any:
        """Return the result of one key.

        Raises:
            ValueError: the iterator form gave no pair, several pairs, or one with another key.
        """
        if self.gather is not None:
            values = self.gather(values)
        if self.reducefn is None:
            return values
        if not self.takes_items:
            result = self.reducefn(key, values)
            return result if self.emits_pairs else _iterator_as_list(result)
        pairs = list(iterate_pairs(self.reducefn(iter([(key, values)])), "reducefn"))
        if len(pairs) != 1 or pairs[0][0] != key:
            raise ValueError(
                f"reducefn must give exactly one pair, with the key it was given ({key!r}); "
                f"it gave {pairs!r:.200}"
            )
        return _iterator_as_list(pairs[0][1])


class WorkerReducer:
    """Calls the worker's own reducefn, whose form only the worker knows."""

    def __init__(self, function: WorkerFunction, gather: Function | None) -> None:
        self.function, self.gather = function, gather

    def __call__(self, key: Any, values: Any) -> Any:
        """Return the result of one key."""
        return self._reducer(key, values)

    @functools.cached_property
    def _reducer(self) -> AdaptedReducer:
        return AdaptedReducer(self.function.look_up(), self.gather)


def _iterator_as_list(result: Any) -> Any:
    # The method is looked for first: isinstance with an ABC takes longer than most reducers.
    iterates = hasattr(type(result), "__next__") and isinstance(result, Iterator)
    return list(result) if iterates else result


def emits_pairs(reducefn: Function) -> bool:
    """True if ``reducefn`` is a generator function, or an object that is called as one."""
    return inspect.isgeneratorfunction(reducefn) or inspect.isgeneratorfunction(
        getattr(type(reducefn), "__call__", None)  # noqa: B004  an object's
    )
