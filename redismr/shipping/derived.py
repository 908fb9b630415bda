"""Which names of a module come from what another module held when the module was loaded."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def derived(source: str, package: str, changed: Mapping[str, AbstractSet[str]]) -> frozenset[str]:
    r"""The names that a module's load binds to something made of a changed name, by dotted name.

    Args:
        source: the module's text.
        package: what its relative imports are relative to.
        changed: module -> names in it.

    >>> text = "from conf import A as B, C; import conf; D = E = conf.A * 2; F = D + 1; G = 1"
    >>> sorted(derived(text, "", {"conf": {"A"}}))
    ['B', 'D', 'E', 'F']
    >>> sorted(derived("import conf\nclass K:\n    x = conf.A\n    y = 1", "", {"conf": {"A"}}))
    ['K.x']
    """
    uses: set[str] = set()
    found: set[str] = set()
    for statement in _statements(source):
        if isinstance(statement, ast.Import):
            uses.update(
                alias.asname or alias.name.partition(".")[0]
                for alias in statement.names
                if alias.name in changed
            )
        elif isinstance(statement, ast.ImportFrom):
            names, modules = _imported(statement, package, changed)
            found |= names
            uses |= names | modules
        elif _mentions(statement, uses):
            found.update(_bound(statement, uses))
            uses.update(path.partition(".")[0] for path in _bound(statement, None))
    return frozenset(found)


@lru_cache(maxsize=256)
def _statements(source: str) -> tuple[ast.stmt, ...]:
    try:
        return tuple(ast.parse(source).body)
    except (SyntaxError, ValueError, RecursionError):
        return ()


def _imported(
    statement: ast.ImportFrom, package: str, changed: Mapping[str, AbstractSet[str]]
) -> tuple[set[str], set[str]]:
    """The changed names that it binds, and the names that it binds to changed modules."""
    module = "." * statement.level + (statement.module or "")
    if statement.level:
        try:
            module = importlib.util.resolve_name(module, package)
        except ImportError:
            return set(), set()
    of_module = changed.get(module, frozenset())
    names = {a.asname or a.name for a in statement.names if a.name in of_module}
    if any(alias.name == "*" for alias in statement.names):
        names.update(of_module)
    return names, {a.asname or a.name for a in statement.names if f"{module}.{a.name}" in changed}


def _mentions(node: ast.AST, names: AbstractSet[str]) -> bool:
    return any(isinstance(part, ast.Name) and part.id in names for part in ast.walk(node))


def _bound(node: ast.stmt, uses: AbstractSet[str] | None) -> Iterator[str]:
    """What a statement binds; of functions and classes, with ``uses``, what is made at once."""
    if isinstance(node, _Function):
        if uses is None:
            yield node.name
        elif any(_mentions(default, uses) for default in node.args.defaults):
            yield f"{node.name}.__defaults__"
    elif isinstance(node, ast.ClassDef):
        if uses is None:
            yield node.name
            return
        for part in node.body:
            if _mentions(part, uses) and not isinstance(part, _Function):
                yield from (f"{node.name}.{name}" for name in _bound(part, uses))
    else:
        names = [part for part in ast.walk(node) if isinstance(part, ast.Name)]
        yield from (name.id for name in names if isinstance(name.ctx, ast.Store))
