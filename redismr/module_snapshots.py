"""Local modules as they were right after they were loaded: their text, and what their names held.

A job's modules travel as text, and load afresh on a worker. What the program has changed in them
since then must travel too. So each local module is taken down at the end of its load or reload
(``redismr.import_watcher``), and those that were loaded before ``import redismr`` there.

"Local" is what the user wrote: Python source outside the standard library, outside installed
packages and outside redismr.
"""

from __future__ import annotations

import abc
import os
import sys
from collections import deque
from functools import lru_cache, partial, singledispatchmethod
from types import CodeType, FunctionType, MappingProxyType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from weakref import ref

_NON_USER_ROOTS = tuple(
    os.path.join(os.path.realpath(os.path.dirname(file)), "") for file in (os.__file__, __file__)
)
STDLIB_FOLDER = os.path.join(os.path.dirname(os.__file__), "")
_INSTALL_FOLDERS = {"site-packages", "dist-packages"}

_MAX_VALUES = 20_000  # values looked at in one module: about 5 ms
_MAX_HASHED_BYTES = 1 << 20
_MAX_KEPT_LENGTH = 1000  # a longer text is not kept alive
_SCALAR_TYPES = frozenset((str, bytes, int, float, complex, bool, type(None)))
_CONSTANT_TYPES = _SCALAR_TYPES | {
    FunctionType,
    CodeType,
    ModuleType,
    type,
    staticmethod,
    classmethod,
    property,
}
_COLLECTION_TYPES = (list, tuple, set, frozenset, deque)

# Set by the import system, by Python itself on first use (pickle's __slotnames__), or when a class
# is made.
_IGNORED_NAMES = frozenset(
    [
        "__name__",
        "__doc__",
        "__package__",
        "__loader__",
        "__spec__",
        "__file__",
        "__path__",
        "__cached__",
        "__builtins__",
        "__warningregistry__",
        "__dict__",
        "__weakref__",
        "__annotations__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__conditional_annotations__",
        "_abc_impl",
        "__abstractmethods__",
        "__parameters__",
        "__static_attributes__",
        "__firstlineno__",
        "__module__",
        "__qualname__",
        "__match_args__",
        "__wrapped__",
        "__slotnames__",
        "_member_names_",
        "_member_map_",
        "_value2member_map_",
        "_hashable_values_",
        "_unhashable_values_",
        "_unhashable_values_map_",
    ]
)
_FUNCTION_ATTRIBUTES = ("__code__", "__defaults__", "__kwdefaults__")


ModuleState = dict[str, tuple[Any, object]]
"""What a module holds: by dotted name, the value and its mark.

Of what was, only constants are kept, and the ids of others: the program may want to free them."""

REGISTER_INFIX = ".register "
"""In a name, before that of a class: what ``register`` was given for that class."""

_registry_dump: Any = vars(abc)["_get_dump"]  # what an abstract class keeps of its register

MISSING: Any = object()
"""Stands for nothing: None may be what a name holds."""


class Changes(NamedTuple):
    """What differs from a fresh load, by dotted name (``RATE``, ``Shape.sides``).

    ``changed_in_place`` names those of ``values`` that are the same objects with other contents.
    """

    values: dict[str, Any]
    changed_in_place: frozenset[str]
    deleted: tuple[str, ...]


@lru_cache(maxsize=1024)
def is_local(path: str) -> bool:
    """Whether a file lies outside the standard library, ``site-packages`` and redismr."""
    real = os.path.realpath(path)
    return not (
        real.startswith(_NON_USER_ROOTS) or _INSTALL_FOLDERS.intersection(real.split(os.sep))
    )


def is_local_source(file: object) -> bool:
    """Whether that names Python source which is local: quick where it lies in the library."""
    if not isinstance(file, str) or not file.endswith(".py"):
        return False
    if file.startswith(STDLIB_FOLDER) and _INSTALL_FOLDERS.isdisjoint(file.split(os.sep)):
        return False  # most are, and asking the disk takes 20 us each
    return is_local(file)


class ModuleSnapshot:
    """One module as it was loaded: its ``source``, decoded or not, and the ``state`` at that time.

    ``at_load_end``: the time was the very end of its load, not some time after. ``still_loading``:
    that end was
    still to come, and is not told of; what the module held then says nothing, and is not kept.
    """

    def __init__(
        self,
        module: ModuleType,
        source: str | bytes | None,
        *,
        at_load_end: bool,
        still_loading: bool = False,
    ) -> None:
        self.namespace = vars(module)
        self.at_load_end, self.still_loading = at_load_end, still_loading
        self.source = _read_source(self.namespace.get("__file__")) if source is None else source
        self.state: ModuleState = {
            path: (value if _is_constant(value) else id(value), mark)
            for path, (value, mark) in ({} if still_loading else module_state(module)).items()
        }

    def was_empty(self, path: str) -> bool:
        """Whether there was None, or an empty container."""
        mark = self.state.get(path, (None, None))[1]
        return isinstance(mark, tuple) and (mark[1] is None or mark[1] == [])

    def was_container(self, path: str) -> bool:
        """Whether that, if it was empty, was a container."""
        mark: Any = self.state[path][1]
        return mark[1] is not None

    def changes(self, module: ModuleType) -> Changes:
        """What was set or deleted since then, as far as that is known."""
        if self.still_loading:
            return Changes({}, frozenset(), ())
        before = self.state
        now = module_state(module, before)
        gone = [path for path in before if path not in now]
        values = {
            path: value
            for path, (value, mark) in now.items()
            if path not in before or before[path][1] != mark
        }
        # of a class that is gone, or another one, not each attribute
        tops = {path for path in (*values, *gone) if "." not in path}
        inner = {path for path in (*values, *gone) if path.partition(".")[0] in tops - {path}}
        return Changes(
            {path: value for path, value in values.items() if path not in inner},
            frozenset(p for p, v in values.items() if p in before and before[p][0] == id(v)),
            tuple(path for path in gone if path not in inner),
        )


_snapshots: dict[str, ModuleSnapshot] = {}


def snapshot_module(
    module: ModuleType,
    source: str | None = None,
    *,
    at_load_end: bool = True,
    still_loading: bool = False,
) -> None:
    """Take that module as it is now for a fresh one; its source is its file unless given."""
    if module.__name__ != "__main__":
        _snapshots[module.__name__] = ModuleSnapshot(
            module, source, at_load_end=at_load_end, still_loading=still_loading
        )


def snapshot_of(module: ModuleType) -> ModuleSnapshot | None:
    """That module as it was loaded; None if nobody saw it."""
    found = _snapshots.get(module.__name__)
    return found if found is not None and found.namespace is vars(module) else None


def module_state(module: ModuleType, before: ModuleState | None = None) -> ModuleState:
    """Each name of a module, and each attribute of its functions and classes.

    Two marks are equal if nothing that can be seen has changed between them: another object, or
    the same with other contents. Of a module with very many values, not all contents are seen.
    What cannot have changed is taken from ``before``: 300 names take 0.3 ms instead of 0.8.
    """
    marker, name = _Marker(before or {}), module.__name__
    found: ModuleState = {}
    for key, value in list(vars(module).items()):
        if key in _IGNORED_NAMES:
            continue
        kind = type(value)  # isinstance would ask a proxy for its class, which may raise
        if issubclass(kind, ModuleType) and value.__name__ == f"{name}.{key}":
            continue  # the import of a submodule binds it
        found[key] = marker.entry(key, value)
        if issubclass(kind, (FunctionType, type)) and value.__module__ == name:
            _add_attributes(found, key, value, marker)
    return found


def value_at(space: dict[str, Any], path: str) -> Any:
    """What a module holds under a dotted name; ``MISSING`` if nothing."""
    first, *rest = path.split(".")
    found = space.get(first, MISSING)
    for name in rest:
        found = getattr(found, name, MISSING)
    return found


def _add_attributes(found: ModuleState, path: str, owner: Any, marker: _Marker) -> None:
    if isinstance(owner, FunctionType):
        for name in _FUNCTION_ATTRIBUTES:
            found[f"{path}.{name}"] = marker.entry(f"{path}.{name}", getattr(owner, name))
    elif not isinstance(owner, type) or owner.__qualname__ != path:
        return
    _add_registered(found, path, owner)
    for name, value in list(vars(owner).items()):
        inner = f"{path}.{name}"
        if name not in _IGNORED_NAMES:
            found[inner] = marker.entry(inner, value)
            if issubclass(type(value), type):
                _add_attributes(found, inner, value, marker)
            elif type(value) is singledispatchmethod:
                _add_registered(found, inner, value.dispatcher)


def _add_registered(found: ModuleState, path: str, owner: Any) -> None:
    """What its ``register`` was given: by an abstract class, or a function that dispatches."""
    if isinstance(owner, abc.ABCMeta):
        registered: list[tuple[Any, ...]] = [
            (cls,) for found_ref in _registry_dump(owner)[0] if (cls := found_ref()) is not None
        ]
    elif isinstance(registry := vars(owner).get("registry"), MappingProxyType):
        registered = list(registry.items())
    else:
        return
    for given in registered:
        name = f"{path}{REGISTER_INFIX}{given[0].__module__}.{given[0].__qualname__}"
        found[name] = given, [_IdentityMark(part) for part in given]


class _IdentityMark:
    """Equal to the mark of the same object only. Keeps it alive if there is no other way."""

    __slots__ = ("thing",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, thing: object) -> None:
        try:
            self.thing: Any = ref(thing)
        except TypeError:
            self.thing = partial(_return_itself, thing)

    def __eq__(self, other: object) -> bool:
        own_object = self.thing()
        return (
            isinstance(other, _IdentityMark)
            and own_object is not None
            and own_object is other.thing()
        )


def _is_constant(value: Any) -> bool:
    """Whether it may be kept, and cannot change in itself."""
    kind = type(value)
    return kind in _CONSTANT_TYPES and not (kind in (str, bytes) and len(value) > _MAX_KEPT_LENGTH)


def _return_itself(thing: object) -> object:
    return thing


class _Marker:
    """Makes the marks of one module."""

    def __init__(self, before: ModuleState) -> None:
        self.before = before
        self.values_left = _MAX_VALUES
        self.in_progress: set[int] = set()

    def entry(self, path: str, value: Any) -> tuple[Any, object]:
        """The value with its mark."""
        entry = self.before.get(path)
        if entry is not None and entry[0] is value and type(value) in _CONSTANT_TYPES:
            return entry
        return value, self.mark(value)

    def mark(self, value: Any) -> object:
        """What tells this value from what it may become."""
        kind = type(value)
        if kind in _SCALAR_TYPES:
            return kind, value if _is_constant(value) else hash(value)
        self.values_left -= 1
        if self.values_left < 0 or id(value) in self.in_progress:
            return _IdentityMark(value)
        self.in_progress.add(id(value))
        try:
            return self._contents_mark(kind, value)
        except Exception:  # noqa: BLE001 - what a proxy or a property of the user's raises
            return _IdentityMark(value)
        finally:
            self.in_progress.remove(id(value))

    def _contents_mark(self, kind: type, value: Any) -> object:
        if issubclass(kind, dict):
            return kind, [(self.mark(k), self.mark(v)) for k, v in list(dict.items(value))]
        if issubclass(kind, _COLLECTION_TYPES):
            collection_type: Any = next(
                base for base in _COLLECTION_TYPES if issubclass(kind, base)
            )
            return kind, [self.mark(part) for part in list(collection_type.__iter__(value))]
        if issubclass(kind, (type, FunctionType, ModuleType)):
            return _IdentityMark(value)
        if kind is SimpleNamespace or is_user_class(kind):
            return _IdentityMark(value), self.mark(_instance_state(value))
        try:
            view = memoryview(value)  # bytearray, array, numpy's
        except Exception:  # noqa: BLE001 - whatever it may be
            return _IdentityMark(value)
        return _IdentityMark(value), hash(view.tobytes()) if view.nbytes <= _MAX_HASHED_BYTES else 0


def _instance_state(value: Any) -> dict[str, Any]:
    found = dict(getattr(value, "__dict__", ()))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            member = kind.__dict__.get(
                f"_{kind.__name__.lstrip('_')}{name}" if name[:2] == "__" != name[-2:] else name
            )
            try:
                found[name] = member.__get__(value, kind)  # type: ignore[union-attr]
            except (AttributeError, TypeError):
                continue
    return found


def is_user_class(kind: type) -> bool:
    """Whether a class is of a local module or a script."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    return kind.__module__ == "__main__" or (isinstance(file, str) and is_local(file))


def _read_source(file: str | None) -> bytes | None:
    try:
        with open(file or "", "rb") as opened:
            return opened.read()
    except OSError:
        return None
