"""The pickler of a job's functions and classes, which also lists what they refer to."""

import io
import sys
from types import CodeType, FunctionType, ModuleType
from typing import Any

from redismr.confidential import SECRET_REMEDY, NotSendable, contains_secret
from redismr.core import pickle_by_value
from redismr.core.pickle_by_value import BY_VALUE_MODULES, ReducedValue
from redismr.shipping import shared_globals
from redismr.shipping.modules import imported_names_in_code
from redismr.shipping.source_redaction import HOLDS_SECRET


class References:
    """The modules, code and scripts that a pickle refers to."""

    def __init__(self) -> None:
        self.module_names: set[str] = set()  #: Dotted names that may be modules.
        self.code_objects: set[CodeType] = set()  #: Of functions: tracebacks may show their lines.
        self.uses_scripts = False  #: True if the pickle holds anything that a script defines.
        self.class_ids: set[int] = set()  #: ``id`` of each class of a script in the pickle.
        #: Script -> names of its globals that the pickle holds.
        self.script_globals: dict[str, set[str]] = {module: set() for module in BY_VALUE_MODULES}

    def add(self, obj: object) -> None:
        """Add the module that a function, class or module comes from, and a function's imports."""
        self.module_names.add(module_name_of(obj))
        if isinstance(obj, FunctionType):
            package = obj.__globals__.get("__package__") or ""
            self.module_names.update(imported_names_in_code(obj.__code__, package))
            self.code_objects.add(obj.__code__)


class CodePickler(pickle_by_value.ByValuePickler):
    """Pickles by value what no worker can import, and lists in ``references`` what was pickled.

    With ``only_class``, a class of a script, the pickle holds that class alone: the script's other
    classes go by name, and globals that ``sent`` lists are left out.
    """

    def __init__(self, only_class: type | None = None, sent: References | None = None) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file)
        self.references = References()
        self._only_class, self._sent = only_class, sent

    def reducer_override(self, obj: Any) -> ReducedValue:
        """Note what an object refers to, and reduce it."""
        self.references.add(obj)
        return super().reducer_override(obj)

    def packed(self) -> bytes:
        """Return the pickles of all dumped objects, one after another; NotSendable for secrets."""
        pickled = self._file.getvalue()
        if contains_secret(pickled):
            raise NotSendable("what is sent", HOLDS_SECRET, SECRET_REMEDY)
        return pickled

    def reduce_class(self, cls: type, reduced: ReducedValue) -> ReducedValue:
        """Reduce a class by value; by name if it is a script's class beside ``only_class``."""
        if self._only_class is not None and cls is not self._only_class and is_script_class(cls):
            return shared_globals.get_script_class, (cls.__module__, cls.__qualname__)
        if cls.__module__ in BY_VALUE_MODULES:
            self.references.uses_scripts = True
            self.references.class_ids.add(id(cls))
        make, parts, *others = super().reduce_class(cls, reduced)
        if cls is self._only_class:
            parts = cls.__module__, cls.__qualname__, make, parts
            make = shared_globals.make_script_class
        return make, parts, *others

    def reduce_function(self, function: FunctionType, reduced: ReducedValue) -> ReducedValue:
        """Reduce a function by value; functions of a script share one dict of globals again."""
        reduced = super().reduce_function(function, reduced)
        script_globals = function.__globals__
        script = next((m for m in BY_VALUE_MODULES if module_namespace(m) is script_globals), None)
        if script is None:
            return reduced
        make, parts, (attributes, members), *others, set_state = reduced
        values = members.get("__globals__", {})
        if self._sent is not None:
            sent_names = self._sent.script_globals[script]
            values = {name: value for name, value in values.items() if name not in sent_names}
        self.references.uses_scripts = True
        self.references.script_globals[script].update(values)
        parts = script, make, parts
        state = set_state, (attributes, members | {"__globals__": values})
        set_state = shared_globals.set_function_state
        return shared_globals.make_script_function, parts, state, *others, set_state


def dump_with_references(obj: object) -> tuple[bytes, References]:
    """Return the pickle of one object, and what it refers to."""
    pickler = CodePickler()
    pickler.dump(obj)
    return pickler.packed(), pickler.references


def pickle_error_of(obj: object) -> Exception | None:
    """Return the error that pickling an object by value raises; None if there is none."""
    try:
        dump_with_references(obj)
    except Exception as error:  # noqa: BLE001 - a __reduce__ may raise anything
        return error
    return None


def is_script_class(cls: type) -> bool:
    """True if plain pickle would look a class up by its name in a script."""
    module: Any = cls.__module__
    return module in BY_VALUE_MODULES and module_namespace(module).get(cls.__qualname__) is cls


def module_namespace(module: str) -> dict[str, Any]:
    """Return the names of a module; an empty dict if the module is not loaded."""
    return vars(sys.modules[module]) if module in sys.modules else {}


def module_name_of(obj: Any) -> str:
    """Return the name of the module that a module, function, class or instance comes from."""
    obj_type = type(obj)  # isinstance would ask a proxy for its class, which may raise
    if issubclass(obj_type, ModuleType):
        return str(obj.__name__)
    owner = obj if issubclass(obj_type, (FunctionType, type)) else obj_type
    name: Any = owner.__module__  # a class may set it to anything
    return name if isinstance(name, str) else ""
