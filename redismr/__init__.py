"""redismr: MapReduce for Python programs, on a Redis.

``run`` runs a whole job in one call; ``Client`` runs jobs in steps; ``files``, ``text``, ``lines``,
``jsonl``, ``csv`` and ``pairs`` make sources; user functions call ``count``, ``param`` and
``here``; ``serve`` starts a server for other machines. Names are imported on first use, so that
``import redismr`` takes little time.
"""

from redismr import ctrl_c

ctrl_c.exit_on_ctrl_c(is_command=False)  # before the other imports, which take time

import importlib  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

from redismr.import_watcher import watch_imports  # noqa: E402

if TYPE_CHECKING:
    from redismr.client import Client, Job, Results
    from redismr.client.run import run
    from redismr.context import count, here, param
    from redismr.errors import *  # noqa: F403
    from redismr.server import serve
    from redismr.sources import csv, files, jsonl, lines, pairs, text

__version__ = "0.1.0"

watch_imports()  # snapshots of local modules must be taken at the end of their load

_NAMES_BY_MODULE = {
    "redismr.client": ("Client", "Job", "Results"),
    "redismr.client.run": ("run",),
    "redismr.context": ("count", "here", "param"),
    "redismr.server": ("serve",),
    "redismr.sources": ("csv", "files", "jsonl", "lines", "pairs", "text"),
}
_MODULE_BY_NAME = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}

__all__ = [  # noqa: F405
    "BadInput", "BadKey", "BadPair", "BadValue", "Client", "CodeError", "ConfigError",
    "DebuggerError", "Job", "JobCancelled", "JobError", "JobFailed", "JobLost", "JobNotFound",
    "JobTimeout", "KeysAltered", "LibraryMismatch", "MapError", "NoWorkers", "RecordError",
    "RedismrError", "ReduceError", "Results", "ResultsClosed", "RunawayJob", "SealError",
    "SourceChanged", "SourceError", "SourceRaised", "StoreError", "StoreFull",
    "StoreUnavailable", "SubmitterLost", "TaskError", "TooManySkipped", "UnfitServer",
    "WrongSecret", "__version__", "count", "csv", "files", "here", "jsonl", "lines", "pairs",
    "param", "run", "serve", "text",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import and return a public name on its first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'redismr' has no attribute {name!r}")
    module = _MODULE_BY_NAME.get(name, "redismr.errors")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, sorted."""
    return sorted(__all__)
