"""Finds out how instances of a class are compared, from the class alone, never from an instance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, fields, make_dataclass
from inspect import getattr_static
from types import FunctionType
from typing import Any


def inherits_equality(cls: type, base: type, *other_methods: str) -> bool:
    """True if a subclass inherits ``__eq__``, ``__hash__`` and ``other_methods`` of the base."""
    names = ("__eq__", "__hash__", *other_methods)
    # getattr_static, because a metaclass may show another method than the class has.
    return all(getattr_static(cls, name) is getattr_static(base, name) for name in names)


def compared_fields(cls: type) -> Callable[[Any], tuple[Any, ...]] | None:
    """Return a function that returns the compared fields of a dataclass instance.

    Fields with ``hash=False`` are left out, because they may not be hashable. The answer is None
    for a class whose ``__eq__`` was not made by ``dataclass``, and for one with a base that
    compares in its own way: an instance of that base may equal one of the class.
    """
    owners: list[Any] = [base for base in cls.__mro__[:-1] if "__eq__" in vars(base)]
    if not owners or not all(map(_has_generated_eq, owners)):
        return None
    names = [f.name for f in fields(owners[0]) if f.compare and f.hash is not False]
    return lambda key: tuple([getattr(key, name) for name in names])


def _has_generated_eq(owner: type) -> bool:
    """True if ``dataclass`` made the ``__eq__`` of this very class.

    Compares its code with what ``dataclass`` makes here and now for the same fields. Names do not
    help: they differ in a class that came to a worker by cloudpickle.
    """
    eq_method = vars(owner)["__eq__"]
    if "__dataclass_fields__" not in vars(owner) or type(eq_method) is not FunctionType:
        return False
    probe_fields = [(f.name, object, field(default=None, compare=f.compare)) for f in fields(owner)]
    probe: Any = make_dataclass("Probe", probe_fields, init=False, repr=False)
    return _code_behaviour(eq_method) == _code_behaviour(probe.__eq__)


def _code_behaviour(function: Any) -> tuple[Any, ...]:
    """Return all that decides what a call does; the file and line of the function do not."""
    code = function.__code__
    return (
        (code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_exceptiontable),
        (code.co_argcount, code.co_kwonlyargcount, code.co_flags),
        (function.__closure__, function.__defaults__, function.__kwdefaults__),
    )
