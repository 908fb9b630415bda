"""What a class compares its instances by, told by the class alone and never by one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, field, fields, make_dataclass
from inspect import getattr_static
from types import FunctionType
from typing import Any


def compares_like(kind: type, base: type, *asked: str) -> bool:
    """Whether a subclass inherits both ``__eq__`` and ``__hash__`` of that base, and ``asked``."""
    names = ("__eq__", "__hash__", *asked)
    return all(_method(kind, name) is _method(base, name) for name in names)


def compares_by_identity(kind: type) -> bool:
    """Whether an instance is equal to itself only."""
    return _method(kind, "__eq__") is _method(object, "__eq__")


def parts_compared(kind: type) -> Callable[[Any], tuple[Any, ...]] | None:
    """What gives the fields that two instances of a dataclass are compared by; None for others.

    Fields with ``hash=False`` are left out: they may not be hashable. A class whose ``__eq__`` is
    not the one that ``dataclass`` makes is among the others, and so is one with a base that
    compares in its own way: an instance of that base may be equal to one of the class.
    """
    maker = _maker(kind)
    if maker is None or any(
        "__eq__" in vars(base) and base is not object and not _is_generated(base)
        for base in kind.__mro__
    ):
        return None
    names = [f.name for f in fields(maker) if f.compare and f.hash is not False]
    return lambda key: tuple([getattr(key, name) for name in names])


def _method(kind: type, name: str) -> Any:
    """What the class itself and its bases say: a metaclass may show something else."""
    return getattr_static(kind, name)


def _maker(kind: type) -> type | None:
    """The class that the instances' ``__eq__`` is from, if ``dataclass`` wrote that for it."""
    maker = next(base for base in kind.__mro__ if "__eq__" in vars(base))
    return maker if _is_generated(maker) else None


def _is_generated(maker: type) -> bool:
    """Whether ``dataclass`` wrote the ``__eq__`` of this very class.

    Told by its code, which has to be what ``dataclass`` writes here and now for the same fields.
    Names tell nothing: a class that came to a worker by cloudpickle has other ones.
    """
    equal = vars(maker)["__eq__"]
    if "__dataclass_fields__" not in vars(maker) or type(equal) is not FunctionType:
        return False
    probe: Any = make_dataclass(
        "Probe", [(f.name, object, _like(f)) for f in fields(maker)], init=False, repr=False
    )
    return _does(equal) == _does(probe.__eq__)


def _like(f: Field[Any]) -> Any:
    return field(default=None, compare=f.compare)


def _does(function: Any) -> tuple[Any, ...]:
    """All that decides what a call does, whatever file and line the function is from."""
    code = function.__code__
    return (
        (code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_exceptiontable),
        (code.co_argcount, code.co_kwonlyargcount, code.co_flags),
        (function.__closure__, function.__defaults__, function.__kwdefaults__),
    )
