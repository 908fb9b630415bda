"""Pickling by value: what cloudpickle does, and what its pickles lack put back.

Every pickle of functions or classes of the user's is made here: those of a job, and those among
records and results.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import CodeType, FunctionType, MemberDescriptorType
from typing import Any, NamedTuple

import cloudpickle

from redismr.core.annotations import (
    add_annotations,
    forward_reference_name,
    with_string_annotations,
)
from redismr.module_snapshots import is_user_class

BY_VALUE_MODULES = ("__main__", "__mp_main__", "__jobfile__")
"""Scripts, which no worker can import: what they define travels by value. ``__mp_main__`` is the
script once more, where ``multiprocessing`` has started a process without a fork."""

PICKLE_PROTOCOL = 5
_LRU_CACHE_TYPE = type(functools.lru_cache(len))
_CONTEXT_MANAGER_TYPE: Any = type(contextmanager(iter)(()))
ReducedValue = Any
"""What a reducer gives pickle: how to make an object, from what, and its state."""


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, for what else scripts define."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=PICKLE_PROTOCOL)

    def reducer_override(self, obj: Any) -> ReducedValue:
        """Called by pickle for everything but plain data."""
        if isinstance(obj, CodeType):
            # from 3.1.3 on cloudpickle names the file of all code <dynamic-code>
            return _code_in_file, (obj.co_filename, *self.dispatch_table[CodeType](obj))
        if isinstance(obj, _LRU_CACHE_TYPE) and obj.__module__ in BY_VALUE_MODULES:
            # cloudpickle sends these by name; what a script defines has no name on a worker
            return _empty_lru_cache, (obj.__wrapped__, obj.cache_parameters())
        if isinstance(obj, functools.singledispatchmethod):
            return (
                _new_dispatch_method,
                (),
                (obj.func, obj.dispatcher),
                None,
                None,
                _set_dispatch_method_state,
            )
        if isinstance(obj, functools.cached_property):  # until Python 3.12 with a lock
            return functools.cached_property, (obj.func,), {"attrname": obj.attrname}
        if isinstance(obj, _CONTEXT_MANAGER_TYPE) and hasattr(
            obj, "args"
        ):  # as a decorator holds it, unused
            return type(obj), (obj.func, obj.args, obj.kwds)
        if isinstance(obj, functools.partialmethod):
            return _partial_method, (obj.func, obj.args, obj.keywords)
        if name := forward_reference_name(obj):
            return type(obj), (name,)
        reduced = self._cloudpickle_reduced(obj)
        if not isinstance(reduced, tuple) or len(reduced) < 6:
            return reduced
        if isinstance(obj, type):
            return self.reduce_class(obj, reduced)
        return self.reduce_function(obj, reduced) if isinstance(obj, FunctionType) else reduced

    def _cloudpickle_reduced(self, obj: Any) -> ReducedValue:
        """What cloudpickle makes of it, which asks a function for its annotations."""
        try:
            return super().reducer_override(obj)
        except Exception:
            if not isinstance(obj, FunctionType):
                raise
            return super().reducer_override(with_string_annotations(obj))

    def reduce_class(self, cls: type, reduced: ReducedValue) -> ReducedValue:
        """How to make a class that goes by value; ``reduced`` is cloudpickle's way."""
        return _reduce_class(cls, reduced)

    def reduce_function(self, function: FunctionType, reduced: ReducedValue) -> ReducedValue:
        """How to make a function that goes by value; ``reduced`` is cloudpickle's way."""
        if function.__code__ is _DISPATCHER_CODE:
            return (
                _new_dispatcher,
                (),
                _dispatcher_state(function),
                None,
                None,
                _set_dispatcher_state,
            )
        return reduced


def dumps(thing: object) -> bytes:
    """The pickle of it; ``pickle.loads`` reads it wherever redismr and cloudpickle are.

    Raises:
        Whatever a ``__reduce__`` of the user's raises, and what cloudpickle raises.
    """
    file = io.BytesIO()
    ByValuePickler(file).dump(thing)
    return file.getvalue()


def _code_in_file(file: str, make: Callable[..., CodeType], parts: tuple[Any, ...]) -> CodeType:
    """A code object of that file, whatever file its parts name."""
    return make(*parts).replace(co_filename=file)


def _empty_lru_cache(function: Any, parameters: dict[str, Any]) -> Any:
    """A function under ``functools.cache`` or ``lru_cache``, with an empty cache."""
    return functools.lru_cache(**parameters)(function)


def _partial_method(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return functools.partialmethod(function, *args, **keywords)


# ---- functions that dispatch on a type: what cloudpickle would send holds weak references


def _placeholder(*_: object) -> None:
    """Until the state is set."""


_dispatcher: Any = functools.singledispatch(_placeholder)
_DISPATCHER_CODE = _dispatcher.__code__
_REGISTRY_NAMES = ("register", "dispatch", "registry", "_clear_cache")


def _new_dispatcher() -> Any:
    return functools.singledispatch(_placeholder)


def _dispatcher_state(function: Any) -> tuple[dict[type, Any], dict[str, Any]]:
    names = (*functools.WRAPPER_ASSIGNMENTS[:4], *vars(function))
    attributes = {n: getattr(function, n) for n in names if n not in _REGISTRY_NAMES}
    return dict(function.registry), attributes


def _set_dispatcher_state(function: Any, state: tuple[dict[type, Any], dict[str, Any]]) -> None:
    registry, attributes = state
    for cls, implementation in registry.items():
        function.register(cls, implementation)
    for name, value in attributes.items():
        setattr(function, name, value)


def _new_dispatch_method() -> Any:
    return functools.singledispatchmethod(_placeholder)


def _set_dispatch_method_state(method: Any, state: tuple[Any, Any]) -> None:
    method.func, method.dispatcher = state


# ---- classes: made again as they are, without what making them once set off


def _reduce_class(cls: type, reduced: ReducedValue) -> ReducedValue:
    """With slots as slots, and no hook of the user's: its attributes hold what came of them."""
    if cls.__module__ == "unittest.mock":  # each mock has a class of its own
        raise TypeError("a mock stays where it is made; a function in its place can be sent")
    make, parts, (attributes, others), _, _, set_state = reduced
    metaclasses: Any = type(cls).__mro__
    hooked: list[tuple[tuple[Any, ...], tuple[str, ...]]] = [
        (cls.__mro__[1:], ("__init_subclass__",)),
        (metaclasses, ("__new__", "__init__", "__prepare__", "__call__", "__setattr__")),
    ]
    hooks = tuple(
        (owner, name)
        for owners, names in hooked
        for owner in owners
        if is_user_class(owner)
        for name in names
        if name in vars(owner)
    )
    attributes = {
        name: value
        for name, value in attributes.items()
        if not (isinstance(value, MemberDescriptorType) and value.__objclass__ is cls)
        and name != "__slotnames__"  # the first pickle of an instance leaves that
    }
    add_annotations(cls, attributes)
    members = {}
    if issubclass(cls, Enum):
        members = {name: vars(member) for name, member in cls.__members__.items()}
        attributes = {name: a for name, a in attributes.items() if name not in members}
        extra_attributes: dict[str, Any] = _enum_members(cls)
    elif "__slots__" in vars(cls) and NamedTuple not in getattr(cls, "__orig_bases__", ()):
        extra_attributes = {"__slots__": vars(cls)["__slots__"]}
    else:
        extra_attributes = {}
    parts = tuple(part | extra_attributes if isinstance(part, dict) else part for part in parts)
    state = hooks, set_state, (attributes, others), members
    return _make_hookless_class, (hooks, make, parts), state, None, None, _set_class_state


def _enum_members(cls: Any) -> dict[str, Any]:
    """Aliases and combined flags too; where a ``__new__`` of the user's made them, without it."""
    if not is_user_class(cls) or "__new_member__" not in vars(cls):
        return {name: member.value for name, member in cls.__members__.items()}
    new_arguments = getattr(cls._member_type_, "__getnewargs__", lambda _: ())
    members = {name: (new_arguments(m), m.value) for name, m in cls.__members__.items()}
    return {"__new__": _make_enum_member, **members}


def _make_enum_member(cls: Any, new_arguments: tuple[Any, ...], value: Any) -> Any:
    member = cls._member_type_.__new__(cls, *new_arguments)
    member._value_ = value
    return member


def _make_hookless_class(hooks: Any, make: Callable[..., type], parts: tuple[Any, ...]) -> type:
    with _without_hooks(hooks):
        try:
            return make(*parts)
        except Exception as error:
            name = next(part for part in parts if isinstance(part, str))
            why = f"the class {name} cannot be made again: {type(error).__name__}: {error}"
            raise TypeError(why) from error


def _set_class_state(cls: type, given: Any) -> None:
    hooks, set_state, state, members = given
    with _without_hooks(hooks):
        set_state(cls, state)
    for name, attributes in members.items():  # what an __init__ of the class gave them
        vars(cls.__members__[name]).update(attributes)  # type: ignore[attr-defined]


@contextmanager
def _without_hooks(hooks: tuple[tuple[type, str], ...]) -> Iterator[None]:
    saved = [(owner, name, vars(owner)[name]) for owner, name in hooks if name in vars(owner)]
    for owner, name, _ in saved:
        type.__delattr__(owner, name)
    try:
        yield
    finally:
        for owner, name, hook in saved:
            type.__setattr__(owner, name, hook)
