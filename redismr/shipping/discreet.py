"""Sources without secrets: the lines that tracebacks show, and the modules that run on workers.

Tracebacks want the lines of functions that were sent, and only those go. A module's whole source
has to run on the worker; the literals in it that hold a secret stay behind.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from types import CodeType

from redismr.confidential import (
    BLANK,
    WAY_OUT,
    Absent,
    Kept,
    blanked,
    blanked_wholly,
    known,
    reveals,
)
from redismr.errors import CodeError
from redismr.shipping.modules import ModuleSource
from redismr.shipping.parsing import parsed

_MAX_SHOWN = 1 << 20
_HOLDS = "holds the secret that signs jobs, or the password of a server"
_MAKES_TEXT = frozenset({"format", "strip"})


def refuse_secrets(pickled: bytes) -> bytes:
    """What was pickled.

    Raises:
        Kept: it holds a secret of this process.
    """
    if reveals(pickled):
        raise Kept("what is sent", _HOLDS, WAY_OUT)
    return pickled


def without_secrets(modules: Mapping[str, ModuleSource]) -> dict[str, ModuleSource]:
    """The modules, with an ``Absent`` in place of each literal that holds a secret.

    Nearly always no worker needs it: the module has it for the program that submits. Lines keep
    their numbers.

    Raises:
        CodeError: a source cannot be rewritten so; names it.
    """
    return {
        name: replace(module, source=_without_secrets(name, module)) if found else module
        for name, module in modules.items()
        for found in (revealing_lines(module.source),)
    }


def _without_secrets(name: str, module: ModuleSource) -> str:
    first = min(revealing_lines(module.source))
    source = blanked(_rewritten(name, module.source))
    if parsed(source) and not revealing_lines(source):
        return source
    raise CodeError(
        f"the module {name} cannot be sent to workers: {module.path}, line {first}, {_HOLDS}. "
        f"{WAY_OUT}; or keep it in a module that neither the script nor the job's functions import."
    )


def _rewritten(name: str, source: str) -> str:
    """The source with an expression that gives an ``Absent`` for each literal with a secret."""
    lines = source.encode("utf-8", "surrogatepass").splitlines(keepends=True)
    for node in reversed(_revealing(source)):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        head, tail = lines[first][: node.col_offset], lines[last][node.end_col_offset :]
        home = f"__import__({Absent.__module__!r}, fromlist=['_'])"
        kind = "bytes" if any(map(_is_bytes, ast.walk(node))) else "str"
        absent = f"({home}.Absent({name!r}, {node.lineno}, {kind})" + "\n" * (last - first) + ")"
        # In one piece: later lines keep their places in the list, and are empty.
        lines[first : last + 1] = [head + absent.encode() + tail, *[b""] * (last - first)]
    return b"".join(lines).decode("utf-8", "surrogatepass")


def lines_to_show(codes: Iterable[CodeType], shows: Callable[[str], bool]) -> dict[str, str]:
    """File name -> the lines of these functions in it, all others empty, secrets blanked.

    ``shows`` says of which files.
    """
    wanted: dict[str, set[int]] = {}
    for code in codes:
        wanted.setdefault(code.co_filename, set()).update(_lines_of(code))
    texts = {}
    for file in sorted(filter(shows, wanted)):
        linecache.checkcache(file)
        lines = linecache.getlines(file)
        if not lines:
            continue
        bare = revealing_lines("".join(lines))
        last = min(max(wanted[file]), len(lines))
        shown = ["\n"] * last
        for n in filter(last.__ge__, wanted[file]):
            shown[n - 1] = _shown(lines[n - 1], bare=n in bare)
        text = "".join(shown)
        if len(text) <= _MAX_SHOWN:
            texts[file] = text
    return texts


def _shown(line: str, *, bare: bool) -> str:
    text = blanked_wholly(line)
    # What is put together of pieces cannot be blanked piece by piece.
    return f"{BLANK}\n" if bare and text == line else text


@lru_cache(maxsize=1024)
def _lines_of(code: CodeType) -> range:
    """From the first line of a function to its last, functions within it included."""
    lines = [n for at in code.co_positions() for n in at[:2] if n]
    inner = [_lines_of(c)[-1] for c in code.co_consts if isinstance(c, CodeType)]
    return range(code.co_firstlineno, max([code.co_firstlineno, *lines, *inner]) + 1)


def revealing_lines(source: str) -> frozenset[int]:
    """The numbers of the lines that hold a secret, however its text is written or put together."""
    return _revealing_lines(source, known())


@lru_cache(maxsize=512)  # programs submit many jobs from the same files
def _revealing_lines(source: str, words: tuple[bytes, ...]) -> frozenset[int]:
    if not words:
        return frozenset()
    lines = enumerate(_bytes_of(source).splitlines(), 1)
    found = {number for number, line in lines if reveals(line)}
    for node in _revealing(source):
        found.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return frozenset(found)


def _revealing(source: str) -> list[ast.expr]:
    """The outermost literals that hold a secret, in the order of the source; no docstrings."""
    tree = parsed(source)
    found: list[ast.expr] = []
    names: dict[str, bytes] = {}
    for statement in tree.body if tree else ():
        inside = list(_revealing_in(statement, names))
        found += (node for node, _ in inside)
        if isinstance(statement, ast.Assign | ast.AnnAssign) and inside:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            text = b"".join(text for _, text in inside)
            names.update((target.id, text) for target in targets if isinstance(target, ast.Name))
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _revealing_in(
    statement: ast.AST, names: Mapping[str, bytes]
) -> Iterator[tuple[ast.expr, bytes]]:
    """Those within a statement, with their texts. ``names`` are the module's that hold a secret.

    In functions a name may mean something else.
    """
    todo = [(statement, names)]
    while todo:
        node, names = todo.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            names = {}
        text = _text(node, names) if isinstance(node, ast.expr) else b""
        if len(text) > 1 and not isinstance(node, ast.Name) and reveals(text):
            yield node, text  # type: ignore[misc]  # an expression, see above
        else:
            todo.extend((child, names) for child in ast.iter_child_nodes(node))


def _text(node: ast.AST, names: Mapping[str, bytes]) -> bytes:
    """That of a literal, or of literals and names put together: ``+``, ``%``, f-string, format."""
    return b"".join(_parts(node, names))


def _parts(node: ast.AST, names: Mapping[str, bytes]) -> Iterator[bytes]:
    inner: list[ast.expr] = []
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield _bytes_of(node.value)
        elif isinstance(node.value, bytes):
            yield node.value
    elif isinstance(node, ast.Name):
        yield names.get(node.id, b"")
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        right = node.right
        inner = [node.left, *(right.elts if isinstance(right, ast.Tuple) else [right])]
    elif isinstance(node, ast.JoinedStr):
        inner = node.values
    elif isinstance(node, ast.FormattedValue):
        inner = [node.value]
    elif (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _MAKES_TEXT
    ):
        inner = [node.func.value, *node.args, *(word.value for word in node.keywords)]
    for part in inner:
        yield from _parts(part, names)


def _is_bytes(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, bytes)


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
