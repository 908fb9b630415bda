"""Counts the arguments that a function takes when it is called.

``inspect.signature`` follows ``__wrapped__``: it shows the parameters of the function that was
decorated, though the decorator may drop an argument or add one.
"""

import functools
from types import MethodType
from typing import NamedTuple

from redismr.core.annotations import Function, direct_signature

UNLIMITED = 1 << 10  # ArgumentCount.maximum of a function with *args


class ArgumentCount(NamedTuple):
    """The arguments of one function."""

    required: int  #: How many positional arguments a call must pass.
    maximum: int  #: The most positional arguments that a call may pass.
    required_keyword: str = ""  #: The first keyword argument that a call must pass; "" for none.


def count_arguments(function: Function, *, ignore_wrapped: bool = False) -> ArgumentCount:
    """Return the arguments of a call of the function; any number if it has no signature.

    A function with ``*args`` that wraps another hands them on. So the wrapped function decides, as
    long as it takes one or two arguments; ``ignore_wrapped`` turns that off.

    >>> count_arguments(lambda key, value=0: None)
    ArgumentCount(required=1, maximum=2, required_keyword='')
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
