"""Pickles a job's functions and classes, and tells what it met."""

from __future__ import annotations

import io
import sys
from types import CodeType, FunctionType, ModuleType
from typing import Any

from redismr.core import pickle_by_value
from redismr.core.pickle_by_value import BY_VALUE_MODULES, ReducedValue
from redismr.shipping.modules import imported_names_in_code
from redismr.shipping.shared_globals import get_class, make_class, make_function, set_function_state
from redismr.shipping.source_redaction import refuse_secrets


class References:
    """What pickles refer to: names that may be modules, code whose lines may be shown.

    ``uses_scripts``: whether there is anything in them that a script defines, and ``class_ids``
    are those of its
    classes. ``script_globals`` are the names of each script's globals that come with them.
    """

    def __init__(self) -> None:
        self.module_names: set[str] = set()
        self.code_objects: set[CodeType] = set()
        self.uses_scripts = False
        self.class_ids: set[int] = set()
        self.script_globals: dict[str, set[str]] = {module: set() for module in BY_VALUE_MODULES}

    def add(self, obj: object) -> None:
        """Remember where a function, class or module that is being pickled comes from."""
        self.module_names.add(module_name_of(obj))
        if isinstance(obj, FunctionType):
            package = obj.__globals__.get("__package__") or ""
            self.module_names.update(imported_names_in_code(obj.__code__, package))
            self.code_objects.add(obj.__code__)


class Pickler(pickle_by_value.ByValuePickler):
    """Tells in ``references`` what it met.

    With an ``only_class``, which is a class of a script, that class goes alone: its script's other
    classes
    by name, and its globals that ``already_sent`` has not at all.
    """

    def __init__(
        self, only_class: type | None = None, already_sent: References | None = None
    ) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file)
        self.references = References()
        self._only_class, self._already_sent = only_class, already_sent
        self._script_of_globals = {
            id(vars(sys.modules[m])): m for m in BY_VALUE_MODULES if m in sys.modules
        }

    def reducer_override(self, obj: Any) -> ReducedValue:
        """Called by pickle for everything but plain data."""
        self.references.add(obj)
        return super().reducer_override(obj)

    def packed(self) -> bytes:
        """All that was dumped.

        Raises:
            NotSendable: it holds a secret of this process.
        """
        return refuse_secrets(self._file.getvalue())

    def reduce_class(self, cls: type, reduced: ReducedValue) -> ReducedValue:
        """A class by value, or, beside an ``only_class``, one of the script's by name."""
        if self._only_class is not None and cls is not self._only_class and is_script_class(cls):
            return get_class, (cls.__module__, cls.__qualname__)
        if cls.__module__ in BY_VALUE_MODULES:
            self.references.uses_scripts = True
            self.references.class_ids.add(id(cls))
        make, parts, *others = super().reduce_class(cls, reduced)
        if cls is self._only_class:
            make, parts = make_class, (cls.__module__, cls.__qualname__, make, parts)
        return make, parts, *others

    def reduce_function(self, function: FunctionType, reduced: ReducedValue) -> ReducedValue:
        """A function by value; one of a script shares the script's globals with all others."""
        reduced = super().reduce_function(function, reduced)
        script = self._script_of_globals.get(id(function.__globals__))
        if script is None:
            return reduced
        make, parts, (attributes, members), *others, set_state = reduced
        found = members.get("__globals__", {})
        if self._already_sent is not None:
            found = {
                name: found[name]
                for name in found
                if name not in self._already_sent.script_globals[script]
            }
        self.references.uses_scripts = True
        self.references.script_globals[script].update(found)
        state = set_state, (attributes, members | {"__globals__": found})
        return make_function, (script, make, parts), state, *others, set_function_state


def dump_with_references(obj: object) -> tuple[bytes, References]:
    """The pickle of something by itself, and what it needs."""
    pickler = Pickler()
    pickler.dump(obj)
    return pickler.packed(), pickler.references


def pickle_error_of(obj: object) -> Exception | None:
    """What pickling it by value raises, None if nothing."""
    try:
        dump_with_references(obj)
    except Exception as error:  # noqa: BLE001 - whatever a __reduce__ raises
        return error
    return None


def is_script_class(cls: type) -> bool:
    """Whether plain pickle would look a class up by its name in a script."""
    module: Any = cls.__module__
    return module in BY_VALUE_MODULES and module_namespace(module).get(cls.__qualname__) is cls


def module_namespace(module: str) -> dict[str, Any]:
    """What a module holds; nothing if it is not loaded."""
    return vars(sys.modules[module]) if module in sys.modules else {}


def module_name_of(obj: Any) -> str:
    """The module that a module, function, class or instance comes from."""
    kind = type(obj)  # isinstance would ask a proxy for its class, which may raise
    if issubclass(kind, ModuleType):
        return str(obj.__name__)
    owner = obj if issubclass(kind, (FunctionType, type)) else kind
    home: Any = owner.__module__  # a class may define it as anything
    return home if isinstance(home, str) else ""
