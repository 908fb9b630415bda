"""No module of redismr imports, at any time, one that imports it in turn."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "redismr"
FACADES = {"redismr", "redismr.client"}
"""Packages that import the names they offer on first use. Those names stand for the modules they
come from, so no edge of the graph begins or ends here."""


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in PACKAGE.rglob("*.py")}


def imported_names(tree: ast.Module) -> set[str]:
    """The names that a module imports: at its top, in functions, and by ``import_module``.

    Imports for type checkers only do not count. Where ``import_module`` gets its name from
    elsewhere, every string of the module counts that is a module of ours.
    """
    only_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    names: set[str] = set()
    imports_by_name = "import_module(" in ast.unparse(tree)
    for node in ast.walk(tree):
        if id(node) in only_types:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif imports_by_name and isinstance(node, ast.Constant) and isinstance(node.value, str):
            names |= {node.value} & MODULES.keys()
    return names


def import_graph() -> dict[str, set[str]]:
    """For each module, the modules that it imports."""
    graph: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        if name in FACADES:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = {
            imported if imported in MODULES else imported.rpartition(".")[0]
            for imported in imported_names(tree)
        }
        graph[name] = (found & MODULES.keys()) - FACADES - {name}
    return graph


def test_no_imports_go_in_a_circle() -> None:
    try:
        TopologicalSorter(import_graph()).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_imports_at_run_time_are_seen() -> None:
    graph = import_graph()
    assert "redismr.compat.server" in graph["redismr.compat.mincemeat_globals"]
    assert "redismr.client.embedded" in graph["redismr.compat.doorway"]
