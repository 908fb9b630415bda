"""The importer of the modules that came with a job."""

import importlib.abc
import importlib.util
import linecache
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from operator import attrgetter
from types import ModuleType
from typing import Any

from redismr.module_snapshots import REGISTER_INFIX, Changes, snapshot_module
from redismr.process_guards import loading_job_code
from redismr.shipping.modules import ModuleSource
from redismr.shipping.shared_globals import ScriptNamespaces

_REFILLABLE_TYPES = (dict, defaultdict, OrderedDict, Counter, list, set, deque)


class JobImporter(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Finds and loads the modules of one job from their sources.

    ``__file__`` and ``__path__`` are those of the submitter; such files exist here only on a shared
    disk. The changes that the submitter's program had made in a module are set at the end of its
    load, before another module can import from it.
    """

    def __init__(
        self,
        modules: Mapping[str, ModuleSource],
        packed_changes: Mapping[str, bytes],
        script_namespaces: ScriptNamespaces,
    ) -> None:
        self.modules = modules
        self._packed_changes, self._script_namespaces = packed_changes, script_namespaces
        self._deferred: Mapping[str, Changes] = {}

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's source, and set what the submitter's program had changed in it."""
        with loading_job_code():  # neither may start a job: no module is a script here
            super().exec_module(module)
            name = module.__name__
            snapshot_module(module, self.modules[name].source)
            if name in self._packed_changes:
                changes = self._script_namespaces.loads(self._packed_changes[name])[0]
                _restore_changes(module, changes)
            if name in self._deferred:
                _restore_changes(module, self._deferred[name])

    def apply_deferred(self, deferred: Mapping[str, Changes]) -> None:
        """Set the changes that need the scripts' functions: now in loaded modules, else at load."""
        for name, changes in deferred.items():
            if _loader_of(name) is self:
                _restore_changes(sys.modules[name], changes)
        self._deferred = deferred

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module of the job; None for any other module."""
        module = self.modules.get(fullname)
        if module is None:
            return None
        spec = ModuleSpec(
            fullname, self, origin=module.path, is_package=module.package_path is not None
        )
        spec.has_location = bool(module.path)  # a namespace package has no __file__
        if module.package_path is not None:
            spec.submodule_search_locations = list(module.package_path)
        return spec

    def get_filename(self, fullname: str) -> str:
        """Return the path on the submitter, which tracebacks show."""
        return self._shipped_module(fullname).path or f"<namespace package {fullname}>"

    def get_source(self, fullname: str) -> str:
        """Return the source; linecache calls this too."""
        return self._shipped_module(fullname).source

    def is_package(self, fullname: str) -> bool:
        """True if the module may have submodules."""
        return self._shipped_module(fullname).package_path is not None

    def _shipped_module(self, fullname: str) -> ModuleSource:
        try:
            return self.modules[fullname]
        except KeyError:
            raise ImportError(f"{fullname} did not come with this job", name=fullname) from None


def install_importer(importer: JobImporter, *, take_precedence: bool) -> None:
    """Make the modules of one job importable, and no longer those of a job loaded before.

    With ``take_precedence`` they come before modules of the same names that are installed or
    imported here: a job runs its own ``utils``, not the worker's.
    """
    for old in [finder for finder in sys.meta_path if isinstance(finder, JobImporter)]:
        sys.meta_path.remove(old)
        _unload_modules(name for name in old.modules if _loader_of(name) is old)
    if not importer.modules:
        return
    if take_precedence:
        _unload_modules(importer.modules)
        sys.meta_path.insert(0, importer)
    else:
        sys.meta_path.append(importer)
    importlib.invalidate_caches()


def cache_source_lines(sources: Mapping[str, str]) -> None:
    """Let tracebacks show these texts for these file names, whatever this machine's files hold."""
    for path, text in sources.items():
        lines = text.splitlines(keepends=True)
        # checkcache keeps an entry without an mtime, even if no such file exists.
        linecache.cache[path] = (len(text), None, lines, path)


def _unload_modules(names: Iterable[str]) -> None:
    for name in list(names):
        sys.modules.pop(name, None)


def _loader_of(name: str) -> object:
    return getattr(sys.modules.get(name), "__loader__", None)


def _restore_changes(module: ModuleType, changes: Changes) -> None:
    """Set and delete what the program had; refill in place what other modules may have imported."""
    for path, value in changes.values.items():
        owner_path, registers, _ = path.partition(REGISTER_INFIX)
        owner, name = _resolve_owner(module, owner_path)
        if registers:
            getattr(owner, name).register(*value)
        elif path in changes.changed_in_place and _refill(vars(owner).get(name), value):
            continue
        elif isinstance(owner, type):
            type.__setattr__(owner, name, value)  # setattr would ask a metaclass, which may refuse
        else:
            setattr(owner, name, value)
    for path in changes.deleted:
        owner, name = _resolve_owner(module, path)
        if name in vars(owner):
            delattr(owner, name)


def _resolve_owner(module: ModuleType, path: str) -> tuple[Any, str]:
    owner_path, _, name = path.rpartition(".")
    return attrgetter(owner_path)(module) if owner_path else module, name


def _refill(old: Any, new: Any) -> bool:
    """Give the old object the contents of the new one; False if that is not possible."""
    old_type = type(old)
    if old_type is not type(new):
        return False
    if old_type is bytearray:
        old[:] = new  # clear() would change the size, which a memoryview forbids
        return True
    if old_type in _REFILLABLE_TYPES:
        old.clear()
        if isinstance(old, dict):
            for key, value in new.items():  # update() of a Counter would add
                old[key] = value
        elif isinstance(old, set):
            old.update(new)
        else:
            old.extend(new)
        return True
    slots = any(vars(base).get("__slots__") for base in old_type.__mro__)
    if slots or not isinstance(getattr(old, "__dict__", None), dict):
        return False
    vars(old).clear()
    vars(old).update(vars(new))
    return True
