"""Chooses the functions of a job that do what a user's functions did in mincemeat.py.

Only a server needs this module; what travels to workers is in ``adapted_functions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import itemgetter
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from redismr.compat import adapted_functions
from redismr.compat.adapted_functions import takes_items
from redismr.compat.doorway import Function, Pair, check_functions, count_arguments
from redismr.errors import ConfigError


def generator(func: Function) -> Function:
    """Return the iterator form of ``func(key, value)``, which returns a value."""

    def apply_to_items(items: Iterable[Pair]) -> Iterator[Pair]:
        for key, value in items:
            yield key, func(key, value)

    return apply_to_items


def applyover(func: Function, items: Iterable[Pair]) -> Iterable[Any]:
    """Return the pairs that ``func``, of either form, makes of the items."""
    return (func if takes_items(func) else generator(func))(iter(items))  # type: ignore[no-any-return]


def adapt_functions(
    mapfn: Function | bool | None,  # noqa: FBT001  the fork's False: the worker's own function
    collectfn: Function | None,
    reducefn: Function | bool | None,  # noqa: FBT001
) -> tuple[Function | None, Function | None, list[object]]:
    """Return the mapfn and the reducefn of a job that do what these functions did in mincemeat.py.

    The third value lists the functions behind the two, as the user or the worker has them.
    Without a reducefn each key keeps the list of its values. Without a mapfn the pairs of the
    datasource are reduced. Without both, the workers' own functions run. False stands for the
    worker's own function of that name.

    Raises:
        ConfigError: one of them is not a function, or takes parameters that no call can give.
    """
    for role, func in (("mapfn", mapfn), ("collectfn", collectfn), ("reducefn", reducefn)):
        if func and not callable(func):
            raise ConfigError(f"{role} must be a function, not {func!r}")
    map_function, reduce_function = _without_self(mapfn), _without_self(reducefn)
    collectfn = _without_self(collectfn)
    check_functions(map_function or None, reduce_function or None)
    all_from_worker = mapfn is None and reducefn is None
    collects_items = collectfn is not None and takes_items(collectfn)
    gather: Function | None = adapted_functions.join_lists if collects_items else None
    if mapfn is None and not all_from_worker:
        gather = itemgetter(0)  # the value in the datasource; of equal keys the first counts

    user_functions: list[object] = [map_function, collectfn, reduce_function]
    if all_from_worker or mapfn is False:
        map_function = adapted_functions.WorkerMapper(collectfn)
        user_functions[:2] = map_function.mapfn, map_function.collectfn
    elif map_function:
        required, maximum, _ = count_arguments(map_function)
        # The kernel would call a function of one or two arguments with the value alone.
        if collectfn or required < 2 <= maximum:
            map_function = adapted_functions.AdaptedMapper(map_function, collectfn)
    if all_from_worker or reducefn is False:
        user_functions[2] = own_reducefn = adapted_functions.WorkerFunction(
            "reducefn", optional=all_from_worker
        )
        reduce_function = adapted_functions.WorkerReducer(own_reducefn, gather)
    elif gather or not (reduce_function is None or _has_core_semantics(reduce_function)):
        reduce_function = adapted_functions.AdaptedReducer(reduce_function, gather)
    return map_function, reduce_function, user_functions


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


def _has_core_semantics(reducefn: Function) -> bool:
    """True if the kernel's rules for ``reducefn`` are those of mincemeat.py.

    ``max`` and other built-in functions return no iterators; generator functions emit pairs.
    """
    return not takes_items(reducefn) and (
        isinstance(reducefn, BuiltinFunctionType) or adapted_functions.emits_pairs(reducefn)
    )
