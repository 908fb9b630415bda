"""Keeps secrets out of what is sent: pickles, sources of modules, lines for tracebacks.

Of functions that go by value only their own lines are sent, for tracebacks. The whole source of a
module is sent, without the literals in it that hold a secret.
"""

import ast
import linecache
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from types import CodeType

from redismr.confidential import (
    REDACTED,
    SECRET_REMEDY,
    WithheldSecret,
    contains_secret,
    redact_all_words,
    redact_secrets,
    searched_forms,
)
from redismr.errors import CodeError
from redismr.module_snapshots import is_local
from redismr.shipping.modules import ModuleSource, parse_source

_MAX_SHOWN_CHARS = 1 << 20
HOLDS_SECRET = "holds the secret that signs jobs, or the password of a server"  # noqa: S105  a text about both
_TEXT_METHODS = frozenset({"format", "strip"})


def redact_modules(modules: Mapping[str, ModuleSource]) -> dict[str, ModuleSource]:
    """Return the modules with a ``WithheldSecret`` in place of each literal that holds a secret.

    Workers hardly ever need the literal. Lines keep their numbers.
    """
    return {name: _redacted_module(name, module) for name, module in modules.items()}


def _redacted_module(name: str, module: ModuleSource) -> ModuleSource:
    if not (secret_lines := lines_with_secrets(module.source)):
        return module
    source = redact_secrets(_replace_secret_literals(name, module.source))
    if parse_source(source) and not lines_with_secrets(source):
        return replace(module, source=source)
    raise CodeError(
        f"the module {name} cannot be sent to workers: {module.path}, line {min(secret_lines)}, "
        f"{HOLDS_SECRET}. {SECRET_REMEDY}; or keep it in a module that neither the script nor "
        "the job's functions import."
    )


def _replace_secret_literals(name: str, source: str) -> str:
    """Return the source with an expression for a ``WithheldSecret`` in place of each secret."""
    lines = source.encode("utf-8", "surrogatepass").splitlines(keepends=True)
    for node in reversed(_secret_literals(source)):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head, tail = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        module_expression = f"__import__({WithheldSecret.__module__!r}, fromlist=['_'])"
        constants = [part for part in ast.walk(node) if isinstance(part, ast.Constant)]
        kind = "bytes" if any(isinstance(part.value, bytes) for part in constants) else "str"
        withheld = f"({module_expression}.WithheldSecret({name!r}, {node.lineno}, {kind})"
        withheld += "\n" * (last - first) + ")"
        # The literal's first line holds all its lines; empty items keep the list's length.
        lines[first : last + 1] = [head + withheld.encode() + tail, *[b""] * (last - first)]
    return b"".join(lines).decode("utf-8", "surrogatepass")


def traceback_lines(
    code_objects: Iterable[CodeType], modules: Mapping[str, ModuleSource]
) -> dict[str, str]:
    """Return local file not in ``modules`` -> lines of functions without secrets, others empty."""
    wanted: dict[str, set[int]] = {}
    for code in code_objects:
        wanted.setdefault(code.co_filename, set()).update(_line_range(code))
    texts = {}
    for file in sorted(wanted.keys() - {module.path for module in modules.values()}):
        if not is_local(file):
            continue
        linecache.checkcache(file)
        lines = linecache.getlines(file)
        if not lines:
            continue
        secret_lines = lines_with_secrets("".join(lines))
        last = min(max(wanted[file]), len(lines))
        shown = ["\n"] * last
        for n in filter(last.__ge__, wanted[file]):
            shown[n - 1] = redact_all_words(lines[n - 1])
            # A secret that is put together of several literals cannot be blanked word by word.
            if n in secret_lines and shown[n - 1] == lines[n - 1]:
                shown[n - 1] = f"{REDACTED}\n"
        text = "".join(shown)
        if len(text) <= _MAX_SHOWN_CHARS:
            texts[file] = text
    return texts


@lru_cache(maxsize=1024)
def _line_range(code: CodeType) -> range:
    """Return the line numbers of a function, with those of the functions in it."""
    lines = [n for position in code.co_positions() for n in position[:2] if n]
    inner = [_line_range(c)[-1] for c in code.co_consts if isinstance(c, CodeType)]
    return range(code.co_firstlineno, max([code.co_firstlineno, *lines, *inner]) + 1)


def lines_with_secrets(source: str) -> frozenset[int]:
    """Return the numbers of the lines with a secret, also of one put together of literals."""
    return _find_lines_with_secrets(source, searched_forms())


@lru_cache(maxsize=512)  # programs submit many jobs from the same files
def _find_lines_with_secrets(source: str, secrets: tuple[bytes, ...]) -> frozenset[int]:
    if not secrets:
        return frozenset()
    lines = enumerate(_to_utf8(source).splitlines(), 1)
    found = {number for number, line in lines if contains_secret(line)}
    for node in _secret_literals(source):
        found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(found)


def _secret_literals(source: str) -> list[ast.expr]:
    """Return the outermost literals that hold a secret, in source order, without docstrings."""
    tree = parse_source(source)
    found: list[ast.expr] = []
    secret_names: dict[str, bytes] = {}
    for statement in tree.body if tree else ():
        inside = list(_secret_literals_in(statement, secret_names))
        found += (node for node, _ in inside)
        if isinstance(statement, ast.Assign | ast.AnnAssign) and inside:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
            secret_names.update(dict.fromkeys(names, b"".join(text for _, text in inside)))
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _secret_literals_in(
    statement: ast.AST, secret_names: Mapping[str, bytes]
) -> Iterator[tuple[ast.expr, bytes]]:
    """Yield the literals that hold a secret, with their texts; names may hold parts of a secret."""
    todo = [(statement, secret_names)]
    while todo:
        node, secret_names = todo.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            secret_names = {}  # a name may mean something else there
        text = _literal_text(node, secret_names) if isinstance(node, ast.expr) else b""
        if len(text) > 1 and not isinstance(node, ast.Name) and contains_secret(text):
            yield node, text  # type: ignore[misc]  # only an expression has a text
        else:
            todo.extend((child, secret_names) for child in ast.iter_child_nodes(node))


def _literal_text(node: ast.AST, secret_names: Mapping[str, bytes]) -> bytes:
    """Return the text of a literal or a name, also if it is put together of several."""
    inner: list[ast.expr] = []
    if isinstance(node, ast.Constant):
        text = _to_utf8(node.value) if isinstance(node.value, str) else node.value
        return text if isinstance(text, bytes) else b""
    if isinstance(node, ast.Name):
        return secret_names.get(node.id, b"")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        right = node.right
        inner = [node.left, *(right.elts if isinstance(right, ast.Tuple) else [right])]
    elif isinstance(node, ast.JoinedStr):
        inner = node.values
    elif isinstance(node, ast.FormattedValue):
        inner = [node.value]
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _TEXT_METHODS
    ):
        inner = [node.func.value, *node.args, *(keyword.value for keyword in node.keywords)]
    return b"".join(_literal_text(part, secret_names) for part in inner)


def _to_utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
