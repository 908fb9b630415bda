"""Take a snapshot of each local module at the end of its load.

Python has no event for that. Of modules that are loaded later, the loader's ``exec_module`` is
wrapped. Of modules that are being loaded when the watch begins, such as the one that imports
redismr first, the class of the spec is replaced.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import FrameType, ModuleType
from typing import Any

from redismr.module_snapshots import is_local_source, snapshot_module

_MODULE_GETATTRIBUTE = ModuleType.__getattribute__
_hooked_loaders = set[type]()


def watch_imports() -> None:
    """Take snapshots of loaded local modules now, and of others at the end of their load."""
    if any(isinstance(finder, _WatchingFinder) for finder in sys.meta_path):
        return
    running = set[int]()  # ids of the namespaces of modules whose code this thread is running
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            running.add(id(frame.f_globals))
        frame = frame.f_back
    modules: list[Any] = list(sys.modules.values())  # not all of them need be modules
    for module in modules:
        kind = type(module)
        if not issubclass(kind, ModuleType) or kind.__getattribute__ is not _MODULE_GETATTRIBUTE:
            continue  # reading an attribute would load a lazy module
        space = vars(module)
        if not is_local_source(space.get("__file__")):
            continue
        spec = space.get("__spec__")
        if type(spec) is ModuleSpec and getattr(spec, "_initializing", False):
            spec.__class__ = _LoadingSpec  # the module is being loaded now
        else:
            snapshot_module(module, at_load_end=False, still_loading=id(space) in running)
    _hook_loader(SourceFileLoader)
    sys.meta_path.insert(0, _WatchingFinder())


class _LoadingSpec(ModuleSpec):
    """The spec of a module that is being loaded: Python sets ``_initializing`` at its end."""

    @property
    def _initializing(self) -> bool:
        return True

    @_initializing.setter
    def _initializing(self, is_loading: bool) -> None:
        self.__class__ = ModuleSpec  # type: ignore[assignment]
        self._initializing = is_loading
        module = sys.modules.get(self.name)
        if module is not None:  # a load that failed removes the module
            snapshot_module(module)


def _hook_loader(loader: type) -> None:
    """Make loaders of a class take a snapshot after they have run a module's code."""
    execute: Any = loader.exec_module  # type: ignore[attr-defined]

    def exec_module(self: Any, module: ModuleType) -> None:
        execute(self, module)
        if is_local_source(vars(module).get("__file__")):
            snapshot_module(module)

    # Python hides frames with this file and name from tracebacks, as those of its import system.
    exec_module.__code__ = exec_module.__code__.replace(
        co_filename="<frozen importlib._bootstrap>", co_name="_call_with_frames_removed"
    )
    loader.exec_module = exec_module  # type: ignore[attr-defined]
    _hooked_loaders.add(loader)


class _WatchingFinder:
    """A finder that leaves finding to the others, and hooks loaders of zip files, pytest etc."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the finders after this one find."""
        finders: list[Any] = list(sys.meta_path)
        for finder in finders[finders.index(self) + 1 :] if self in finders else ():
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                loader = type(spec.loader)
                if (
                    is_local_source(spec.origin)
                    and hasattr(loader, "exec_module")
                    and _hooked_loaders.isdisjoint(loader.__mro__)
                    and loader.__module__.partition(".")[0] != "redismr"  # ours needs no hook
                ):
                    _hook_loader(loader)
                return spec
        return None
