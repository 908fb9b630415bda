"""The local modules that a job needs, and their sources.

Local modules are those that the user wrote (``redismr.module_snapshots``). Nothing is imported to
find them: names come from import statements (in the syntax tree of sources, in the byte code of
functions) and are looked up in ``sys.modules`` first, then on the path.
"""

import ast
import dis
import importlib.util
import os
import pkgutil
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import distributions
from types import CodeType, ModuleType
from typing import Any

from redismr.core.pickle_by_value import BY_VALUE_MODULES
from redismr.module_snapshots import is_local, snapshot_of

_parse_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class ModuleSource:
    """One module as text."""

    path: str  #: The file on the submitter; "" for a namespace package.
    source: str
    package_path: tuple[str, ...] | None  #: The ``__path__`` of a package; None for a module.


def find_local_modules(names: Iterable[str], folders: Iterable[str]) -> dict[str, ModuleSource]:
    """Return the local modules among ``names`` and all that they import, sorted by name.

    A package comes with its parent packages and with its submodules that are loaded here: these may
    be plugins that are imported by a computed name. Names that are no modules are passed over.
    ``folders`` are searched before ``sys.path``, as Python searches the folder of a script.
    """
    search_path = (*folders, *sys.path)
    todo, seen, found = list(names), {"", *BY_VALUE_MODULES}, {}
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        module = _read_local_source(name, search_path)
        if module is None:
            continue
        found[name] = module
        parent = name.rpartition(".")[0]
        package = parent if module.package_path is None else name
        todo += [parent, *imported_names(module.source, package)]
        if module.package_path is not None:
            todo += [m for m in list(sys.modules) if m.startswith(f"{name}.")]
    return dict(sorted(found.items()))


def parse_source(source: str) -> ast.Module | None:
    """Return the syntax tree; None if Python cannot parse the source."""
    try:
        with _parse_lock:  # in Python 3.11 two threads that parse at once may get a SystemError
            return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=512)  # programs submit many jobs from the same files
def imported_names(source: str, package: str) -> frozenset[str]:
    """Return every dotted name that import statements anywhere in ``source`` may load.

    >>> sorted(imported_names("from .a import b; import c.d", "pkg"))
    ['c.d', 'pkg.a', 'pkg.a.b']
    """
    names: set[str] = set()
    tree = parse_source(source)
    for node in ast.walk(tree) if tree else ():
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            items = tuple(alias.name for alias in node.names)
            names.update(_names_from_import(node.module or "", node.level, items, package))
    return frozenset(names)


@lru_cache(maxsize=1024)
def imported_names_in_code(code: CodeType, package: str) -> frozenset[str]:
    """Return every dotted name that a function's code may import; needs no source (REPL)."""
    found = set[str]()
    pushed_constants: list[object] = [0, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME":
            level, names = pushed_constants  # IMPORT_NAME takes the two constants pushed last
            level = level if isinstance(level, int) else 0
            names = names if isinstance(names, tuple) else ()
            found.update(_names_from_import(str(instruction.argval), level, names, package))
        elif instruction.opname not in ("EXTENDED_ARG", "CACHE"):
            pushed_constants = [pushed_constants[1], instruction.argval]
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= imported_names_in_code(constant, package)
    return frozenset(found)


def _is_installed(name: str, path: str) -> bool:
    """True if pip installed the module, into whatever folder (``pip install --target``)."""
    top, *inner = name.split(".")
    root = os.path.dirname(path)
    for _ in range(len(inner) + os.path.basename(path).startswith("__init__.")):
        root = os.path.dirname(root)
    return top in _installed_in(root)


@lru_cache(maxsize=256)
def _installed_in(folder: str) -> frozenset[str]:
    return frozenset(
        file.parts[0].removesuffix(".py")
        for distribution in distributions(path=[folder])
        if distribution.read_text("RECORD")  # an egg-info beside a project's sources has none
        for file in distribution.files or ()
    )


def _names_from_import(
    module: str, level: int, names: tuple[str, ...], package: str
) -> Iterator[str]:
    if (absolute_name := absolute_module_name(module, level, package)) is not None:
        yield absolute_name
        yield from (f"{absolute_name}.{name}" for name in names if name != "*")


def absolute_module_name(module: str, level: int, package: str) -> str | None:
    """Return the dotted name of an imported module; None if ``level`` dots leave the package."""
    try:
        return importlib.util.resolve_name("." * level + module, package)
    except ImportError:
        return None


def _read_local_source(name: str, search_path: tuple[str, ...]) -> ModuleSource | None:
    """Return the source of a local module; None for anything else, unreadable files included."""
    path, packages, loader = _locate(name, search_path)
    folders = None if packages is None else tuple(map(str, packages))
    if path is None:
        # A namespace package has folders and no file. It is not sent if any folder is installed.
        if not folders or any(not is_local(f) or _is_installed(name, f) for f in folders):
            return None
        return ModuleSource("", "", folders)
    if not path.endswith((".py", ".pyw")) or not is_local(path) or _is_installed(name, path):
        return None
    source = _source_text(name, path, loader)
    return None if source is None else ModuleSource(path, source, folders)


def _locate(name: str, search_path: Iterable[str]) -> tuple[str | None, Iterable[str] | None, Any]:
    """Return a module's file, its ``__path__`` if it is a package, and its loader."""
    module = sys.modules.get(name)
    if isinstance(module, ModuleType):
        # Read the namespace, not attributes: reading an attribute may make a lazy module import.
        names = vars(module)
        return names.get("__file__"), names.get("__path__"), names.get("__loader__")
    parent = name.rpartition(".")[0]
    locations = _locate(parent, search_path)[1] if parent else search_path
    folders: list[str] = []
    for location in () if name in sys.builtin_module_names else locations or ():
        # PathFinder does the same, but needs the parent of a namespace package imported.
        finder = pkgutil.get_importer(location or os.getcwd())
        spec = finder.find_spec(name) if finder else None
        if spec is not None and spec.loader is not None:
            return spec.origin, spec.submodule_search_locations, spec.loader
        folders += (spec and spec.submodule_search_locations) or ()
    return None, folders or None, None


def _source_text(name: str, path: str, loader: Any) -> str | None:
    module = sys.modules.get(name)
    loaded = snapshot_of(module) if isinstance(module, ModuleType) else None
    with suppress(OSError, UnicodeError, SyntaxError):
        if loaded is not None and loaded.source is not None:
            text = loaded.source  # the file may have changed since the load
            return text if isinstance(text, str) else importlib.util.decode_source(text)
        with open(path, "rb") as file:
            return importlib.util.decode_source(file.read())
    try:  # a module in a zip file, or one that came with a job whose functions submit a job
        source = loader.get_source(name)
    except Exception:  # noqa: BLE001 - a foreign loader may raise anything
        return None
    return source if isinstance(source, str) else None
