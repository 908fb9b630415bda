"""The submitter's side: functions, and what they need to run, as bytes.

What no worker can import (``__main__``, a job file, lambdas, closures) goes by value through
cloudpickle, all in one pickle, so that functions go on sharing their globals and classes. Local
modules go as sources and their functions by name. Installed packages must be on the worker.
"""

from __future__ import annotations

import hashlib
import linecache
import os
import pickle
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from types import CodeType
from typing import Any

import cloudpickle

from redismr.advice import advise
from redismr.confidential import Kept
from redismr.core.byvalue import BY_VALUE
from redismr.errors import CodeError
from redismr.fresh import is_local
from redismr.shipping.blame import largest, reason
from redismr.shipping.changed import changed
from redismr.shipping.discreet import lines_to_show, without_secrets
from redismr.shipping.modules import ModuleSource, imported_names
from redismr.shipping.pickler import (
    Needs,
    Pickler,
    dump,
    fault,
    home_of,
    in_script,
    namespace,
)

FORMAT = 2
WARN_BYTES = 10_000_000

_PROTOCOL = 5
_FUNCTION_WAY_OUT = (
    "Open or make it in initfn, or inside the function, so that every worker has its own"
)
_PARAM_WAY_OUT = (
    "Pass what it is made from, and make it in initfn, so that every worker has its own"
)


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a job's workers need, as two payloads to be sealed.

    ``digest`` names both: equal for equal functions and params packed twice by one process, so that
    an executor that has loaded them can go on with the next job. With other params it cannot: the
    functions may have kept what they made of the first ones, in a cache or a global. ``names`` are
    those of the modules that both refer to.
    """

    code: bytes
    params: bytes
    digest: str
    names: frozenset[str] = frozenset()


def pack(functions: Mapping[str, Any], params: Mapping[str, Any] | None = None) -> Parcel:
    """All that ``load`` needs to make the same functions elsewhere. Imports nothing.

    What the program has changed in local modules since they were loaded comes with them.

    Args:
        functions: what it is (mapfn, reducefn ...) -> callable, name of a reducer, or None.
        params: what ``redismr.param`` will answer.

    Raises:
        CodeError: something does not pickle; names the function, the variable in it, its type.
    """
    functions, params = dict(functions), dict(params or {})
    with _scripts_by_value():
        packed_params, needs = _dump_params(params)
        main = _dump_functions(functions)
        seen = needs.names | main.needs.names
        unused = _dump_unused(main.needs, needs)
        names = seen | needs.names | _names_in_scripts()
        state = changed(names, _script_folders(), lambda: seen)
        main.dump(state.scripts)
        used = {module: _classes_of(module, main.needs.classes) for module in BY_VALUE}
        main.dump(used)
        pickled = main.packed()
        if len(pickled) > WARN_BYTES:
            _warn_of_size("functions", len(pickled), functions)
        if len(packed_params) > WARN_BYTES:
            _warn_of_size("params", len(packed_params), params)
        if (size := sum(map(len, state.packed.values()))) > WARN_BYTES:
            _warn_of_size("changed modules", size, state.values)
    modules = without_secrets(state.modules)
    codes = main.needs.codes | needs.codes | state.codes
    code = pickle.dumps(
        {
            "format": FORMAT,
            "modules": {name: astuple(module) for name, module in modules.items()},
            "sources": _sources(codes, modules),
            "pickle": pickled,
            "classes": unused,
            "state": state.packed,
        },
        _PROTOCOL,
    )
    return Parcel(code, packed_params, digest_of(code, packed_params), frozenset(seen))


def digest_of(code: bytes, params: bytes) -> str:
    """The name of a job's code and params together."""
    return hashlib.sha256(len(code).to_bytes(8, "big") + code + params).hexdigest()


def _dump_functions(functions: dict[str, Any]) -> Pickler:
    main = Pickler()
    try:
        main.dump(functions)
        main.packed()  # refuses a secret, while its name can be told
    except Exception:
        _refuse_bad(functions.items(), _FUNCTION_WAY_OUT)
        raise
    return main


def _dump_params(params: dict[str, Any]) -> tuple[bytes, Needs]:
    try:
        return dump(params)
    except Exception:
        _refuse_bad(((f"params[{k!r}]", value) for k, value in params.items()), _PARAM_WAY_OUT)
        raise


def _dump_unused(sent: Needs, needs: Needs) -> dict[str, dict[str, bytes]]:
    """The scripts' classes that no function uses, each by itself: records may be of them.

    Those that do not pickle stay behind. Adds to ``needs`` what they need.
    """
    packed: dict[str, dict[str, bytes]] = {module: {} for module in BY_VALUE}
    for module, found in packed.items():
        for name, cls in _classes_of(module).items():
            if id(cls) in sent.classes:
                continue
            pickler = Pickler(cls, sent)
            with suppress(Exception):  # whatever a __reduce__ raises
                pickler.dump(cls)
                found[name] = pickler.packed()
                needs.names |= pickler.needs.names
                needs.codes |= pickler.needs.codes
    return packed


def _refuse_bad(named: Iterable[tuple[str, Any]], way_out: str) -> None:
    for name, thing in named:
        error = fault(thing)
        if error is not None:
            if isinstance(error, Kept):
                way_out = error.way_out
            raise CodeError(
                f"{name} cannot be sent to workers: {reason(thing, error, fault)}. {way_out}."
            ) from error


def _warn_of_size(what: str, size: int, parts: Mapping[str, Any]) -> None:
    name, share = largest(parts, lambda thing: len(dump(thing)[0]))
    advise(
        f"the {what} of this job take {size / 1e6:.0f} MB, which every executor must read; the "
        f"largest part is {name}, {share / 1e6:.0f} MB. Better load it in initfn, or make it part "
        "of the input."
    )


# register_pickle_by_value, which scripts need, is global to the process: one packs at a time.
_packing = threading.RLock()


@contextmanager
def _scripts_by_value() -> Iterator[None]:
    """All scripts by value: cloudpickle treats ``__main__`` so of itself."""
    with _packing:
        scripts = [module for name in BY_VALUE[1:] if (module := sys.modules.get(name))]
        for module in scripts:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in scripts:
                cloudpickle.unregister_pickle_by_value(module)


def _classes_of(module: str, among: set[int] | None = None) -> dict[str, type]:
    """The classes that plain pickle would look up in that script by their names."""
    return {
        name: value
        for name, value in sorted(namespace(module).items())
        if isinstance(value, type) and name == value.__qualname__ and in_script(value)
        if value.__module__ == module and (among is None or id(value) in among)
    }


def _names_in_scripts() -> set[str]:
    """Modules that scripts import, by their source if there is one and by what they hold."""
    names: set[str] = set()
    for script in BY_VALUE:
        space = namespace(script)
        names.update(map(home_of, list(space.values())))
        file = space.get("__file__")
        if file is not None:
            source = "".join(linecache.getlines(file))
            names.update(imported_names(source, space.get("__package__") or ""))
    return names


def _script_folders() -> list[str]:
    files = [namespace(script).get("__file__") for script in BY_VALUE]
    return [os.path.dirname(os.path.abspath(file)) for file in files if file]


def _sources(codes: Iterable[CodeType], modules: Mapping[str, ModuleSource]) -> dict[str, str]:
    """The lines of by-value functions, so that their tracebacks show them anywhere."""
    shipped = {module.path for module in modules.values()}
    return lines_to_show(codes, lambda file: file not in shipped and is_local(file))
