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
from redismr.shipping.importer import JobImporter, install
from redismr.shipping.load import Loaded, load
from redismr.shipping.modules import ModuleSource
from redismr.shipping.world import World

_MOVED = {"pathlib._local": "pathlib"}
"""Where the others look for what one Python pickles under a module of its own: paths, of 3.13."""

_MAKERS = ("cloudpickle", "redismr.core.byvalue", "redismr.shipping.world")
"""Modules that make functions and classes of byte code."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """The code of ``job``, which runs on ``python`` only; in part what ``Loaded`` is."""

    job: str
    python: str

    @property
    def functions(self) -> Mapping[str, Any]:
        """None of them can be called here.

        Raises:
            CodeError: always.
        """
        self._refuse("has a finishfn, which only that Python can run")

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle means by ``module.name``, from this process and the job's local modules.

        Raises:
            CodeError: it is not here, or is made of byte code.
        """
        if module.startswith(_MAKERS):
            self._refuse("holds a function or a class by value")
        try:
            place = importlib.import_module(_MOVED.get(module, module))
            for part in name.split("."):
                place = getattr(place, part)
        except (ImportError, AttributeError) as error:
            words = "a class of its script" if module == "__main__" else "what is not here"
            self._refuse(f"names {module}.{name}, {words}", error)
        return place

    def _refuse(self, why: str, cause: BaseException | None = None) -> NoReturn:
        raise CodeError(
            f"the result of job {self.job} is of Python {self.python} and cannot be read by Python "
            f"{PYTHON}: it {why}. Read it with Python {self.python}, or let the job give plain "
            "values (str, int, tuple, list, dict)"
        ) from cause


def loaded_from(code: bytes, job: str, python: str) -> Loaded | Foreign:
    """What a reader of results needs of the code of a job that ran on ``python``.

    Call with bytes whose seal was checked.

    Raises:
        CodeError: it does not load here.
    """
    if python == PYTHON:
        return load(code, worker=False)
    modules = {name: ModuleSource(*parts) for name, parts in pickle.loads(code)["modules"].items()}
    # without what the submitter had changed in them: that may be byte code too
    install(JobImporter(modules, {}, World({})), first=False)
    return Foreign(job, python)
