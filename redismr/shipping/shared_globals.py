"""The globals and classes of a job's scripts, which all pickles of the job share.

All functions of a script share one dict of globals, whichever pickle they were in. A class of a
script that no function uses has a pickle of its own, which is loaded when the class is asked for.
"""

import pickle
import sys
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from types import FunctionType, ModuleType
from typing import Any

from redismr.errors import CodeError


class ScriptNamespaces:
    """The globals and classes of the scripts of one job."""

    def __init__(self, packed_classes: Mapping[str, Mapping[str, bytes]]) -> None:
        self.classes: dict[str, dict[str, type]] = {}  #: Script -> name -> class that is loaded.
        #: Script -> name -> pickle of a class that the job's functions do not use.
        self._packed_classes = packed_classes
        self.globals_of_script: dict[str, dict[str, Any]] = {}

    def loads(self, data: bytes, count: int = 1) -> list[Any]:
        """Return ``count`` objects, in the order in which they were dumped."""
        unpickler = _Unpickler(self, data)
        return [unpickler.load() for _ in range(count)]

    def expose_classes(self) -> None:
        """Let plain pickle find the scripts' classes by name, loaded or not."""
        for module, classes in self.classes.items():
            if not classes and not self._packed_classes.get(module):
                continue  # multiprocessing makes one module of this script and another here
            module_vars = vars(sys.modules.setdefault(module, ModuleType(module)))
            module_vars.update(classes)
            module_vars["__getattr__"] = partial(self.get_script_class, module)

    def get_script_class(self, module: str, name: str) -> Any:
        """Return a class of a script; AttributeError if there was none, or it could not be sent."""
        classes = self.classes.setdefault(module, {})
        if name not in classes:
            data = self._packed_classes.get(module, {}).get(name)
            if data is None:
                raise AttributeError(f"module {module!r} has no attribute {name!r}")
            try:
                self.loads(data)
            except Exception as error:
                classes.pop(name, None)
                raise CodeError(
                    f"the class {name} of the submitter's script cannot be made again here: "
                    f"{type(error).__name__}: {error}"
                ) from error
        return classes[name]


# Functions that pickles name; the unpickler passes the job's namespaces to all but the last.


def make_script_function(
    namespaces: ScriptNamespaces, script: str, make: Callable[..., Any], parts: tuple[Any, ...]
) -> Any:
    """Return a function with the shared globals of its script."""
    code, names, *others = parts
    script_globals = namespaces.globals_of_script.setdefault(script, {})
    for name, value in names.items():
        script_globals.setdefault(name, value)
    return make(code, script_globals, *others)


def get_script_class(namespaces: ScriptNamespaces, module: str, name: str) -> Any:
    """Return a class of a script."""
    return namespaces.get_script_class(module, name)


def make_script_class(
    namespaces: ScriptNamespaces, module: str, name: str, make: Callable[..., Any], parts: Any
) -> Any:
    """Make a class and register it before it is filled: other classes may refer to it."""
    cls = namespaces.classes.setdefault(module, {})[name] = make(*parts)
    return cls


def set_function_state(function: FunctionType, state: tuple[Callable[..., Any], Any]) -> None:
    """Set the state of a function, but no global that the script has here already.

    The first value of a global stays: initfn may have changed it since.
    """
    set_state, (attributes, members) = state
    values = members.get("__globals__", {})
    new_values = {name: values[name] for name in values if name not in function.__globals__}
    set_state(function, (attributes, members | {"__globals__": new_values}))


class _Unpickler(pickle.Unpickler):
    def __init__(self, script_namespaces: ScriptNamespaces, data: bytes) -> None:
        super().__init__(BytesIO(data))
        self._script_namespaces = script_namespaces

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module == __name__ and found is not set_function_state:
            return partial(found, self._script_namespaces)
        return found
