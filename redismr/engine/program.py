"""The user's functions, checked and adapted once, so that the kernel need not.

The required positional parameters of a function decide how redismr calls it: ``mapfn(value)`` or
``mapfn(key, value)``; a reducer or combiner ``f(items)`` or ``f(key, values)``. ``*args`` counts as
two parameters, and so does a callable without a signature. For a decorated function, the parameters
of the decorator's result count (``engine/signatures.py``). redismr never calls a function to see
whether it raises a TypeError.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from redismr.core.printable import short_repr
from redismr.engine.reducers import BUILTIN_REDUCERS, REDUCERS, Reducer
from redismr.engine.signatures import UNLIMITED, count_arguments
from redismr.errors import ConfigError


@dataclass(frozen=True, slots=True)
class GroupFunction:
    """A combinefn or reducefn."""

    call: Callable[..., Any]  #: The user's function.
    takes_items: bool = False  #: True for ``call(items)``, False for ``call(key, values)``.


@dataclass(frozen=True, slots=True)
class Program:
    """The user's functions in the form in which the kernel runs them."""

    mapfn: Callable[..., Any] | None  #: None emits each record of the source unchanged.
    takes_value_only: bool  #: True for ``mapfn(value)``, False for ``mapfn(key, value)``.
    reduce: Reducer | GroupFunction  #: Also the reducer "list", if no reducefn was given.
    combine: GroupFunction | None = None  #: A combinefn; a named reducer combines by itself.
    partitionfn: Callable[[Any, int], Any] | None = None  #: None for the stable hash.
    initfn: Callable[[], Any] | None = None
    sort: bool = False  #: True to reduce keys in their sort order.
    memory: int | None = None  #: Bytes that a process may take; None for no limit.


def prepare_program(
    mapfn: Callable[..., Any] | None = None,
    reducefn: Callable[..., Any] | str | None = None,
    *,
    combinefn: Callable[..., Any] | str | None = None,
    partitionfn: Callable[[Any, int], Any] | None = None,
    initfn: Callable[[], Any] | None = None,
    sort: bool = False,
) -> Program:
    """Return the program of these functions; ConfigError if one does not fit its parameter."""
    _check_arity("partitionfn", partitionfn, 2, "(key, partitions)")
    _check_arity("initfn", initfn, 0, "no arguments")
    reduce = REDUCERS["list"] if reducefn is None else _resolve_reducer("reducefn", reducefn)
    combine = None if combinefn is None else _resolve_reducer("combinefn", combinefn)
    if combine is reduce:
        combine = None  # a named reducer combines by itself
    if isinstance(combine, Reducer):
        combine = GroupFunction(combine)
    takes_value_only = mapfn is not None and _arity("mapfn", mapfn) == 1
    return Program(mapfn, takes_value_only, reduce, combine, partitionfn, initfn, sort)


def check_functions(
    mapfn: Callable[..., Any] | None = None,
    reducefn: Callable[..., Any] | str | None = None,
    *,
    finishfn: Callable[..., Any] | None = None,
    resultfn: Callable[..., Any] | None = None,
    **others: Any,
) -> None:
    """Raise, on the submitter, the ConfigError that workers or the end of the job would raise."""
    _check_arity("finishfn", finishfn, 1, "(results)")
    _check_arity("resultfn", resultfn, 2, "(txn, results)")
    prepare_program(mapfn, reducefn, **others)


def _resolve_reducer(role: str, function: Callable[..., Any] | str) -> Reducer | GroupFunction:
    if isinstance(function, str):
        if function not in REDUCERS:
            names = " ".join(REDUCERS)
            raise ConfigError(f"{role}={function!r} is not a named reducer; there are: {names}")
        return REDUCERS[function]
    if any(function is builtin for builtin in BUILTIN_REDUCERS):
        return REDUCERS[function.__name__]
    return GroupFunction(function, takes_items=_arity(role, function) == 1)


def _arity(role: str, function: Callable[..., Any]) -> int:
    """Return how many arguments redismr passes to the function: 1 or 2."""
    required, maximum = _positional_range(role, function)
    arity = max(required, 2) if maximum == UNLIMITED else required or min(maximum, 1)
    if arity not in {1, 2}:
        wanted = "(value) or (key, value)" if role == "mapfn" else "(key, values) or (items)"
        raise ConfigError(f"{role} must take {wanted}; {_describe_arity(function, required)}")
    return arity


def _check_arity(role: str, function: Callable[..., Any] | None, count: int, wanted: str) -> None:
    if function is None:
        return
    required, maximum = _positional_range(role, function, ignore_wrapped=True)
    if not required <= count <= maximum:
        raise ConfigError(f"{role} must take {wanted}; {_describe_arity(function, required)}")


def _describe_arity(function: Callable[..., Any], required: int) -> str:
    return f"{short_repr(function)} takes {required or 'no'} argument{'s'[: required != 1]}"


def _positional_range(
    role: str, function: Callable[..., Any], *, ignore_wrapped: bool = False
) -> tuple[int, int]:
    """Return how many positional arguments the function requires, and the most that it takes."""
    if not callable(function):
        raise ConfigError(f"{role} must be a function, not {short_repr(function)}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{role} must be a plain function, not an async one")
    required, maximum, keyword = count_arguments(function, ignore_wrapped=ignore_wrapped)
    if keyword:
        raise ConfigError(
            f"{role} requires the keyword argument {keyword!r}, which redismr never passes;"
            " give it a default"
        )
    return required, maximum
