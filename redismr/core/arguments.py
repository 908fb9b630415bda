"""How many arguments a function takes, as it is written.

``inspect.signature`` follows ``__wrapped__``, and so tells of a decorated function what was
decorated, though the decorator may drop an argument, or put one in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any, NamedTuple

from redismr.core.annotations import signature

ANY = 1 << 10
"""As many arguments as one likes."""

Function = Callable[..., Any]


class Arguments(NamedTuple):
    """How many positional arguments are required, and the most that are taken.

    ``keyword`` is the first keyword argument that is required, empty if none is.
    """

    required: int
    most: int
    keyword: str = ""


def arguments_of(function: Function, *, alone: bool = False) -> Arguments:
    """What a call of the function itself takes; anything if it has no signature.

    One that takes ``*args`` hands them on to what it wraps, if it wraps anything: unless it is
    looked at ``alone`` that decides, as long as one or two can be given.

    >>> arguments_of(lambda key, value=0: None)
    Arguments(required=1, most=2, keyword='')
    """
    own = _own(function)
    if own.most == ANY and not alone and (inner := _wrapped(function)) is not None:
        told = arguments_of(inner)
        if own.required <= 2 and told.most >= max(own.required, 1) and told.required <= 2:
            return Arguments(max(own.required, told.required), told.most, own.keyword)
    return own


def _own(function: Function) -> Arguments:
    try:
        parameters = signature(function, follow_wrapped=False).parameters.values()
    except (TypeError, ValueError):  # some functions written in C
        return Arguments(0, ANY)
    positional = [p for p in parameters if p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    required = sum(p.default is p.empty for p in positional)
    starred = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    lacking = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]
    return Arguments(required, ANY if starred else len(positional), *lacking[:1])


def _wrapped(function: Function) -> Function | None:
    """What a function hands its arguments on to, as far as ``functools.wraps`` tells."""
    if isinstance(function, functools.partial):
        inner = _wrapped(function.func)
        return inner and functools.partial(inner, *function.args, **function.keywords)
    inner = getattr(function, "__wrapped__", None)
    if isinstance(function, MethodType):
        return inner and MethodType(inner, function.__self__)
    if inner is None and not isinstance(function, type):
        call = getattr(function, "__call__", None)  # noqa: B004 - a method, of an object
        return _wrapped(call) if isinstance(call, MethodType) else None
    return inner if callable(inner) else None
