"""What a module's text says of the names that its load binds, without running it."""

from __future__ import annotations

import ast
import importlib.util
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import lru_cache
from typing import Any

from redismr.shipping.parsing import parse_source

_FUNCTION_NODES = (ast.FunctionDef, ast.AsyncFunctionDef)


def derived_names(
    source: str, package: str, changed_names: Mapping[str, AbstractSet[str]]
) -> frozenset[str]:
    r"""The names that a module's load binds to something made of a changed name, by dotted name.

    Args:
        source: the module's text.
        package: what its relative imports are relative to.
        changed_names: module -> names in it.

    >>> text = "from conf import A as B, C; import conf; D = E = conf.A * 2; F = D + 1; G = 1"
    >>> sorted(derived_names(text, "", {"conf": {"A"}}))
    ['B', 'D', 'E', 'F']
    >>> text = "import conf\nclass K:\n    x = conf.A\n    y = 1"
    >>> sorted(derived_names(text, "", {"conf": {"A"}}))
    ['K.x']
    """
    affected_names: set[str] = set()
    found: set[str] = set()
    for statement in _top_level_statements(source):
        if isinstance(statement, ast.Import):
            affected_names.update(
                alias.asname or alias.name.partition(".")[0]
                for alias in statement.names
                if alias.name in changed_names
            )
        elif isinstance(statement, ast.ImportFrom):
            names, modules = _changed_names_from_import(statement, package, changed_names)
            found |= names
            affected_names |= names | modules
        elif _uses_any_name(statement, affected_names):
            found.update(_bound_names(statement, affected_names))
            affected_names.update(path.partition(".")[0] for path in _bound_names(statement, None))
    return frozenset(found)


def declared_constants(source: str) -> dict[str, Any]:
    r"""The names that a module's load binds to constants, once and in no other way.

    >>> declared_constants("A = 1; B = {'x': [-1]}; C = A; D = 1\nif A:\n    D = 2")
    {'A': 1, 'B': {'x': [-1]}}
    """
    bound = Counter(
        name
        for statement in _top_level_statements(source)
        for name in _bound_names(statement, None)
    )
    found = {}
    for statement in _top_level_statements(source):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if isinstance(statement, ast.AnnAssign):
            target = statement.target
        if isinstance(target, ast.Name) and bound[target.id] == 1:
            with suppress(ValueError, TypeError, AttributeError):
                found[target.id] = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
    return found


@lru_cache(maxsize=256)
def _top_level_statements(source: str) -> tuple[ast.stmt, ...]:
    tree = parse_source(source)
    return tuple(tree.body) if tree else ()


def _changed_names_from_import(
    statement: ast.ImportFrom, package: str, changed_names: Mapping[str, AbstractSet[str]]
) -> tuple[set[str], set[str]]:
    """The changed names that it binds, and the names that it binds to changed modules."""
    module = "." * statement.level + (statement.module or "")
    if statement.level:
        try:
            module = importlib.util.resolve_name(module, package)
        except ImportError:
            return set(), set()
    of_module = changed_names.get(module, frozenset())
    names = {a.asname or a.name for a in statement.names if a.name in of_module}
    if any(alias.name == "*" for alias in statement.names):
        names.update(of_module)
    return names, {
        a.asname or a.name for a in statement.names if f"{module}.{a.name}" in changed_names
    }


def _uses_any_name(node: ast.AST, names: AbstractSet[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))


def _bound_names(node: ast.stmt, affected_names: AbstractSet[str] | None) -> Iterator[str]:
    """What a statement binds; of functions and classes, with ``affected_names``, what is made at once."""  # noqa: E501
    if isinstance(node, _FUNCTION_NODES):
        if affected_names is None:
            yield node.name
        elif any(_uses_any_name(default, affected_names) for default in node.args.defaults):
            yield f"{node.name}.__defaults__"
    elif isinstance(node, ast.ClassDef):
        if affected_names is None:
            yield node.name
            return
        for part in node.body:
            if _uses_any_name(part, affected_names) and not isinstance(part, _FUNCTION_NODES):
                yield from (f"{node.name}.{name}" for name in _bound_names(part, affected_names))
    else:
        names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
        yield from (name.id for name in names if isinstance(name.ctx, ast.Store))
