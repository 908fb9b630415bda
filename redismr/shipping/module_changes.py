"""What a program changed in its local modules since they were loaded, so that workers have it too.

Workers load modules afresh from their text. What differs from that travels: what was set or filled
at run time, functions and attributes of classes that were replaced. What does not pickle is refused
by name, unless no function of the job can see it, or the module itself makes it when it is needed.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

from redismr.errors import CodeError
from redismr.module_snapshots import MISSING, Changes, snapshot_of, value_at
from redismr.shipping.code_pickler import References, dump_with_references, pickle_error_of
from redismr.shipping.derived_constants import declared_constants, derived_names
from redismr.shipping.modules import ModuleSource, find_local_modules
from redismr.shipping.parsing import parse_source
from redismr.shipping.pickle_diagnosis import explain_pickle_error


@dataclass(frozen=True, slots=True)
class LocalModules:
    """The modules that a job needs, and what was changed in them.

    ``packed_changes`` is set as soon as a module is loaded; ``deferred``, which refers to
    functions or
    classes of the scripts, when those are there. ``changed_values`` are all of them, by name.
    """

    modules: dict[str, ModuleSource]
    packed_changes: dict[str, bytes]
    deferred: dict[str, Changes]
    code_objects: set[CodeType]
    changed_values: dict[str, Any]


def collect_local_modules(
    names: Iterable[str], folders: list[str], referenced_names: Callable[[], Iterable[str]]
) -> LocalModules:
    """The local modules among ``names``, those that they need, and what was changed in them.

    Args:
        names: dotted names that may be modules.
        folders: as for ``find_local_modules``.
        referenced_names: the names that the job's functions and params refer to.

    Raises:
        CodeError: something was set that does not pickle, in a module that the functions need.
    """
    collector = _LocalModuleCollector(folders, referenced_names)
    todo = set(names)
    while new := collector.add_modules(todo):
        todo |= new
    return collector.result()


class _LocalModuleCollector:
    """What was changed in the modules that were looked at so far."""

    def __init__(self, folders: list[str], referenced_names: Callable[[], Iterable[str]]) -> None:
        self._folders, self._referenced_names = folders, referenced_names
        self._modules: dict[str, ModuleSource] = {}
        self._changes: dict[str, Changes] = {}
        self._references: dict[tuple[str, str], References] = {}
        self._derived_names: set[tuple[str, str]] = set()

    def add_modules(self, names: Iterable[str]) -> set[str]:
        """Look at these modules; the names that what was changed in them refers to."""
        found = find_local_modules(sorted(names), self._folders)
        new = found.keys() - self._modules.keys()
        self._modules |= found
        for name in sorted(new):
            changes = _changes_of(name, found[name].source)
            if changes.values or changes.deleted:
                self._changes[name] = changes
        while self._changes and self._add_derived():
            pass
        return {
            needed
            for name, changes in list(self._changes.items())
            for path, value in list(changes.values.items())
            for needed in self._references_of(name, path, value)
        } - set(names)

    def _add_derived(self) -> bool:
        """Add what other modules made of it when they were loaded; False if there is no more.

        On a worker a module is changed before any other can import from it.
        """
        names = {
            module: {path for path in (*c.values, *c.deleted) if "." not in path}
            for module, c in self._changes.items()
        }
        more = False
        for name, module in self._modules.items():
            if name not in sys.modules:
                continue
            module_vars = vars(sys.modules[name])
            package = module_vars.get("__package__") or ""
            before = self._changes.get(name, Changes({}, frozenset(), ()))
            values = {
                path: value
                for path in derived_names(module.source, package, names) - before.values.keys()
                if (value := value_at(module_vars, path)) is not MISSING
                and not isinstance(value, (FunctionType, type, ModuleType))
            }
            if values:
                more = True
                self._derived_names.update((name, path) for path in values)
                self._changes[name] = before._replace(values=before.values | values)
        return more

    def _references_of(self, name: str, path: str, value: Any) -> Iterable[str]:
        """The names that a value refers to. What does not pickle is refused, or left out."""
        if (name, path) not in self._references:
            try:
                self._references[name, path] = dump_with_references(value)[1]
            except Exception as error:
                if self._must_ship(name, path):
                    raise _cannot_ship_error(name, path, value, error) from error
                del self._changes[name].values[path]
                return ()
        return self._references[name, path].module_names

    def _must_ship(self, name: str, path: str) -> bool:
        if (name, path) in self._derived_names:
            return False  # nobody set it: a worker makes it of what is set there
        loaded = snapshot_of(sys.modules[name])
        if loaded is not None and loaded.was_empty(path):
            container = loaded.was_container(path)
            if _is_made_on_demand(self._modules[name].source, path, container=container):
                return False
        return name in find_local_modules(sorted(self._referenced_names()), self._folders)

    def result(self) -> LocalModules:
        """All of it, packed."""
        local_modules = LocalModules(self._modules, {}, {}, set(), {})
        for name, changes in self._changes.items():
            references = {path: self._references[name, path] for path in changes.values}
            local_modules.changed_values.update(
                (f"{name}.{path}", v) for path, v in changes.values.items()
            )
            immediate = {p: v for p, v in changes.values.items() if not references[p].uses_scripts}
            deferred = {p: v for p, v in changes.values.items() if references[p].uses_scripts}
            local_modules.code_objects.update(
                *(found.code_objects for found in references.values())
            )
            if immediate or changes.deleted:
                local_modules.packed_changes[name] = dump_with_references(
                    changes._replace(values=immediate)
                )[0]
            if deferred:
                local_modules.deferred[name] = changes._replace(values=deferred, deleted=())
        return local_modules


def _changes_of(name: str, source: str) -> Changes:
    module = sys.modules.get(name)
    loaded = snapshot_of(module) if isinstance(module, ModuleType) else None
    if loaded is None or module is None:
        return Changes({}, frozenset(), ())
    changes = loaded.changes(module)
    if loaded.at_load_end:
        return changes
    # nobody saw the end of its load: constants tell what was set until redismr was imported
    module_vars = vars(module)
    declared = declared_constants(source)
    set_early = {
        n: module_vars[n]
        for n in declared
        if n in module_vars and _values_differ(module_vars[n], declared[n])
    }
    return changes._replace(values=set_early | changes.values)


def _values_differ(value: Any, constant: Any) -> bool:
    if type(value) is not type(constant):
        return True
    try:
        return bool(value != constant)
    except Exception:  # noqa: BLE001 - what a container holds by now may refuse to be compared
        return True


def _cannot_ship_error(name: str, path: str, value: Any, error: Exception) -> CodeError:
    return CodeError(
        f"{name}.{path} was set after {name} was loaded, and cannot be sent to workers, which "
        f"load {name} afresh: {explain_pickle_error(value, error, pickle_error_of)}. Set {name}.{path} in initfn, from "  # noqa: E501
        "params if need be, so that every worker has its own."
    )


def _is_made_on_demand(source: str, path: str, *, container: bool) -> bool:
    r"""Whether a function of the module makes it, or what it contains, when that is needed.

    >>> text = "conn = None\ndef get():\n    global conn\n    conn = 1"
    >>> [_is_made_on_demand(text, name, container=False) for name in ("conn", "x")]
    [True, False]
    """
    name = path.rpartition(".")[2]
    tree = parse_source(source)
    nodes_in_functions = [
        node
        for function in (ast.walk(tree) if tree else ())
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    ]
    if "." in path:
        return any(
            isinstance(node, ast.Attribute) and node.attr == name for node in nodes_in_functions
        )
    if container:
        return any(isinstance(node, ast.Name) and node.id == name for node in nodes_in_functions)
    return any(isinstance(node, ast.Global) and name in node.names for node in nodes_in_functions)
