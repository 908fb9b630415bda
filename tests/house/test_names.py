"""One name has one meaning in the whole tree."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from redismr.store.limits import LIMITS

ROOT = Path(__file__).parents[2] / "redismr"
ANCESTOR_NAMES = {"Client", "Server", "DEFAULT_PORT", "VERSION"}
"""Names that the interfaces of mincemeat.py, its forks and shepherd prescribe to ``compat``."""


def test_no_two_modules_have_the_same_name() -> None:
    paths = [path for path in ROOT.rglob("*.py") if not path.stem.startswith("__")]
    assert repeated((path.stem, path) for path in paths) == {}


def test_no_two_classes_constants_or_type_aliases_have_the_same_name() -> None:
    """A leading underscore does not make another name; limits of the scripts are constants too."""
    names = [
        (name, path)
        for path in ROOT.rglob("*.py")
        for name in module_level_names(ast.parse(path.read_text(encoding="utf-8")))
        if not (name in ANCESTOR_NAMES and path.parent.name == "compat")
    ]
    names += [(name, ROOT / "store/limits.py") for name in LIMITS]
    assert repeated(iter(names)) == {}


def module_level_names(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield node.name.lstrip("_")
        targets = getattr(node, "targets", None) or [getattr(node, "target", None)]
        for name in (part.id for target in targets if target for part in assigned(target)):
            # one capital letter is a type variable
            is_constant = name.isupper() and len(name.lstrip("_")) > 1
            if (is_constant or is_type_alias(node, name)) and not name.startswith("__"):
                yield name.lstrip("_")


def is_type_alias(node: ast.stmt, name: str) -> bool:
    """True for ``Name = Callable[...]`` and ``Name = A[...] | B``."""
    value = getattr(node, "value", None)
    return name.lstrip("_")[:1].isupper() and isinstance(value, ast.Subscript | ast.BinOp)


def assigned(target: ast.expr) -> list[ast.Name]:
    parts = target.elts if isinstance(target, ast.Tuple) else [target]
    return [part for part in parts if isinstance(part, ast.Name)]


def repeated(names: Iterator[tuple[str, Path]]) -> dict[str, list[str]]:
    places = defaultdict(list)
    for name, path in names:
        places[name].append(path.relative_to(ROOT).as_posix())
    return {name: found for name, found in places.items() if len(found) > 1}
