"""The submitter's side: functions, and what they need to run, as bytes.

What no worker can import (``__main__``, a job file, lambdas, closures) goes by value through
cloudpickle, all in one pickle, so that functions go on sharing their globals and classes. Local
modules go as sources and their functions by name. Installed packages must be on the worker.
"""

from __future__ import annotations

import hashlib
import io
import linecache
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

from redismr.core import byvalue
from redismr.core.byvalue import BY_VALUE
from redismr.errors import CodeError
from redismr.shipping.blame import largest, reason
from redismr.shipping.modules import (
    ModuleSource,
    closure,
    imported_names,
    is_local,
    names_in_code,
)

FORMAT = 1
WARN_BYTES = 10_000_000

_MAX_SOURCE = 1 << 20
_PROTOCOL = 5
_FUNCTION_WAY_OUT = "Open or make it in initfn, or inside the function"
_PARAM_WAY_OUT = "Pass what it is made from, and make it in initfn"


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a job's workers need, as two payloads to be sealed.

    ``digest`` names both: equal for equal functions and params packed twice by one process, so that
    an executor that has loaded them can go on with the next job. With other params it cannot: the
    functions may have kept what they made of the first ones, in a cache or a global.
    """

    code: bytes
    params: bytes
    digest: str


def pack(functions: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Parcel:
    """All that ``load`` needs to make the same functions elsewhere. Imports nothing.

    Args:
        functions: what it is (mapfn, reducefn ...) -> callable, name of a reducer, or None.
        params: what ``redismr.param`` will answer.

    Raises:
        CodeError: something does not pickle; names the function, the variable in it, its type.
    """
    functions, params = dict(functions), dict(params or {})
    with _job_file_by_value():
        pickled, needs = _dump_functions(functions)
        packed_params, needs_of_params = _dump_params(params)
        if len(pickled) > WARN_BYTES:
            _warn_of_size("functions", len(pickled), functions)
        if len(packed_params) > WARN_BYTES:
            _warn_of_size("params", len(packed_params), params)
    names = needs.names | needs_of_params.names | _names_in_scripts()
    modules = closure(sorted(names), _script_folders())
    code = pickle.dumps(
        {
            "format": FORMAT,
            "modules": {name: astuple(module) for name, module in modules.items()},
            "sources": _sources(needs.files | needs_of_params.files, modules),
            "pickle": pickled,
        },
        _PROTOCOL,
    )
    return Parcel(code, packed_params, digest_of(code, packed_params))


def digest_of(code: bytes, params: bytes) -> str:
    """The name of a job's code and params together."""
    return hashlib.sha256(len(code).to_bytes(8, "big") + code + params).hexdigest()


class _Needs:
    """What a pickle refers to: names that may be modules, files whose lines it may show."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.files: set[str] = set()

    def note(self, thing: object) -> None:
        """Remember where a function, class or module that is being pickled comes from."""
        self.names.add(_home_of(thing))
        if isinstance(thing, FunctionType):
            package = thing.__globals__.get("__package__") or ""
            self.names.update(names_in_code(thing.__code__, package))
            self.files.add(thing.__code__.co_filename)


class _Pickler(byvalue.Pickler):
    """Tells what it met on the way."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.needs = _Needs()

    def reducer_override(self, obj: Any) -> Any:
        """Called by pickle for everything but plain data."""
        self.needs.note(obj)
        return super().reducer_override(obj)


def _dump(thing: object) -> tuple[bytes, _Needs]:
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(thing)
    return file.getvalue(), pickler.needs


def _dump_functions(functions: dict[str, Any]) -> tuple[bytes, _Needs]:
    """Functions and the scripts' classes in one pickle; classes that do not pickle stay behind."""
    classes = {module: _classes_of(module) for module in BY_VALUE}
    try:
        return _dump((functions, classes))
    except Exception:  # noqa: BLE001 - whatever a __reduce__ raises
        _refuse_bad(functions.items(), _FUNCTION_WAY_OUT)
    sound = {
        module: {name: cls for name, cls in found.items() if _fault(cls) is None}
        for module, found in classes.items()
    }
    return _dump((functions, sound))


def _dump_params(params: dict[str, Any]) -> tuple[bytes, _Needs]:
    try:
        return _dump(params)
    except Exception:
        _refuse_bad(((f"params[{k!r}]", value) for k, value in params.items()), _PARAM_WAY_OUT)
        raise


def _refuse_bad(named: Iterable[tuple[str, Any]], way_out: str) -> None:
    for name, thing in named:
        error = _fault(thing)
        if error is not None:
            raise CodeError(
                f"{name} cannot be sent to workers: {reason(thing, error, _fault)}. {way_out}, "
                "so that every worker has its own."
            ) from error


def _fault(thing: object) -> Exception | None:
    """What pickling it by value raises, None if nothing."""
    try:
        _dump(thing)
    except Exception as error:  # noqa: BLE001 - whatever a __reduce__ raises
        return error
    return None


def _warn_of_size(what: str, size: int, parts: Mapping[str, Any]) -> None:
    name, share = largest(parts, lambda thing: len(_dump(thing)[0]))
    warnings.warn(
        f"the {what} of this job take {size / 1e6:.0f} MB, which every executor must read; the "
        f"largest part is {name}, {share / 1e6:.0f} MB. Better load it in initfn, or make it part "
        "of the input.",
        stacklevel=3,
    )


# register_pickle_by_value, which job files need, is global to the process: one packs at a time.
_packing = threading.RLock()


@contextmanager
def _job_file_by_value() -> Iterator[None]:
    """A job file by value: cloudpickle treats ``__main__`` so of itself."""
    module = sys.modules.get("__jobfile__")
    with _packing:
        if module is None:
            yield
            return
        cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            cloudpickle.unregister_pickle_by_value(module)


def _classes_of(module: str) -> dict[str, type]:
    """The classes that plain pickle would look up in that module by their names."""
    return {
        name: value
        for name, value in sorted(_namespace(module).items())
        if isinstance(value, type) and value.__module__ == module and value.__qualname__ == name
    }


def _names_in_scripts() -> set[str]:
    """Modules that scripts import, by their source if there is one and by what they hold."""
    names: set[str] = set()
    for script in BY_VALUE:
        namespace = _namespace(script)
        names.update(map(_home_of, namespace.values()))
        file = namespace.get("__file__")
        if file is not None:
            source = "".join(linecache.getlines(file))
            names.update(imported_names(source, namespace.get("__package__") or ""))
    return names


def _home_of(thing: object) -> str:
    """The module that a module, function, class or instance comes from."""
    if isinstance(thing, ModuleType):
        return thing.__name__
    owner = thing if isinstance(thing, (FunctionType, type)) else type(thing)
    home: Any = owner.__module__  # a class may define it as anything
    return home if isinstance(home, str) else ""


def _script_folders() -> list[str]:
    files = [_namespace(script).get("__file__") for script in BY_VALUE]
    return [os.path.dirname(os.path.abspath(file)) for file in files if file]


def _namespace(module: str) -> dict[str, Any]:
    return dict(vars(sys.modules[module])) if module in sys.modules else {}


def _sources(files: set[str], modules: Mapping[str, ModuleSource]) -> dict[str, str]:
    """The texts behind by-value functions, so that their tracebacks show lines anywhere."""
    shipped = {module.path for module in modules.values()}
    texts = {}
    for file in sorted(filter(is_local, files - shipped)):
        linecache.checkcache(file)
        text = "".join(linecache.getlines(file))
        if 0 < len(text) <= _MAX_SOURCE:
            texts[file] = text
    return texts
