"""The submitter's side: a job's functions, and what they need to run, become bytes.

Objects that no worker can import (of ``__main__`` or a job file, lambdas, closures) go by value
through cloudpickle, in one pickle, so that functions still share their globals and classes. Local
modules go as sources, their functions by name. Installed packages must be on the worker.
"""

import hashlib
import linecache
import os
import pickle
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from typing import Any

import cloudpickle

from redismr.confidential import NotSendable
from redismr.core.pickle_by_value import BY_VALUE_MODULES, PICKLE_PROTOCOL
from redismr.errors import CodeError
from redismr.shipping.code_pickler import (
    CodePickler,
    References,
    dump_with_references,
    is_script_class,
    module_name_of,
    module_namespace,
    pickle_error_of,
)
from redismr.shipping.module_changes import collect_local_modules
from redismr.shipping.modules import imported_names
from redismr.shipping.pickle_diagnosis import explain_pickle_error, largest_part
from redismr.shipping.source_redaction import redact_modules, traceback_lines
from redismr.user_warnings import warn_user

CODE_FORMAT = 4
WARN_CODE_BYTES = 10_000_000

_FUNCTION_ADVICE = (
    "Open or make it in initfn, or inside the function, so that every worker has its own"
)
_PARAM_ADVICE = "Pass what it is made from, and make it in initfn, so that every worker has its own"


@dataclass(frozen=True, slots=True)
class PackedCode:
    """Two payloads to be sealed, from which workers make a job's functions and params."""

    code: bytes
    params: bytes
    digest: str
    """Names both payloads. Equal functions and params that one process packs twice have equal
    digests, so that an executor that has loaded them can serve both jobs. Other params have another
    digest: the functions may have kept results of the first params in a cache or a global."""
    module_names: frozenset[str] = frozenset()  #: Names of functions and params; may be modules.


def pack(functions: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> PackedCode:
    """Return the code from which ``load_code`` makes the same functions. Imports nothing.

    Values that the program has changed in local modules since their load are sent with them.
    ``functions`` maps a role (mapfn, reducefn ...) to a callable, the name of a reducer, or None.

    Raises:
        CodeError: an object does not pickle; names the function, the variable and its type.
    """
    functions, params, main_pickler = dict(functions), dict(params or {}), CodePickler()
    sent = main_pickler.references
    with _scripts_by_value():
        with _name_unpicklable(
            ((f"params[{name!r}]", param) for name, param in params.items()), _PARAM_ADVICE
        ):
            packed_params, references = dump_with_references(params)
        with _name_unpicklable(functions.items(), _FUNCTION_ADVICE):
            main_pickler.dump(functions)
            main_pickler.packed()  # refuses a secret while the function that holds it is known
        referenced_names = references.module_names | sent.module_names
        unused_classes = _dump_unused_classes(sent, references)
        names = referenced_names | references.module_names | _module_names_in_scripts()
        files = [module_namespace(script).get("__file__") for script in BY_VALUE_MODULES]
        folders = [os.path.dirname(os.path.abspath(file)) for file in files if file]
        local_modules = collect_local_modules(names, folders, referenced_names)
        main_pickler.dump(local_modules.deferred)
        main_pickler.dump({s: _script_classes(s, sent.class_ids) for s in BY_VALUE_MODULES})
        pickled = main_pickler.packed()
        changes_bytes = sum(map(len, local_modules.packed_changes.values()))
        _warn_if_large("functions", len(pickled), functions)
        _warn_if_large("params", len(packed_params), params)
        _warn_if_large("changed modules", changes_bytes, local_modules.changed_values)
    shipped_modules = redact_modules(local_modules.modules)
    code_objects = sent.code_objects | references.code_objects | local_modules.code_objects
    code = pickle.dumps(
        {
            "format": CODE_FORMAT,
            "modules": {name: astuple(module) for name, module in shipped_modules.items()},
            "sources": traceback_lines(code_objects, shipped_modules),
            "pickle": pickled,
            "classes": unused_classes,
            "state": local_modules.packed_changes,
        },
        PICKLE_PROTOCOL,
    )
    digest = digest_code(code, packed_params)
    return PackedCode(code, packed_params, digest, frozenset(referenced_names))


def digest_code(code: bytes, params: bytes) -> str:
    """Return the digest that names a job's code and params together."""
    return hashlib.sha256(len(code).to_bytes(8, "big") + code + params).hexdigest()


@contextmanager
def _name_unpicklable(objects: Iterable[tuple[str, Any]], advice: str) -> Iterator[None]:
    """Raise CodeError for the first object that does not pickle, if the body raises an error."""
    try:
        yield
    except Exception:
        for name, obj in objects:
            error = pickle_error_of(obj)
            if error is not None:
                if isinstance(error, NotSendable):
                    advice = error.remedy
                why = explain_pickle_error(obj, error, pickle_error_of)
                raise CodeError(f"{name} cannot be sent to workers: {why}. {advice}.") from error
        raise


def _dump_unused_classes(sent: References, references: References) -> dict[str, dict[str, bytes]]:
    """Pickle each class of the scripts that no function uses: records may be instances of it.

    Classes that do not pickle are left out. Adds to ``references`` what the classes refer to.
    """
    packed: dict[str, dict[str, bytes]] = {module: {} for module in BY_VALUE_MODULES}
    for module, packed_classes in packed.items():
        for name, cls in _script_classes(module).items():
            if id(cls) in sent.class_ids:
                continue
            pickler = CodePickler(cls, sent)
            with suppress(Exception):  # a __reduce__ may raise anything
                pickler.dump(cls)
                packed_classes[name] = pickler.packed()
                references.module_names |= pickler.references.module_names
                references.code_objects |= pickler.references.code_objects
    return packed


def _warn_if_large(payload: str, size: int, parts: Mapping[str, Any]) -> None:
    if size <= WARN_CODE_BYTES:
        return
    name, part_size = largest_part(parts, lambda obj: len(dump_with_references(obj)[0]))
    warn_user(
        f"the {payload} of this job take {size / 1e6:.0f} MB, which every executor must read; the "
        f"largest part is {name}, {part_size / 1e6:.0f} MB. Better load it in initfn, or make it "
        "part of the input."
    )


# register_pickle_by_value, which scripts need, acts on the whole process: one thread packs at once.
_pack_lock = threading.RLock()


@contextmanager
def _scripts_by_value() -> Iterator[None]:
    """Have cloudpickle send all scripts by value; for ``__main__`` it does so by default."""
    with _pack_lock:
        scripts = [module for name in BY_VALUE_MODULES[1:] if (module := sys.modules.get(name))]
        for module in scripts:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in scripts:
                cloudpickle.unregister_pickle_by_value(module)


def _script_classes(module: str, only_ids: set[int] | None = None) -> dict[str, type]:
    """Return name -> class for the classes that plain pickle looks up by name in a script."""
    return {
        name: value
        for name, value in sorted(module_namespace(module).items())
        if isinstance(value, type) and name == value.__qualname__ and is_script_class(value)
        if value.__module__ == module and (only_ids is None or id(value) in only_ids)
    }


def _module_names_in_scripts() -> set[str]:
    """Return names that may be modules: from the globals and sources of the scripts."""
    names: set[str] = set()
    for script in BY_VALUE_MODULES:
        script_globals = module_namespace(script)
        names.update(map(module_name_of, list(script_globals.values())))
        if (file := script_globals.get("__file__")) is not None:
            source = "".join(linecache.getlines(file))
            names.update(imported_names(source, script_globals.get("__package__") or ""))
    return names
