"""Pickles a job's functions and classes, and tells what it met."""

from __future__ import annotations

import io
import sys
from types import CodeType, FunctionType, ModuleType
from typing import Any

from redismr.core import byvalue
from redismr.core.byvalue import BY_VALUE, Reduced
from redismr.shipping.discreet import refuse_secrets
from redismr.shipping.modules import names_in_code
from redismr.shipping.world import class_of, function_of, new_class, set_function


class Needs:
    """What pickles refer to: names that may be modules, code whose lines may be shown.

    ``scripts``: whether there is anything in them that a script defines, and ``classes`` are its
    classes, by id. ``globals`` are the names of each script's globals that come with them.
    """

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.codes: set[CodeType] = set()
        self.scripts = False
        self.classes: set[int] = set()
        self.globals: dict[str, set[str]] = {module: set() for module in BY_VALUE}

    def note(self, thing: object) -> None:
        """Remember where a function, class or module that is being pickled comes from."""
        self.names.add(home_of(thing))
        if isinstance(thing, FunctionType):
            package = thing.__globals__.get("__package__") or ""
            self.names.update(names_in_code(thing.__code__, package))
            self.codes.add(thing.__code__)


class Pickler(byvalue.Pickler):
    """Tells in ``needs`` what it met.

    With a ``root``, which is a class of a script, that class goes alone: its script's other classes
    by name, and its globals that ``sent`` has not at all.
    """

    def __init__(self, root: type | None = None, sent: Needs | None = None) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file)
        self.needs = Needs()
        self._root, self._sent = root, sent
        self._scopes = {id(vars(sys.modules[m])): m for m in BY_VALUE if m in sys.modules}

    def reducer_override(self, obj: Any) -> Reduced:
        """Called by pickle for everything but plain data."""
        self.needs.note(obj)
        return super().reducer_override(obj)

    def packed(self) -> bytes:
        """All that was dumped.

        Raises:
            Kept: it holds a secret of this process.
        """
        return refuse_secrets(self._file.getvalue())

    def reduce_class(self, cls: type, reduced: Reduced) -> Reduced:
        """A class by value, or, beside a root, one of the script's by name."""
        if self._root is not None and cls is not self._root and in_script(cls):
            return class_of, (cls.__module__, cls.__qualname__)
        if cls.__module__ in BY_VALUE:
            self.needs.scripts = True
            self.needs.classes.add(id(cls))
        make, parts, *others = super().reduce_class(cls, reduced)
        if cls is self._root:
            make, parts = new_class, (cls.__module__, cls.__qualname__, make, parts)
        return make, parts, *others

    def reduce_function(self, function: FunctionType, reduced: Reduced) -> Reduced:
        """A function by value; one of a script shares the script's globals with all others."""
        reduced = super().reduce_function(function, reduced)
        scope = self._scopes.get(id(function.__globals__))
        if scope is None:
            return reduced
        make, parts, (attributes, members), *others, fill = reduced
        found = members.get("__globals__", {})
        if self._sent is not None:
            found = {name: found[name] for name in found if name not in self._sent.globals[scope]}
        self.needs.scripts = True
        self.needs.globals[scope].update(found)
        state = fill, (attributes, members | {"__globals__": found})
        return function_of, (scope, make, parts), state, *others, set_function


def dump(thing: object) -> tuple[bytes, Needs]:
    """The pickle of something by itself, and what it needs."""
    pickler = Pickler()
    pickler.dump(thing)
    return pickler.packed(), pickler.needs


def fault(thing: object) -> Exception | None:
    """What pickling it by value raises, None if nothing."""
    try:
        dump(thing)
    except Exception as error:  # noqa: BLE001 - whatever a __reduce__ raises
        return error
    return None


def in_script(cls: type) -> bool:
    """Whether plain pickle would look a class up by its name in a script."""
    module: Any = cls.__module__
    return module in BY_VALUE and namespace(module).get(cls.__qualname__) is cls


def namespace(module: str) -> dict[str, Any]:
    """What a module holds; nothing if it is not loaded."""
    return vars(sys.modules[module]) if module in sys.modules else {}


def home_of(thing: Any) -> str:
    """The module that a module, function, class or instance comes from."""
    kind = type(thing)  # isinstance would ask a proxy for its class, which may raise
    if issubclass(kind, ModuleType):
        return str(thing.__name__)
    owner = thing if issubclass(kind, (FunctionType, type)) else kind
    home: Any = owner.__module__  # a class may define it as anything
    return home if isinstance(home, str) else ""
