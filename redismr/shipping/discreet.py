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
        absent = f"({home}.Absent({name!r}, {node.lineno})" + "\n" * (last - first) + ")"
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
    todo: list[ast.AST] = [tree] if tree else []
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        text = _constant(node) if isinstance(node, ast.expr) else None
        if text is not None and reveals(text):
            found.append(node)  # type: ignore[arg-type]  # an expression, see above
        else:
            todo.extend(ast.iter_child_nodes(node))
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _constant(node: ast.AST) -> bytes | None:
    """The text of a literal, or of literals put together with ``+`` or in an f-string."""
    parts = b"".join(_parts(node))
    return parts if len(parts) > 1 else None


def _parts(node: ast.AST) -> Iterator[bytes]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str):
            yield _bytes_of(node.value)
        elif isinstance(node.value, bytes):
            yield node.value
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield from _parts(node.left)
        yield from _parts(node.right)
    elif isinstance(node, ast.JoinedStr):
        for value in node.values:
            yield from _parts(value)
    elif isinstance(node, ast.FormattedValue):
        yield from _parts(node.value)


def _bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
