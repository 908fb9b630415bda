"""Which variable is to blame when a function does not pickle, or is too big to send about."""

from __future__ import annotations

import dis
import functools
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import CodeType, FunctionType, GetSetDescriptorType, MethodType
from typing import Any

from redismr.confidential import Confined, Kept

_MAX_DEPTH = 12
_MAX_ITEMS = 10_000


def reason(thing: Any, error: BaseException, fault: Callable[[Any], BaseException | None]) -> str:
    """Words for why ``fault(thing)`` is ``error``: the way to the innermost part at fault.

    >>> bad = iter(())
    >>> reason({"a": [1, bad]}, TypeError("no"), lambda x: None if x == 1 else TypeError("no"))
    "it uses the value at 'a', in it item 1, a tuple_iterator, which does not pickle (no)"
    """
    path: list[str] = []
    for _ in range(_MAX_DEPTH):
        if isinstance(thing, Confined):
            break
        found = next(
            ((words, part, e) for words, part in _parts(thing) if (e := fault(part)) is not None),
            None,
        )
        if found is None:
            break
        words, thing, error = found
        path.append(words)
    uses = "it uses " + ", in it ".join(path) + ", " if path else "it is "
    why = error.why if isinstance(error, Kept) else f"does not pickle ({error})"
    return f"{uses}a {_type_name(thing)}, which {why}"


def largest(parts: Mapping[str, Any], size: Callable[[Any], int]) -> tuple[str, int]:
    """Name and pickled size of the biggest of the parts; for functions, of their variables."""
    sizes = {
        name: size(thing) for name, thing in parts.items() if not isinstance(thing, FunctionType)
    }
    for name, thing in parts.items():
        if isinstance(thing, FunctionType):
            sizes |= {f"{words} of {name}": size(part) for words, part in _variables(thing)}
    name = max(sizes, key=sizes.__getitem__)
    return name, sizes[name]


def globals_of(code: CodeType) -> Iterator[str]:
    """The names that a function's code, nested functions included, looks up in its globals."""
    for step in dis.get_instructions(code):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(step.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from globals_of(constant)


def _type_name(thing: Any) -> str:
    kind = type(thing)
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    """What pickling ``thing`` by value would pickle too, with words for each."""
    if isinstance(thing, FunctionType):
        yield from _variables(thing)
    elif isinstance(thing, functools.partial):
        yield "the function of a partial", thing.func
        yield from ((f"the argument {i} of a partial", a) for i, a in enumerate(thing.args))
        yield from ((f"the argument {n!r} of a partial", a) for n, a in thing.keywords.items())
    elif isinstance(thing, MethodType):
        yield "the object it is a method of", thing.__self__
    elif isinstance(thing, dict):
        yield from (
            (f"the value at {key!r:.40}", value) for key, value in islice(thing.items(), _MAX_ITEMS)
        )
    elif isinstance(thing, (list, tuple)):
        yield from ((f"item {i}", item) for i, item in enumerate(thing[:_MAX_ITEMS]))
    elif isinstance(thing, type):
        for name, value in list(vars(thing).items()):
            if not isinstance(value, GetSetDescriptorType):  # __dict__ itself, not what it holds
                yield f"the attribute {name!r}", value
    else:
        attributes = getattr(thing, "__dict__", None)
        if isinstance(attributes, dict):
            yield from ((f"the attribute {name!r}", v) for name, v in attributes.items())


def _variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the closure variable {name!r}", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in dict.fromkeys(globals_of(function.__code__)):
        if name in function.__globals__:
            yield f"the global {name!r}", function.__globals__[name]
    yield from (("a default argument", value) for value in function.__defaults__ or ())
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f"the default of {name!r}", value
