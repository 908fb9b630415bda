"""The worker's side: a parcel as live functions, among the modules they need.

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
from redismr.processes import loading
from redismr.shipping.importer import JobImporter, install, show_lines
from redismr.shipping.modules import ModuleSource
from redismr.shipping.pack import FORMAT, digest_of
from redismr.shipping.world import World


@dataclass(frozen=True, slots=True)
class Loaded:
    """A job's functions and params, live in this process. ``digest`` is that of its parcel."""

    functions: Mapping[str, Any]
    params: Mapping[str, Any]
    world: World
    digest: str

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle means by ``module.name``: this process's own if it has it, else the job's.

        Raises:
            AttributeError, ImportError: neither has it.
            CodeError: the job's cannot be made again here.
        """
        try:
            with loading():
                home = importlib.import_module(module)
            return _walk(home, name)
        except (ImportError, AttributeError):
            first, _, rest = name.partition(".")
            try:
                with loading():
                    cls = self.world.class_of(module, first)
            except AttributeError:
                cls = None
            if cls is None:
                raise
            return _walk(cls, rest)


def load(code: bytes, params: bytes = b"", *, worker: bool = True) -> Loaded:
    """The functions and params that were packed, with their modules importable here.

    A worker takes the job's world first: shipped modules come before installed ones, and classes
    of the submitter's script become attributes of this process's ``__main__``, where plain pickle
    looks for them. The script itself never runs. A reader of results (``worker=False``) keeps
    its own world first, and reads with ``find_class``. One job's modules are served at a time.

    Raises:
        CodeError: a module is missing here, or the code does not load; names it.
        RunawayJob: a module starts a job as it is imported.
    """
    parcel = pickle.loads(code)
    if parcel["format"] != FORMAT:
        raise CodeError(
            f"the job's code has format {parcel['format']}, this redismr reads {FORMAT}: both "
            "sides need the same version of redismr"
        )
    modules = {name: ModuleSource(*parts) for name, parts in parcel["modules"].items()}
    if worker:
        show_lines({m.path: m.source for m in modules.values() if m.path} | parcel["sources"])
    world = World(parcel["classes"])
    importer = JobImporter(modules, parcel["state"], world)
    install(importer, first=worker)
    with _said(), loading(everywhere=worker):
        functions, late, classes = world.loads(parcel["pickle"], 3)
        importer.change(late)
    world.classes |= classes
    if worker:
        _adopt(world)
    return Loaded(functions, load_params(params, worker=worker), world, digest_of(code, params))


def load_params(params: bytes, *, worker: bool = True) -> dict[str, Any]:
    """The params of one more job whose code ``load`` has loaded already.

    Raises:
        CodeError: as ``load``.
    """
    if not params:
        return {}
    with _said(), loading(everywhere=worker):
        return dict(World({}).loads(params)[0])


@contextmanager
def _said() -> Iterator[None]:
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


def _adopt(world: World) -> None:
    """Let plain pickle find the scripts' classes, those too that are not loaded yet."""
    for module, found in world.classes.items():
        if not world.has_classes(module):
            continue  # it may be one with another script here, as multiprocessing makes it
        home = vars(sys.modules.setdefault(module, ModuleType(module)))
        home.update(found)
        home["__getattr__"] = partial(world.class_of, module)


def _walk(place: Any, name: str) -> Any:
    for part in filter(None, name.split(".")):
        place = getattr(place, part)
    return place
