"""Finds the variable because of which a function does not pickle, or has a large pickle."""

import dis
import functools
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import CodeType, FunctionType, GetSetDescriptorType, MethodType
from typing import Any

from redismr.confidential import NotSendable, Unpicklable

_MAX_SEARCH_DEPTH = 12
_MAX_SEARCHED_ITEMS = 10_000


def explain_pickle_error(
    obj: Any, error: BaseException, error_of: Callable[[Any], BaseException | None]
) -> str:
    """Explain why ``error_of(obj)`` is ``error``: name the way to the innermost part at fault.

    >>> bad = iter(())
    >>> def error_of(obj):
    ...     return None if obj == 1 else TypeError("no")
    >>> explain_pickle_error({"a": [1, bad]}, TypeError("no"), error_of)
    "it uses the value at 'a', in it item 1, a tuple_iterator, which does not pickle (no)"
    """
    path: list[str] = []
    while len(path) < _MAX_SEARCH_DEPTH and not isinstance(obj, Unpicklable):
        for label, part in _pickled_parts(obj):
            if (part_error := error_of(part)) is not None:
                path.append(label)
                obj, error = part, part_error
                break
        else:
            break
    path_text = "it uses " + ", in it ".join(path) + ", " if path else "it is "
    problem = error.why if isinstance(error, NotSendable) else f"does not pickle ({error})"
    kind = type(obj)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{path_text}a {module}{kind.__qualname__}, which {problem}"


def largest_part(parts: Mapping[str, Any], size: Callable[[Any], int]) -> tuple[str, int]:
    """Return name and pickled size of the largest part; of functions, the largest variable."""
    sizes = {name: size(obj) for name, obj in parts.items() if not isinstance(obj, FunctionType)}
    for name, obj in parts.items():
        if isinstance(obj, FunctionType):
            sizes |= {f"{label} of {name}": size(part) for label, part in _function_variables(obj)}
    name = max(sizes, key=sizes.__getitem__)
    return name, sizes[name]


def global_names(code: CodeType) -> Iterator[str]:
    """Yield the names that a function's code, nested functions included, looks up in globals."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from global_names(constant)


def _pickled_parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield (label, part) for each part that pickling ``obj`` by value pickles too."""
    if isinstance(obj, FunctionType):
        yield from _function_variables(obj)
    elif isinstance(obj, functools.partial):
        yield "the function of a partial", obj.func
        yield from ((f"the argument {i} of a partial", a) for i, a in enumerate(obj.args))
        yield from ((f"the argument {n!r} of a partial", a) for n, a in obj.keywords.items())
    elif isinstance(obj, MethodType):
        yield "the object it is a method of", obj.__self__
    elif isinstance(obj, dict):
        items = islice(obj.items(), _MAX_SEARCHED_ITEMS)
        yield from ((f"the value at {key!r:.40}", value) for key, value in items)
    elif isinstance(obj, (list, tuple)):
        yield from ((f"item {i}", item) for i, item in enumerate(obj[:_MAX_SEARCHED_ITEMS]))
    elif isinstance(obj, type):
        for name, value in list(vars(obj).items()):
            if not isinstance(value, GetSetDescriptorType):  # the slot of __dict__, not its items
                yield f"the attribute {name!r}", value
    else:
        attributes = getattr(obj, "__dict__", None)
        if isinstance(attributes, dict):
            yield from ((f"the attribute {name!r}", v) for name, v in attributes.items())


def _function_variables(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"the closure variable {name!r}", cell.cell_contents
        except ValueError:  # the variable is not assigned yet
            continue
    for name in dict.fromkeys(global_names(function.__code__)):
        if name in function.__globals__:
            yield f"the global {name!r}", function.__globals__[name]
    yield from (("a default argument", value) for value in function.__defaults__ or ())
    for name, value in (function.__kwdefaults__ or {}).items():
        yield f"the default of {name!r}", value
