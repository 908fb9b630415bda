"""Snapshots of local modules right after their load: their source, and the values of their names.

A job's modules travel as source, and load afresh on a worker. Values that the program has changed
in them since their load must travel too. So a snapshot of each local module is taken at the end of
its load or reload (``redismr.import_watcher``); of modules that were loaded before redismr, when
redismr is imported.

A module is local if the user wrote it: Python source outside the standard library, outside
installed packages and outside redismr.
"""

from __future__ import annotations

import abc
import os
import sys
from collections import deque
from functools import lru_cache, singledispatchmethod
from types import CodeType, FunctionType, MappingProxyType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from weakref import ref

_NON_USER_ROOTS = tuple(
    os.path.join(os.path.realpath(os.path.dirname(file)), "") for file in (os.__file__, __file__)
)
STDLIB_FOLDER = os.path.join(os.path.dirname(os.__file__), "")
_INSTALL_FOLDERS = {"site-packages", "dist-packages"}

_MAX_VALUES = 20_000  # values read in one module: about 5 ms
_MAX_HASHED_BYTES = 1 << 20
_MAX_KEPT_LENGTH = 1000  # longer texts are not kept in memory
_SCALAR_TYPES = frozenset((str, bytes, int, float, complex, bool, type(None)))
_CONSTANT_TYPES = _SCALAR_TYPES | {
    FunctionType, CodeType, ModuleType, type, staticmethod, classmethod, property,
}  # fmt: skip
_COLLECTION_TYPES = (list, tuple, set, frozenset, deque)

_IGNORED_NAMES = frozenset({
    # set by the import system
    "__name__", "__doc__", "__package__", "__loader__", "__spec__", "__file__", "__path__",
    "__cached__", "__builtins__",
    # set by Python on first use
    "__warningregistry__", "__slotnames__", "__annotations__", "__annotations_cache__",
    "__annotate__", "__annotate_func__", "__conditional_annotations__",
    # set when a class is made
    "__dict__", "__weakref__", "__module__", "__qualname__", "__firstlineno__", "__parameters__",
    "__static_attributes__", "__match_args__", "__wrapped__", "__abstractmethods__", "_abc_impl",
    # set when an enumeration is made
    "_member_names_", "_member_map_", "_value2member_map_", "_hashable_values_",
    "_unhashable_values_", "_unhashable_values_map_",
})  # fmt: skip
_FUNCTION_ATTRIBUTES = ("__code__", "__defaults__", "__kwdefaults__")


ModuleState = dict[str, tuple[Any, object]]
"""The contents of a module: dotted name -> the value and its mark. A snapshot keeps only constants
as values, and the ids of other objects, because the program may want to free those."""

REGISTER_INFIX = ".register "  # as in the name "Shape.register module.Class" of an entry

_registry_dump: Any = vars(abc)["_get_dump"]  # reads the registered classes of an abstract class

MISSING: Any = object()  # no value: None may be one


class Changes(NamedTuple):
    """The differences from a fresh load, by dotted name (``RATE``, ``Shape.sides``)."""

    values: dict[str, Any]  #: Names that were set or changed, with their values.
    changed_in_place: frozenset[str]  #: Those of ``values`` that are the same objects still.
    deleted: tuple[str, ...]  #: Names that were deleted.


@lru_cache(maxsize=1024)
def is_local(path: str) -> bool:
    """True if a file lies outside the standard library, ``site-packages`` and redismr."""
    real = os.path.realpath(path)
    return not (
        real.startswith(_NON_USER_ROOTS) or _INSTALL_FOLDERS.intersection(real.split(os.sep))
    )


def is_local_source(file: object) -> bool:
    """True if ``file`` is the path of local Python source. Quick for the standard library."""
    if not isinstance(file, str) or not file.endswith(".py"):
        return False
    if file.startswith(STDLIB_FOLDER) and _INSTALL_FOLDERS.isdisjoint(file.split(os.sep)):
        return False  # spares most modules the 20 us of reading the real path from the disk
    return is_local(file)


class ModuleSnapshot:
    """One module as it was loaded: its ``source``, as bytes or text, and its ``state``.

    Args:
        source: None to read the module's file.
        at_load_end: True if the load ended just now, False if it ended some time ago.
        still_loading: True if the load goes on, and its end will not be seen. Then the state is
            left empty, because it is not what a fresh load would give.
    """

    def __init__(
        self,
        module: ModuleType,
        source: str | bytes | None,
        *,
        at_load_end: bool,
        still_loading: bool,
    ) -> None:
        self.namespace = vars(module)
        self.at_load_end, self.still_loading = at_load_end, still_loading
        self.source = _read_source(self.namespace.get("__file__")) if source is None else source
        self.state: ModuleState = {
            path: (value if _is_constant(value) else id(value), mark)
            for path, (value, mark) in ({} if still_loading else module_state(module)).items()
        }

    def was_empty(self, path: str) -> bool:
        """True if the name held None or an empty container."""
        mark = self.state.get(path, (None, None))[1]
        return isinstance(mark, tuple) and (mark[1] is None or mark[1] == [])

    def was_container(self, path: str) -> bool:
        """True if the name, of which ``was_empty`` is True, held a container."""
        return self.state[path][1][1] is not None  # type: ignore[index]

    def changes(self, module: ModuleType) -> Changes:
        """Return the names that were set or deleted since then, as far as that is known."""
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
        # a class that was replaced or deleted is named once, without its attributes
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
    """Keep a snapshot of a module, as it is now, as its state after a fresh load."""
    if module.__name__ != "__main__":
        _snapshots[module.__name__] = ModuleSnapshot(
            module, source, at_load_end=at_load_end, still_loading=still_loading
        )


def snapshot_of(module: ModuleType) -> ModuleSnapshot | None:
    """Return the snapshot of a module; None if there is none of this very module object."""
    found = _snapshots.get(module.__name__)
    return found if found is not None and found.namespace is vars(module) else None


def module_state(module: ModuleType, before: ModuleState | None = None) -> ModuleState:
    """Return each name of a module, and each attribute of its functions and classes, with marks.

    Two marks of a name are equal if no change between them can be seen: neither another object
    nor the same object with other contents. In a module with very many values, not all contents
    are read. Entries that cannot have changed are taken from ``before``: 300 names take 0.3 ms
    instead of 0.8.
    """
    marker, name = _Marker(before or {}), module.__name__
    found: ModuleState = {}
    for key, value in list(vars(module).items()):
        if key in _IGNORED_NAMES:
            continue
        kind = type(value)  # isinstance would read __class__ of a proxy, which may raise
        if issubclass(kind, ModuleType) and value.__name__ == f"{name}.{key}":
            continue  # set by the import of the submodule
        found[key] = marker.entry(key, value)
        if issubclass(kind, (FunctionType, type)) and value.__module__ == name:
            _add_attributes(found, key, value, marker)
    return found


def value_at(space: dict[str, Any], path: str) -> Any:
    """Return the value of a dotted name in a module's namespace; ``MISSING`` if there is none."""
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
    """Add the classes registered with an abstract class, or with a single-dispatch function."""
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
    """Equal only to a mark of the same object. Holds a weak reference where that is possible."""

    __slots__ = ("thing",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, thing: object) -> None:
        try:
            self.thing: Any = ref(thing)
        except TypeError:
            self.thing = lambda: thing

    def __eq__(self, other: object) -> bool:
        own = self.thing()
        return isinstance(other, _IdentityMark) and own is not None and own is other.thing()


def _is_constant(value: Any) -> bool:
    kind = type(value)
    return kind in _CONSTANT_TYPES and not (kind in (str, bytes) and len(value) > _MAX_KEPT_LENGTH)


class _Marker:
    def __init__(self, before: ModuleState) -> None:
        self.before = before
        self.values_left = _MAX_VALUES
        self.in_progress: set[int] = set()

    def entry(self, path: str, value: Any) -> tuple[Any, object]:
        entry = self.before.get(path)
        if entry is not None and entry[0] is value and type(value) in _CONSTANT_TYPES:
            return entry
        return value, self.mark(value)

    def mark(self, value: Any) -> object:
        kind = type(value)
        if kind in _SCALAR_TYPES:
            return kind, value if _is_constant(value) else hash(value)
        self.values_left -= 1
        if self.values_left < 0 or id(value) in self.in_progress:
            return _IdentityMark(value)
        self.in_progress.add(id(value))
        try:
            return self._contents_mark(kind, value)
        except Exception:  # noqa: BLE001 - anything that the user's proxies and properties raise
            return _IdentityMark(value)
        finally:
            self.in_progress.remove(id(value))

    def _contents_mark(self, kind: type, value: Any) -> object:
        if issubclass(kind, dict):
            return kind, [(self.mark(k), self.mark(v)) for k, v in list(dict.items(value))]
        if issubclass(kind, _COLLECTION_TYPES):
            base: Any = next(base for base in _COLLECTION_TYPES if issubclass(kind, base))
            return kind, [self.mark(part) for part in list(base.__iter__(value))]
        if issubclass(kind, (type, FunctionType, ModuleType)):
            return _IdentityMark(value)
        if kind is SimpleNamespace or is_user_class(kind):
            return _IdentityMark(value), self.mark(_instance_state(value))
        try:
            view = memoryview(value)  # bytearray, array, numpy's
        except Exception:  # noqa: BLE001 - not a buffer, or one that refuses
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
    """True if a local module or the script defines a class."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    return kind.__module__ == "__main__" or (isinstance(file, str) and is_local(file))


def _read_source(file: str | None) -> bytes | None:
    try:
        with open(file or "", "rb") as opened:
            return opened.read()
    except OSError:
        return None
