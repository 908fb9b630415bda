"""The objects that a user's program holds: the client, the handle of a job, its results."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from redismr.client.client import Client
    from redismr.client.job import Job
    from redismr.client.results import Results

__all__ = ["Client", "Job", "Results"]


def __getattr__(name: str) -> Any:
    """Import a class on first use: before that, ``prestart`` can have started a private server."""
    if name not in __all__:
        raise AttributeError(f"module 'redismr.client' has no attribute {name!r}")
    return getattr(importlib.import_module(f"redismr.client.{name.lower()}"), name)
