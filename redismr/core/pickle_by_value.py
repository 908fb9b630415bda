"""Pickle functions and classes by value: cloudpickle, plus the cases that it gets wrong.

Every pickle of the user's functions or classes is made here.
"""

import functools
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import CodeType, FunctionType, MemberDescriptorType
from typing import Any, NamedTuple

import cloudpickle

from redismr.core import annotations
from redismr.module_snapshots import is_user_class

BY_VALUE_MODULES = ("__main__", "__mp_main__", "__jobfile__")
"""Modules that no worker can import, because they are scripts: their functions and classes travel
by value. ``multiprocessing`` calls the script ``__mp_main__`` in processes started without fork."""

PICKLE_PROTOCOL = 5
_LRU_CACHE_TYPE = type(functools.lru_cache(len))
_CONTEXT_MANAGER_TYPE: Any = type(contextmanager(iter)(()))
_CLASS_HOOKS: tuple[str, ...] = ("__init_subclass__",)
_METACLASS_HOOKS = ("__new__", "__init__", "__prepare__", "__call__", "__setattr__")
ReducedValue = Any
"""The answer of a pickle reducer: a function that makes the object, its arguments, its state."""


class ByValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's pickler, with more kinds of objects that scripts define."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=PICKLE_PROTOCOL)

    def reducer_override(self, obj: Any) -> ReducedValue:
        """Reduce one object; pickle calls this for everything but plain data."""
        if isinstance(obj, CodeType):
            # cloudpickle 3.1.3 and later replace the file name of all code by <dynamic-code>
            return _code_in_file, (obj.co_filename, *self.dispatch_table[CodeType](obj))
        if isinstance(obj, _LRU_CACHE_TYPE) and obj.__module__ in BY_VALUE_MODULES:
            # cloudpickle sends these by name, but a worker cannot import a script
            return _empty_lru_cache, (obj.__wrapped__, obj.cache_parameters())
        if isinstance(obj, functools.singledispatchmethod):
            state = obj.func, obj.dispatcher
            return _new_dispatch_method, (), state, None, None, _set_dispatch_method_state
        if isinstance(obj, functools.cached_property):  # holds a lock before Python 3.12
            return functools.cached_property, (obj.func,), {"attrname": obj.attrname}
        # a context manager that a decorator holds has not been entered yet
        if isinstance(obj, _CONTEXT_MANAGER_TYPE) and hasattr(obj, "args"):
            return type(obj), (obj.func, obj.args, obj.kwds)
        if isinstance(obj, functools.partialmethod):
            return _partial_method, (obj.func, obj.args, obj.keywords)
        if name := annotations.forward_reference_name(obj):
            return type(obj), (name,)
        reduced = self._cloudpickle_reduced(obj)
        if not isinstance(reduced, tuple) or len(reduced) < 6:
            return reduced
        if isinstance(obj, type):
            return self.reduce_class(obj, reduced)
        return self.reduce_function(obj, reduced) if isinstance(obj, FunctionType) else reduced

    def _cloudpickle_reduced(self, obj: Any) -> ReducedValue:
        # Also for a function whose annotations raise.
        try:
            return super().reducer_override(obj)
        except Exception:
            if not isinstance(obj, FunctionType):
                raise
            return super().reducer_override(annotations.with_string_annotations(obj))

    def reduce_class(self, cls: type, reduced: ReducedValue) -> ReducedValue:
        """Reduce a class that travels by value; ``reduced`` is cloudpickle's answer.

        The class keeps its slots, and no hook of the user's runs again: the attributes of the class
        already hold the effects of its hooks.
        """
        if cls.__module__ == "unittest.mock":  # each mock has its own class
            raise TypeError("a mock stays where it is made; a function in its place can be sent")
        make, parts, (attributes, others), _, _, set_state = reduced
        metaclass: Any = type(cls)
        hooked = [(owner, _CLASS_HOOKS) for owner in cls.__mro__[1:]]
        hooked += [(owner, _METACLASS_HOOKS) for owner in metaclass.__mro__]
        hooks = tuple(
            (owner, name)
            for owner, names in hooked
            if is_user_class(owner)
            for name in names
            if name in vars(owner)
        )
        attributes = {
            name: value
            for name, value in attributes.items()
            if not (isinstance(value, MemberDescriptorType) and value.__objclass__ is cls)
            and name != "__slotnames__"  # set by the first pickle of an instance
        }
        annotations.add_annotations(cls, attributes)
        members, extra_attributes = {}, dict[str, Any]()
        if issubclass(cls, Enum):
            members = {name: vars(member) for name, member in cls.__members__.items()}
            attributes = {name: a for name, a in attributes.items() if name not in members}
            extra_attributes = _enum_members(cls)
        elif "__slots__" in vars(cls) and NamedTuple not in getattr(cls, "__orig_bases__", ()):
            extra_attributes = {"__slots__": vars(cls)["__slots__"]}
        parts = tuple(part | extra_attributes if isinstance(part, dict) else part for part in parts)
        state = hooks, set_state, (attributes, others), members
        return _make_hookless_class, (hooks, make, parts), state, None, None, _set_class_state

    def reduce_function(self, function: FunctionType, reduced: ReducedValue) -> ReducedValue:
        """Reduce a function that travels by value; ``reduced`` is cloudpickle's answer."""
        if function.__code__ is _DISPATCHER_CODE:
            dispatcher: Any = function
            names = (*functools.WRAPPER_ASSIGNMENTS[:4], *vars(function))
            attributes = {n: getattr(function, n) for n in names if n not in _REGISTRY_NAMES}
            state = dict(dispatcher.registry), attributes
            return _new_dispatcher, (), state, None, None, _set_dispatcher_state
        return reduced


def dumps(thing: object, make_pickler: type[ByValuePickler] = ByValuePickler) -> bytes:
    """Return a pickle that ``pickle.loads`` can read wherever redismr and cloudpickle are."""
    file = io.BytesIO()
    make_pickler(file).dump(thing)
    return file.getvalue()


def _code_in_file(file: str, make: Callable[..., CodeType], parts: tuple[Any, ...]) -> CodeType:
    return make(*parts).replace(co_filename=file)


def _empty_lru_cache(function: Any, parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(function)


def _partial_method(function: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return functools.partialmethod(function, *args, **keywords)


# ---- functions that dispatch on a type: cloudpickle would send weak references


def _placeholder(*_: object) -> None:
    """Stand for the function until the state is set."""


def _new_dispatcher() -> Any:
    return functools.singledispatch(_placeholder)


_DISPATCHER_CODE = _new_dispatcher().__code__
_REGISTRY_NAMES = ("register", "dispatch", "registry", "_clear_cache")


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


# ---- classes: built again as they are now, without running the hooks that built them first


def _enum_members(cls: Any) -> dict[str, Any]:
    """Return all members, also aliases and combined flags, without the user's ``__new__``."""
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
    for name, attributes in members.items():  # set by the __init__ of the class
        vars(cls.__members__[name]).update(attributes)  # type: ignore[attr-defined]


@contextmanager
def _without_hooks(hooks: tuple[tuple[type, str], ...]) -> Iterator[None]:
    """Take the named methods out of their classes while the body runs."""
    saved = [(owner, name, vars(owner)[name]) for owner, name in hooks if name in vars(owner)]
    for owner, name, _ in saved:
        type.__delattr__(owner, name)
    try:
        yield
    finally:
        for owner, name, hook in saved:
            type.__setattr__(owner, name, hook)
