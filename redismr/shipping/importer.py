"""Imports served from the sources that came with a job."""

from __future__ import annotations

import importlib.abc
import importlib.util
import linecache
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from redismr.module_snapshots import Changes, snapshot_module
from redismr.process_guards import loading_job_code
from redismr.shipping.module_restore import restore_changes
from redismr.shipping.modules import ModuleSource
from redismr.shipping.shared_globals import ScriptNamespaces


class JobImporter(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """Finds and loads the shipped modules, and nothing else.

    ``__file__`` and ``__path__`` are those of the submitter: text to show, and files that are
    there only on a shared disk. A module that is loaded is changed at once as its twin was on the
    submitter, before any other can import from it.
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
        """Run the module's text, and set what the submitter's program had changed in it.

        Neither may start a job: here the module is nobody's script.
        """
        with loading_job_code():
            super().exec_module(module)
            name = module.__name__
            snapshot_module(module, self.modules[name].source)
            if name in self._packed_changes:
                restore_changes(
                    module, self._script_namespaces.loads(self._packed_changes[name])[0]
                )
            if name in self._deferred:
                restore_changes(module, self._deferred[name])

    def apply_deferred(self, deferred: Mapping[str, Changes]) -> None:
        """Set in modules, loaded by now or not, what had to wait for the scripts' functions."""
        for name, changes in deferred.items():
            if _loader_of(name) is self:
                restore_changes(sys.modules[name], changes)
        self._deferred = deferred

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec if the module was shipped."""
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
        """The path on the submitter, as tracebacks show it."""
        return self._shipped_module(fullname).path or f"<namespace package {fullname}>"

    def get_source(self, fullname: str) -> str:
        """The text, also for linecache."""
        return self._shipped_module(fullname).source

    def is_package(self, fullname: str) -> bool:
        """Whether it may have submodules."""
        return self._shipped_module(fullname).package_path is not None

    def _shipped_module(self, fullname: str) -> ModuleSource:
        try:
            return self.modules[fullname]
        except KeyError:
            raise ImportError(f"{fullname} did not come with this job", name=fullname) from None


def install_importer(importer: JobImporter, *, take_precedence: bool) -> None:
    """Serve its modules, and no longer those of a job loaded before.

    With ``take_precedence`` they also come before modules of the same name that are installed or
    already
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
    """Let tracebacks show these texts for these file names, whatever is on this disk."""
    for path, text in sources.items():
        lines = text.splitlines(keepends=True)
        # Without an mtime, checkcache keeps the entry though no such file exists.
        linecache.cache[path] = (len(text), None, lines, path)


def _unload_modules(names: Iterable[str]) -> None:
    for name in list(names):
        sys.modules.pop(name, None)


def _loader_of(name: str) -> object:
    return getattr(sys.modules.get(name), "__loader__", None)
