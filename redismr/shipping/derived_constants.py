"""Finds names that loading a module sets, and their values, in its source without running it."""

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

from redismr.shipping.modules import absolute_module_name, parse_source

_FUNCTION_NODES = (ast.FunctionDef, ast.AsyncFunctionDef)


def derived_names(
    source: str, package: str, changed_names: Mapping[str, set[str]]
) -> frozenset[str]:
    r"""Return the dotted names that a module's load binds to values made of changed names.

    ``package`` is what its relative imports start from; ``changed_names`` are by module.

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
        # 1. ``import m``: names of modules with changes.
        if isinstance(statement, ast.Import):
            changed = [alias for alias in statement.names if alias.name in changed_names]
            affected_names.update(a.asname or a.name.partition(".")[0] for a in changed)
        # 2. ``from m import a``: names of changed values, or of modules with changes.
        elif isinstance(statement, ast.ImportFrom):
            names, modules = _changed_names_from_import(statement, package, changed_names)
            found |= names
            affected_names |= names | modules
        # 3. Any other statement that uses such a name.
        elif _uses_any_name(statement, affected_names):
            found.update(_bound_names(statement, affected_names))
            affected_names.update(path.partition(".")[0] for path in _bound_names(statement, None))
    return frozenset(found)


def declared_constants(source: str) -> dict[str, Any]:
    r"""Return name -> constant for each name that a module's load binds only once, to a constant.

    >>> declared_constants("A = 1; B = {'x': [-1]}; C = A; D = 1\nif A:\n    D = 2")
    {'A': 1, 'B': {'x': [-1]}}
    """
    statements = _top_level_statements(source)
    bound_counts = Counter(name for each in statements for name in _bound_names(each, None))
    found = {}
    for statement in statements:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if isinstance(statement, ast.AnnAssign):
            target = statement.target
        if isinstance(target, ast.Name) and bound_counts[target.id] == 1:
            with suppress(ValueError, TypeError, AttributeError):
                found[target.id] = ast.literal_eval(statement.value)  # type: ignore[attr-defined]
    return found


@lru_cache(maxsize=256)
def _top_level_statements(source: str) -> tuple[ast.stmt, ...]:
    tree = parse_source(source)
    return tuple(tree.body) if tree else ()


def _changed_names_from_import(
    statement: ast.ImportFrom, package: str, changed_names: Mapping[str, set[str]]
) -> tuple[set[str], set[str]]:
    """Return names that the statement binds to changed values, and to modules with changes."""
    module = absolute_module_name(statement.module or "", statement.level, package) or ""
    of_module = changed_names.get(module, set())
    names, modules = set[str](), set[str]()
    for alias in statement.names:
        if alias.name == "*":
            names |= of_module
        elif alias.name in of_module:
            names.add(alias.asname or alias.name)
        if f"{module}.{alias.name}" in changed_names:
            modules.add(alias.asname or alias.name)
    return names, modules


def _uses_any_name(node: ast.AST, names: set[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))


def _bound_names(node: ast.stmt, affected_names: set[str] | None) -> Iterator[str]:
    """Yield the dotted names that a statement binds.

    With ``affected_names``: of a function or class only the defaults or attributes made from these.
    """
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
