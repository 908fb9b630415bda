"""The worker's side: packed code as live functions, among the modules they need.

Call with bytes whose seal was checked, never with others: loading runs what they say.
"""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from redismr.errors import CodeError, RunawayJob
from redismr.process_guards import loading_job_code
from redismr.shipping.importer import JobImporter, cache_source_lines, install_importer
from redismr.shipping.modules import ModuleSource
from redismr.shipping.pack import CODE_FORMAT, digest_code
from redismr.shipping.shared_globals import ScriptNamespaces


@dataclass(frozen=True, slots=True)
class LoadedCode:
    """A job's functions and params, live in this process. ``digest`` is that of its packed code."""

    functions: Mapping[str, Any]
    params: Mapping[str, Any]
    script_namespaces: ScriptNamespaces
    digest: str

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle means by ``module.name``: this process's own if it has it, else the job's.

        Raises:
            AttributeError, ImportError: neither has it.
            CodeError: the job's cannot be made again here.
        """
        try:
            with loading_job_code():
                loaded_module = importlib.import_module(module)
            return _get_dotted(loaded_module, name)
        except (ImportError, AttributeError):
            first, _, rest = name.partition(".")
            try:
                with loading_job_code():
                    cls = self.script_namespaces.get_script_class(module, first)
            except AttributeError:
                cls = None
            if cls is None:
                raise
            return _get_dotted(cls, rest)


def load_code(code: bytes, params: bytes = b"", *, worker: bool = True) -> LoadedCode:
    """The functions and params that were packed, with their modules importable here.

    A worker takes the job's namespaces first: shipped modules come before installed ones, and
    classes
    of the submitter's script become attributes of this process's ``__main__``, where plain pickle
    looks for them. The script itself never runs. A reader of results (``worker=False``) keeps
    its own namespaces first, and reads with ``find_class``. One job's modules are served at a time.

    Raises:
        CodeError: a module is missing here, or the code does not load; names it.
        RunawayJob: a module starts a job as it is imported.
    """
    packed_code = pickle.loads(code)
    if packed_code["format"] != CODE_FORMAT:
        raise CodeError(
            f"the job's code has format {packed_code['format']}, this redismr reads {CODE_FORMAT}: both "  # noqa: E501
            "sides need the same version of redismr"
        )
    modules = {name: ModuleSource(*parts) for name, parts in packed_code["modules"].items()}
    if worker:
        cache_source_lines(
            {m.path: m.source for m in modules.values() if m.path} | packed_code["sources"]
        )
    script_namespaces = ScriptNamespaces(packed_code["classes"])
    importer = JobImporter(modules, packed_code["state"], script_namespaces)
    install_importer(importer, take_precedence=worker)
    with _explain_load_errors(), loading_job_code(all_threads=worker):
        functions, deferred, classes = script_namespaces.loads(packed_code["pickle"], 3)
        importer.apply_deferred(deferred)
    script_namespaces.classes |= classes
    if worker:
        _expose_script_classes(script_namespaces)
    return LoadedCode(
        functions, load_params(params, worker=worker), script_namespaces, digest_code(code, params)
    )


def load_params(params: bytes, *, worker: bool = True) -> dict[str, Any]:
    """The params of one more job whose code ``load_code`` has loaded already.

    Raises:
        CodeError: as ``load_code``.
    """
    if not params:
        return {}
    with _explain_load_errors(), loading_job_code(all_threads=worker):
        return dict(ScriptNamespaces({}).loads(params)[0])


@contextmanager
def _explain_load_errors() -> Iterator[None]:
    """Say what is the matter where a pickle does not load."""
    try:
        yield
    except RunawayJob as error:
        # Of whichever job below this one: its class ends ours as well, at once.
        inner = getattr(error, "failure", None)
        again = RunawayJob(inner.message if inner else str(error))
        raise again.with_traceback(error.__traceback__) from None
    except ModuleNotFoundError as error:
        raise CodeError(
            f"the job needs the module {error.name!r}, which this machine does not have. Install "
            "it wherever a worker runs; only modules of your own travel with a job."
        ) from error
    except Exception as error:
        raise CodeError(
            f"the job's code does not load here: {type(error).__name__}: {error}"
        ) from error


def _expose_script_classes(script_namespaces: ScriptNamespaces) -> None:
    """Let plain pickle find the scripts' classes, those too that are not loaded yet."""
    for module, found in script_namespaces.classes.items():
        if not script_namespaces.has_classes(module):
            continue  # it may be one with another script here, as multiprocessing makes it
        module_vars = vars(sys.modules.setdefault(module, ModuleType(module)))
        module_vars.update(found)
        module_vars["__getattr__"] = partial(script_namespaces.get_script_class, module)


def _get_dotted(obj: Any, name: str) -> Any:
    for part in filter(None, name.split(".")):
        obj = getattr(obj, part)
    return obj
