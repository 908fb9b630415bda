"""What the pickles of one job share where they are loaded: the scripts' globals and classes.

A function of a script has the globals of that script, in whichever pickle it came; a class of a
script that no function uses is a pickle of its own, loaded when somebody asks for it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from io import BytesIO
from types import FunctionType
from typing import Any

from redismr.errors import CodeError


def make_script_function(script: str, make: Callable[..., Any], parts: tuple[Any, ...]) -> Any:
    """Stands in pickles for ``ScriptNamespaces.make_script_function``."""
    raise NotImplementedError


def get_script_class(module: str, name: str) -> Any:
    """Stands in pickles for ``ScriptNamespaces.get_script_class``."""
    raise NotImplementedError


def make_script_class(
    module: str, name: str, make: Callable[..., Any], parts: tuple[Any, ...]
) -> Any:
    """Stands in pickles for ``ScriptNamespaces.make_script_class``."""
    raise NotImplementedError


def set_function_state(function: FunctionType, state: tuple[Callable[..., Any], Any]) -> None:
    """Set the state of a function, but no global that its script has here already.

    The first value counts, since initfn may have set it anew.
    """
    set_state, (attributes, members) = state
    found = members.get("__globals__", {})
    found = {name: found[name] for name in found if name not in function.__globals__}
    set_state(function, (attributes, members | {"__globals__": found}))


class ScriptNamespaces:
    """The scripts' globals and classes as one job has them.

    ``packed_classes``: by module and name, the pickles of classes that its functions do not use.
    """

    def __init__(self, packed_classes: Mapping[str, Mapping[str, bytes]]) -> None:
        self.classes: dict[str, dict[str, type]] = {}
        self._packed_classes = packed_classes
        self._globals_of_script: dict[str, dict[str, Any]] = {}

    def loads(self, data: bytes, count: int = 1) -> list[Any]:
        """So many objects, in the order in which they were dumped."""
        unpickler = _Unpickler(self, data)
        return [unpickler.load() for _ in range(count)]

    def make_script_function(
        self, script: str, make: Callable[..., Any], parts: tuple[Any, ...]
    ) -> Any:
        """A function among the globals of its script."""
        code, names, *others = parts
        script_globals = self._globals_of_script.setdefault(script, {})
        for name, value in names.items():
            script_globals.setdefault(name, value)
        return make(code, script_globals, *others)

    def has_classes(self, module: str) -> bool:
        """Whether that script has any."""
        return bool(self.classes.get(module) or self._packed_classes.get(module))

    def get_script_class(self, module: str, name: str) -> Any:
        """A class of a script.

        Raises:
            AttributeError: the script had none of that name, or it could not be sent.
            CodeError: it cannot be made again here.
        """
        found = self.classes.setdefault(module, {})
        if name not in found:
            data = self._packed_classes.get(module, {}).get(name)
            if data is None:
                raise AttributeError(f"module {module!r} has no attribute {name!r}")
            try:
                self.loads(data)
            except Exception as error:
                found.pop(name, None)
                raise CodeError(
                    f"the class {name} of the submitter's script cannot be made again here: "
                    f"{type(error).__name__}: {error}"
                ) from error
        return found[name]

    def make_script_class(
        self, module: str, name: str, make: Callable[..., Any], parts: tuple[Any, ...]
    ) -> Any:
        """The class of a pickle of its own, known before it is filled: others may refer to it."""
        cls = self.classes.setdefault(module, {})[name] = make(*parts)
        return cls


class _Unpickler(pickle.Unpickler):
    def __init__(self, script_namespaces: ScriptNamespaces, data: bytes) -> None:
        super().__init__(BytesIO(data))
        self._script_namespaces = script_namespaces

    def find_class(self, module: str, name: str) -> Any:
        if module == __name__ and name != set_function_state.__name__:
            return getattr(self._script_namespaces, name)
        return super().find_class(module, name)
