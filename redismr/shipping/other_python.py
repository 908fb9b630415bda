"""What a job of another Python brought along, for who reads its result.

Its local modules, which travel as source, are imported. Functions and classes of its script travel
as byte code, which means something else here: running it could end this process.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from redismr.core.model import PYTHON
from redismr.errors import CodeError
from redismr.shipping.importer import JobImporter, install_importer
from redismr.shipping.load import LoadedCode, load_code
from redismr.shipping.modules import ModuleSource
from redismr.shipping.shared_globals import ScriptNamespaces

_RENAMED_MODULES = {"pathlib._local": "pathlib"}
"""Where the others look for what one Python pickles under a module of its own: paths, of 3.13."""

_CODE_MAKING_MODULES = (
    "cloudpickle",
    "redismr.core.pickle_by_value",
    "redismr.shipping.shared_globals",
)
"""Modules that make functions and classes of byte code."""


@dataclass(frozen=True, slots=True)
class OtherPythonCode:
    """The code of ``job``, which runs on ``python`` only; in part what ``LoadedCode`` is."""

    job: str
    python: str

    @property
    def functions(self) -> Mapping[str, Any]:
        """None of them can be called here.

        Raises:
            CodeError: always.
        """
        self._raise_unreadable("has a finishfn, which only that Python can run")

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle means by ``module.name``, from this process and the job's local modules.

        Raises:
            CodeError: it is not here, or is made of byte code.
        """
        if module.startswith(_CODE_MAKING_MODULES):
            self._raise_unreadable("holds a function or a class by value")
        try:
            found = importlib.import_module(_RENAMED_MODULES.get(module, module))
            for part in name.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError) as error:
            missing = "a class of its script" if module == "__main__" else "what is not here"
            self._raise_unreadable(f"names {module}.{name}, {missing}", error)
        return found

    def _raise_unreadable(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        raise CodeError(
            f"the result of job {self.job} is of Python {self.python} and cannot be read by Python "
            f"{PYTHON}: it {reason}. Read it with Python {self.python}, or let the job give plain "
            "values (str, int, tuple, list, dict)"
        ) from cause


def load_for_reader(code: bytes, job: str, python: str) -> LoadedCode | OtherPythonCode:
    """What a reader of results needs of the code of a job that ran on ``python``.

    Call with bytes whose seal was checked.

    Raises:
        CodeError: it does not load here.
    """
    if python == PYTHON:
        return load_code(code, worker=False)
    modules = {name: ModuleSource(*parts) for name, parts in pickle.loads(code)["modules"].items()}
    # without what the submitter had changed in them: that may be byte code too
    install_importer(JobImporter(modules, {}, ScriptNamespaces({})), take_precedence=False)
    return OtherPythonCode(job, python)
