"""The code of a job of another Python version, for a reader of the job's result.

The job's local modules are sent as source and can be imported. Functions and classes of its script
are sent as byte code, which differs between versions: running it could crash this process.
"""

import importlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NoReturn

from redismr.core.model import PYTHON
from redismr.errors import CodeError
from redismr.shipping.importer import JobImporter, install_importer
from redismr.shipping.load import LoadedCode, load_code
from redismr.shipping.modules import ModuleSource
from redismr.shipping.shared_globals import ScriptNamespaces

_RENAMED_MODULES = {"pathlib._local": "pathlib"}
"""Module in which one Python defines a class -> module that has it in all others (paths, 3.13)."""

_CODE_MAKING_MODULES = (
    "cloudpickle",
    "redismr.core.pickle_by_value",
    "redismr.shipping.shared_globals",
)
"""Modules with functions that pickles call to make functions and classes of byte code."""


@dataclass(frozen=True, slots=True)
class OtherPythonCode:
    """The code of a job of another Python, with the interface of ``LoadedCode``."""

    job: str
    python: str
    """The only Python version that can run the functions: ``3.13``."""

    @property
    def functions(self) -> Mapping[str, Any]:
        """Raise CodeError: no function can be called here."""
        self._raise_unreadable("has a finishfn, which only that Python can run")

    def find_class(self, module: str, name: str) -> Any:
        """Return the object ``module.name`` of this process or of the job's local modules.

        Raises:
            CodeError: the object is not here, or is made of byte code.
        """
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
    """Return the code of a job that ran on ``python``, for a reader of its results.

    Callers pass only bytes whose seal was checked.

    Raises:
        CodeError: the code does not load here.
    """
    if python == PYTHON:
        return load_code(code, worker=False)
    modules = {name: ModuleSource(*parts) for name, parts in pickle.loads(code)["modules"].items()}
    # The submitter's changes to the modules are left out: they may be byte code too.
    install_importer(JobImporter(modules, {}, ScriptNamespaces({})), take_precedence=False)
    return OtherPythonCode(job, python)
