"""The user's functions, checked and adapted once, so that the kernel need not.

The required positional parameters of a function decide how redismr calls it: ``mapfn(value)`` or
``mapfn(key, value)``; a reducer or combiner ``f(items)`` or ``f(key, values)``. ``*args`` counts as
two parameters, and so does a callable without a signature. For a decorated function, the parameters
of the decorator's result count (``count_arguments``). redismr never calls a function to see
whether it raises a TypeError.
"""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any, NamedTuple

from redismr.core.annotations import Function, direct_signature
from redismr.core.printable import short_repr
from redismr.engine.reducers import BUILTIN_REDUCERS, REDUCERS, Reducer
from redismr.errors import ConfigError

UNLIMITED = 1 << 10  # ArgumentCount.maximum of a function with *args


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


# ---- the arguments of a call. inspect.signature would follow __wrapped__, and so show those of the
# function that was decorated, though the decorator may drop an argument or add one.


class ArgumentCount(NamedTuple):
    """The arguments of one function."""

    required: int  #: How many positional arguments a call must pass.
    maximum: int  #: The most positional arguments that a call may pass.
    required_keyword: str = ""  #: The first keyword argument that a call must pass; "" for none.


def count_arguments(function: Function, *, ignore_wrapped: bool = False) -> ArgumentCount:
    """Return the arguments of a call of the function; any number if it has no signature.

    A function with ``*args`` that wraps another hands them on. So the wrapped function decides, as
    long as it takes one or two arguments; ``ignore_wrapped`` turns that off.
    """
    direct = _count_direct_arguments(function)
    if direct.maximum < UNLIMITED or ignore_wrapped:
        return direct
    if (inner := _wrapped_function(function)) is None:
        return direct
    required, maximum, _ = count_arguments(inner)
    if max(direct.required, required) > 2 or maximum < max(direct.required, 1):
        return direct
    return ArgumentCount(max(direct.required, required), maximum, direct.required_keyword)


def _count_direct_arguments(function: Function) -> ArgumentCount:
    try:
        parameters = direct_signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C
        return ArgumentCount(0, UNLIMITED)
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    required = sum(p.default is p.empty for p in positional)
    takes_any_number = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    maximum = UNLIMITED if takes_any_number else len(positional)
    keywords = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    return ArgumentCount(required, maximum, *keywords[:1])


def _wrapped_function(function: Function) -> Function | None:
    """Return the function that gets the arguments of a wrapper; known from ``functools.wraps``."""
    if isinstance(function, functools.partial):
        inner = _wrapped_function(function.func)
        return inner and functools.partial(inner, *function.args, **function.keywords)
    inner = getattr(function, "__wrapped__", None)
    if isinstance(function, MethodType):
        return inner and MethodType(inner, function.__self__)
    if inner is None and not isinstance(function, type):
        call = getattr(function, "__call__", None)  # noqa: B004 - the method of an object
        return _wrapped_function(call) if isinstance(call, MethodType) else None
    return inner if callable(inner) else None
