"""What a class compares its instances by, told by the class alone and never by one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, field, fields, make_dataclass
from inspect import getattr_static
from types import FunctionType
from typing import Any


def inherits_equality(cls: type, base: type, *other_methods: str) -> bool:
    """Whether a subclass inherits both ``__eq__`` and ``__hash__`` of that base, and ``other_methods``."""  # noqa: E501
    names = ("__eq__", "__hash__", *other_methods)
    return all(_static_method(cls, name) is _static_method(base, name) for name in names)


def compares_by_identity(cls: type) -> bool:
    """Whether an instance is equal to itself only."""
    return _static_method(cls, "__eq__") is _static_method(object, "__eq__")


def compared_fields(cls: type) -> Callable[[Any], tuple[Any, ...]] | None:
    """What gives the fields that two instances of a dataclass are compared by; None for others.

    Fields with ``hash=False`` are left out: they may not be hashable. A class whose ``__eq__`` is
    not the one that ``dataclass`` makes is among the others, and so is one with a base that
    compares in its own way: an instance of that base may be equal to one of the class.
    """
    owner = _dataclass_that_compares(cls)
    if owner is None or any(
        "__eq__" in vars(base) and base is not object and not _has_generated_eq(base)
        for base in cls.__mro__
    ):
        return None
    names = [f.name for f in fields(owner) if f.compare and f.hash is not False]
    return lambda key: tuple([getattr(key, name) for name in names])


def _static_method(cls: type, name: str) -> Any:
    """What the class itself and its bases say: a metaclass may show something else."""
    return getattr_static(cls, name)


def _dataclass_that_compares(cls: type) -> type | None:
    """The class that the instances' ``__eq__`` is from, if ``dataclass`` wrote that for it."""
    owner = next(base for base in cls.__mro__ if "__eq__" in vars(base))
    return owner if _has_generated_eq(owner) else None


def _has_generated_eq(owner: type) -> bool:
    """Whether ``dataclass`` wrote the ``__eq__`` of this very class.

    Told by its code, which has to be what ``dataclass`` writes here and now for the same fields.
    Names tell nothing: a class that came to a worker by cloudpickle has other ones.
    """
    eq_method = vars(owner)["__eq__"]
    if "__dataclass_fields__" not in vars(owner) or type(eq_method) is not FunctionType:
        return False
    probe: Any = make_dataclass(
        "Probe", [(f.name, object, _probe_field(f)) for f in fields(owner)], init=False, repr=False
    )
    return _code_behaviour(eq_method) == _code_behaviour(probe.__eq__)


def _probe_field(f: Field[Any]) -> Any:
    return field(default=None, compare=f.compare)


def _code_behaviour(function: Any) -> tuple[Any, ...]:
    """All that decides what a call does, whatever file and line the function is from."""
    code = function.__code__
    return (
        (code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_exceptiontable),
        (code.co_argcount, code.co_kwonlyargcount, code.co_flags),
        (function.__closure__, function.__defaults__, function.__kwdefaults__),
    )
