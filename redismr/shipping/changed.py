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
from redismr.fresh import ABSENT, Changes, at, fresh
from redismr.shipping.blame import reason
from redismr.shipping.derived import constants, derived
from redismr.shipping.modules import ModuleSource, closure
from redismr.shipping.parsing import parsed
from redismr.shipping.pickler import Needs, dump, fault


@dataclass(frozen=True, slots=True)
class State:
    """The modules that a job needs, and what was changed in them.

    ``packed`` is set as soon as a module is loaded; ``scripts``, which refers to functions or
    classes of the scripts, when those are there. ``values`` are all of them, by name.
    """

    modules: dict[str, ModuleSource]
    packed: dict[str, bytes]
    scripts: dict[str, Changes]
    codes: set[CodeType]
    values: dict[str, Any]


def changed(names: Iterable[str], folders: list[str], seen: Callable[[], Iterable[str]]) -> State:
    """The local modules among ``names``, those that they need, and what was changed in them.

    Args:
        names: dotted names that may be modules.
        folders: as for ``closure``.
        seen: the names that the job's functions and params refer to.

    Raises:
        CodeError: something was set that does not pickle, in a module that the functions need.
    """
    gathered = _Gathered(folders, seen)
    todo = set(names)
    while new := gathered.add(todo):
        todo |= new
    return gathered.state()


class _Gathered:
    """What was changed in the modules that were looked at so far."""

    def __init__(self, folders: list[str], seen: Callable[[], Iterable[str]]) -> None:
        self._folders, self._seen = folders, seen
        self._modules: dict[str, ModuleSource] = {}
        self._changes: dict[str, Changes] = {}
        self._needs: dict[tuple[str, str], Needs] = {}
        self._derived: set[tuple[str, str]] = set()

    def add(self, names: Iterable[str]) -> set[str]:
        """Look at these modules; the names that what was changed in them refers to."""
        found = closure(sorted(names), self._folders)
        new = found.keys() - self._modules.keys()
        self._modules |= found
        for name in sorted(new):
            changes = _changes_of(name, found[name].source)
            if changes.values or changes.gone:
                self._changes[name] = changes
        while self._changes and self._derive():
            pass
        return {
            needed
            for name, changes in list(self._changes.items())
            for path, value in list(changes.values.items())
            for needed in self._needed(name, path, value)
        } - set(names)

    def _derive(self) -> bool:
        """Add what other modules made of it when they were loaded; False if there is no more.

        On a worker a module is changed before any other can import from it.
        """
        names = {
            module: {path for path in (*c.values, *c.gone) if "." not in path}
            for module, c in self._changes.items()
        }
        more = False
        for name, module in self._modules.items():
            if name not in sys.modules:
                continue
            space = vars(sys.modules[name])
            package = space.get("__package__") or ""
            before = self._changes.get(name, Changes({}, frozenset(), ()))
            values = {
                path: value
                for path in derived(module.source, package, names) - before.values.keys()
                if (value := at(space, path)) is not ABSENT
                and not isinstance(value, (FunctionType, type, ModuleType))
            }
            if values:
                more = True
                self._derived.update((name, path) for path in values)
                self._changes[name] = before._replace(values=before.values | values)
        return more

    def _needed(self, name: str, path: str, value: Any) -> Iterable[str]:
        """The names that a value refers to. What does not pickle is refused, or left out."""
        if (name, path) not in self._needs:
            try:
                self._needs[name, path] = dump(value)[1]
            except Exception as error:
                if self._must_travel(name, path):
                    raise _refusal(name, path, value, error) from error
                del self._changes[name].values[path]
                return ()
        return self._needs[name, path].names

    def _must_travel(self, name: str, path: str) -> bool:
        if (name, path) in self._derived:
            return False  # nobody set it: a worker makes it of what is set there
        loaded = fresh(sys.modules[name])
        if loaded is not None and loaded.was_empty(path):
            container = loaded.was_container(path)
            if _makes_itself(self._modules[name].source, path, container=container):
                return False
        return name in closure(sorted(self._seen()), self._folders)

    def state(self) -> State:
        """All of it, packed."""
        state = State(self._modules, {}, {}, set(), {})
        for name, changes in self._changes.items():
            needs = {path: self._needs[name, path] for path in changes.values}
            state.values.update((f"{name}.{path}", v) for path, v in changes.values.items())
            early = {p: v for p, v in changes.values.items() if not needs[p].scripts}
            late = {p: v for p, v in changes.values.items() if needs[p].scripts}
            state.codes.update(*(found.codes for found in needs.values()))
            if early or changes.gone:
                state.packed[name] = dump(changes._replace(values=early))[0]
            if late:
                state.scripts[name] = changes._replace(values=late, gone=())
        return state


def _changes_of(name: str, source: str) -> Changes:
    module = sys.modules.get(name)
    loaded = fresh(module) if isinstance(module, ModuleType) else None
    if loaded is None or module is None:
        return Changes({}, frozenset(), ())
    changes = loaded.changes(module)
    if loaded.whole:
        return changes
    # nobody saw the end of its load: constants tell what was set until redismr was imported
    space = vars(module)
    known = constants(source)
    early = {n: space[n] for n in known if n in space and _differ(space[n], known[n])}
    return changes._replace(values=early | changes.values)


def _differ(value: Any, constant: Any) -> bool:
    if type(value) is not type(constant):
        return True
    try:
        return bool(value != constant)
    except Exception:  # noqa: BLE001 - what a container holds by now may refuse to be compared
        return True


def _refusal(name: str, path: str, value: Any, error: Exception) -> CodeError:
    return CodeError(
        f"{name}.{path} was set after {name} was loaded, and cannot be sent to workers, which "
        f"load {name} afresh: {reason(value, error, fault)}. Set {name}.{path} in initfn, from "
        "params if need be, so that every worker has its own."
    )


def _makes_itself(source: str, path: str, *, container: bool) -> bool:
    r"""Whether a function of the module makes it, or what it contains, when that is needed.

    >>> text = "conn = None\ndef get():\n    global conn\n    conn = 1"
    >>> _makes_itself(text, "conn", container=False), _makes_itself(text, "x", container=False)
    (True, False)
    """
    name = path.rpartition(".")[2]
    tree = parsed(source)
    inside = [
        node
        for function in (ast.walk(tree) if tree else ())
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef))
        for node in ast.walk(function)
    ]
    if "." in path:
        return any(isinstance(node, ast.Attribute) and node.attr == name for node in inside)
    if container:
        return any(isinstance(node, ast.Name) and node.id == name for node in inside)
    return any(isinstance(node, ast.Global) and name in node.names for node in inside)
