"""Changes that a program has made in its local modules since their load, sent to workers too.

Workers load modules anew from their sources. What differs from a new load is sent: names that were
set, containers that were filled, functions and class attributes that were replaced. A change that
does not pickle is refused by name, unless no function of the job can use it or the module makes the
value itself on demand.
"""

import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

from redismr.errors import CodeError
from redismr.module_snapshots import MISSING, Changes, snapshot_of, value_at
from redismr.shipping.code_pickler import References, dump_with_references, pickle_error_of
from redismr.shipping.derived_constants import declared_constants, derived_names
from redismr.shipping.modules import ModuleSource, find_local_modules, parse_source
from redismr.shipping.pickle_diagnosis import explain_pickle_error


@dataclass(frozen=True, slots=True)
class LocalModules:
    """The modules that a job needs, and the changes in them, by module name."""

    modules: dict[str, ModuleSource]
    packed_changes: dict[str, bytes]  #: Pickled ``Changes`` to set at the end of a module's load.
    #: Changes that refer to functions or classes of the scripts: to be set when these are there.
    deferred: dict[str, Changes]
    code_objects: set[CodeType]
    changed_values: dict[str, Any]  #: Dotted name (``conf.RATE``) -> value, of all changes.


def collect_local_modules(
    names: Iterable[str], folders: list[str], referenced_names: Iterable[str]
) -> LocalModules:
    """Return the local modules among ``names``, the modules that these need, and their changes.

    A changed value that does not pickle is an error only in modules that ``referenced_names`` need.
    """
    collector = _LocalModuleCollector(folders, referenced_names)
    todo = set(names)
    while new := collector.add_modules(todo):
        todo |= new
    return collector.result()


class _LocalModuleCollector:
    def __init__(self, folders: list[str], referenced_names: Iterable[str]) -> None:
        self._folders, self._referenced_names = folders, referenced_names
        self._modules: dict[str, ModuleSource] = {}
        self._changes: dict[str, Changes] = {}
        self._references: dict[tuple[str, str], References] = {}
        self._derived_names: set[tuple[str, str]] = set()

    def add_modules(self, names: Iterable[str]) -> set[str]:
        """Add the local modules among ``names``; return names that their changes need."""
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
        """Add values that other modules made of changed names at load; False if there is no more.

        On a worker the changes in a module are set before another module can import from it.
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
        """Return the names that a changed value refers to; none if the change need not be sent."""
        if (name, path) not in self._references:
            try:
                self._references[name, path] = dump_with_references(value)[1]
            except Exception as error:
                if self._must_ship(name, path):
                    why = explain_pickle_error(value, error, pickle_error_of)
                    raise CodeError(
                        f"{name}.{path} was set after {name} was loaded, and cannot be sent to "
                        f"workers, which load {name} afresh: {why}. Set {name}.{path} in initfn, "
                        "from params if need be, so that every worker has its own."
                    ) from error
                del self._changes[name].values[path]
                return ()
        return self._references[name, path].module_names

    def _must_ship(self, name: str, path: str) -> bool:
        if (name, path) in self._derived_names:
            return False  # the program did not set it: a worker makes it from the changed name
        loaded = snapshot_of(sys.modules[name])
        if loaded is not None and loaded.was_empty(path):
            container = loaded.was_container(path)
            if _is_made_on_demand(self._modules[name].source, path, container=container):
                return False
        return name in find_local_modules(sorted(self._referenced_names), self._folders)

    def result(self) -> LocalModules:
        local_modules = LocalModules(self._modules, {}, {}, set(), {})
        for name, changes in self._changes.items():
            immediate, deferred = dict[str, Any](), dict[str, Any]()
            for path, value in changes.values.items():
                references = self._references[name, path]
                local_modules.changed_values[f"{name}.{path}"] = value
                local_modules.code_objects.update(references.code_objects)
                (deferred if references.uses_scripts else immediate)[path] = value
            if immediate or changes.deleted:
                packed = dump_with_references(changes._replace(values=immediate))[0]
                local_modules.packed_changes[name] = packed
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
    # The module was loaded before redismr was imported: a constant in its source that has another
    # value by now was set since.
    set_early = {
        name: vars(module)[name]
        for name, constant in declared_constants(source).items()
        if name in vars(module) and _values_differ(vars(module)[name], constant)
    }
    return changes._replace(values=set_early | changes.values)


def _values_differ(value: Any, constant: Any) -> bool:
    try:
        return type(value) is not type(constant) or bool(value != constant)
    except Exception:  # noqa: BLE001 - items of a container may refuse to be compared
        return True


def _is_made_on_demand(source: str, path: str, *, container: bool) -> bool:
    """True if a function of the module sets the name, or fills the container, when called."""
    name = path.rpartition(".")[2]

    def changes_it(node: ast.AST) -> bool:
        if "." in path:
            return isinstance(node, ast.Attribute) and node.attr == name
        if container:
            return isinstance(node, ast.Name) and node.id == name
        return isinstance(node, ast.Global) and name in node.names

    tree = parse_source(source)
    return any(
        any(map(changes_it, ast.walk(function)))
        for function in (ast.walk(tree) if tree else ())
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
    )
