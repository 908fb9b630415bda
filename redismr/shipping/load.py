"""The worker's side: packed code becomes functions again, with the modules that they need.

Callers pass only bytes whose seal was checked: loading runs the code in them.
"""

import importlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from redismr.errors import CodeError, RunawayJob
from redismr.process_guards import loading_job_code
from redismr.shipping.importer import JobImporter, cache_source_lines, install_importer
from redismr.shipping.modules import ModuleSource
from redismr.shipping.pack import CODE_FORMAT, digest_code
from redismr.shipping.shared_globals import ScriptNamespaces


@dataclass(frozen=True, slots=True)
class LoadedCode:
    """A job's functions and params in this process."""

    functions: Mapping[str, Any]
    params: Mapping[str, Any]
    script_namespaces: ScriptNamespaces
    digest: str
    """The digest of the packed code."""

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
            try:
                with loading_job_code():
                    cls = self.script_namespaces.get_script_class(module, first)
            except AttributeError:
                cls = None
            if cls is None:
                raise
            return attrgetter(rest)(cls) if rest else cls


def load_code(code: bytes, params: bytes = b"", *, worker: bool = True) -> LoadedCode:
    """Return the functions and params that were packed, and make their modules importable here.

    On a worker, shipped modules come before installed ones, and classes of the submitter's script
    become attributes of this process's ``__main__``, where plain pickle looks for them. The script
    itself never runs. For a reader of results (``worker=False``) this process's own modules and
    classes come first; the reader finds the job's by ``find_class``. Only the modules of the last
    loaded job are importable.

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
        script_namespaces.expose_classes()
    return LoadedCode(
        functions, load_params(params, worker=worker), script_namespaces, digest_code(code, params)
    )


def load_params(params: bytes, *, worker: bool = True) -> dict[str, Any]:
    """Return the params of one more job whose code is loaded already.

    Raises:
        CodeError: as ``load_code``.
    """
    if not params:
        return {}
    with _explain_load_errors(), loading_job_code(all_threads=worker):
        return dict(ScriptNamespaces({}).loads(params)[0])


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
        raise CodeError(
            f"the job's code does not load here: {type(error).__name__}: {error}"
        ) from error
