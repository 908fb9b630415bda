"""Packed code becomes functions again, with the modules that they need, on workers and in readers.

Callers pass only bytes whose seal was checked: loading runs the code in them.
"""

import importlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NoReturn

from redismr.core import pickle_by_value
from redismr.core.model import PYTHON
from redismr.errors import CodeError, RunawayJob
from redismr.process_guards import loading_job_code
from redismr.shipping.importer import JobImporter, cache_source_lines, install_importer
from redismr.shipping.modules import ModuleSource
from redismr.shipping.pack import CODE_FORMAT, digest_code
from redismr.shipping.shared_globals import ScriptNamespaces

_RENAMED_MODULES = {"pathlib._local": "pathlib"}
"""Module in which one Python defines a class -> module that has it in all others (paths, 3.13)."""

_CODE_MAKING_MODULES = ("cloudpickle", pickle_by_value.__name__, ScriptNamespaces.__module__)
"""Modules with functions that pickles call to make functions and classes of byte code."""


@dataclass(frozen=True, slots=True)
class LoadedCode:
    """A job's functions and params in this process."""

    functions: Mapping[str, Any]
    params: Mapping[str, Any]
    script_namespaces: ScriptNamespaces
    digest: str  #: The digest of the packed code.

    def find_class(self, module: str, name: str) -> Any:
        """Return the object ``module.name``: this process's own if there is one, else the job's.

        Raises:
            AttributeError, ImportError: neither this process nor the job has it.
            CodeError: the job's class cannot be made again here.
        """
        try:
            with loading_job_code():
                loaded_module = importlib.import_module(module)
            return attrgetter(name)(loaded_module)
        except (ImportError, AttributeError):
            first, _, rest = name.partition(".")
            cls = None
            with suppress(AttributeError), loading_job_code():
                cls = self.script_namespaces.get_script_class(module, first)
            if cls is None:
                raise
            return attrgetter(rest)(cls) if rest else cls


def load_code(code: bytes, params: bytes = b"", *, worker: bool = True) -> LoadedCode:
    """Return the functions and params that were packed, and make their modules importable here.

    On a worker, shipped modules come before installed ones, and classes of the submitter's script
    become attributes of this process's ``__main__``, where plain pickle looks for them. The script
    itself never runs. For a reader of results this process's own modules and classes come first;
    the reader finds the job's by ``find_class``. Only the last loaded job's modules are importable.

    Raises:
        CodeError: a module is missing here, or the code does not load; the message names it.
        RunawayJob: a module starts a job while it is imported.
    """
    packed_code = pickle.loads(code)
    if packed_code["format"] != CODE_FORMAT:
        raise CodeError(
            f"the job's code has format {packed_code['format']}, this redismr reads "
            f"{CODE_FORMAT}: both sides need the same version of redismr"
        )
    modules = {name: ModuleSource(*parts) for name, parts in packed_code["modules"].items()}
    if worker:
        shipped_sources = {m.path: m.source for m in modules.values() if m.path}
        cache_source_lines(shipped_sources | packed_code["sources"])
    script_namespaces = ScriptNamespaces(packed_code["classes"])
    importer = JobImporter(modules, packed_code["state"], script_namespaces)
    install_importer(importer, take_precedence=worker)
    with _explain_load_errors(), loading_job_code(all_threads=worker):
        functions, deferred, classes = script_namespaces.loads(packed_code["pickle"], 3)
        importer.apply_deferred(deferred)
    script_namespaces.classes |= classes
    if worker:
        script_namespaces.expose_classes()
    loaded_params = load_params(params, worker=worker)
    return LoadedCode(functions, loaded_params, script_namespaces, digest_code(code, params))


def load_params(params: bytes, *, worker: bool = True) -> dict[str, Any]:
    """Return the params of one more job whose code is loaded already; raises as ``load_code``."""
    if not params:
        return {}
    with _explain_load_errors(), loading_job_code(all_threads=worker):
        return dict(ScriptNamespaces({}).loads(params)[0])


@dataclass(frozen=True, slots=True)
class OtherPythonCode:
    """The code of a job of another Python version, with the interface of ``LoadedCode``.

    The job's local modules came as source and can be imported. Functions and classes of its script
    came as byte code, which differs between versions: running it could crash this process.
    """

    job: str
    python: str  #: The only Python version that can run the functions: ``3.13``.

    @property
    def functions(self) -> Mapping[str, Any]:
        """Raise CodeError: no function can be called here."""
        self._raise_unreadable("has a finishfn, which only that Python can run")

    def find_class(self, module: str, name: str) -> Any:
        """Return the object ``module.name`` of this process or of the job's local modules."""
        if module.startswith(_CODE_MAKING_MODULES):
            self._raise_unreadable("holds a function or a class by value")
        try:
            return attrgetter(name)(importlib.import_module(_RENAMED_MODULES.get(module, module)))
        except (ImportError, AttributeError) as error:
            missing = "a class of its script" if module == "__main__" else "what is not here"
            self._raise_unreadable(f"names {module}.{name}, {missing}", error)

    def _raise_unreadable(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        raise CodeError(
            f"the result of job {self.job} is of Python {self.python} and cannot be read by Python "
            f"{PYTHON}: the result {reason}. Read it with Python {self.python}, or let the job "
            "give plain values (str, int, tuple, list, dict)"
        ) from cause


def load_for_reader(code: bytes, job: str, python: str) -> LoadedCode | OtherPythonCode:
    """Return the code of a job that ran on ``python``, for a reader; raises as ``load_code``."""
    if python == PYTHON:
        return load_code(code, worker=False)
    modules = {name: ModuleSource(*parts) for name, parts in pickle.loads(code)["modules"].items()}
    # The submitter's changes to the modules are left out: they may be byte code too.
    install_importer(JobImporter(modules, {}, ScriptNamespaces({})), take_precedence=False)
    return OtherPythonCode(job, python)


@contextmanager
def _explain_load_errors() -> Iterator[None]:
    """Turn the errors of loading a pickle into errors that say what to do."""
    try:
        yield
    except RunawayJob as error:
        # A job that the code started failed with it: the same error ends this job too, at once.
        inner = getattr(error, "failure", None)
        again = RunawayJob(inner.message if inner else str(error))
        raise again.with_traceback(error.__traceback__) from None
    except ModuleNotFoundError as error:
        raise CodeError(
            f"the job needs the module {error.name!r}, which this machine does not have. Install "
            "it wherever a worker runs; only modules of your own travel with a job."
        ) from error
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise CodeError(f"the job's code does not load here: {why}") from error
