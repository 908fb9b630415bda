"""Pickling by value: what cloudpickle does, and what its pickles lack put back.

Every pickle of functions or classes of the user's is made here: those of a job, and those among
records and results.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import cloudpickle

from redismr.core.annotations import keep_annotations, name_of_reference, with_annotations_in_words

BY_VALUE = ("__main__", "__jobfile__")
"""Modules that no worker can import: what they define travels by value."""

_PROTOCOL = 5
_CACHED = type(functools.lru_cache(len))


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle's, for what else scripts define."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=_PROTOCOL)

    def reducer_override(self, obj: Any) -> Any:
        """Called by pickle for everything but plain data."""
        if isinstance(obj, CodeType):
            # from 3.1.3 on cloudpickle names the file of all code <dynamic-code>
            return _code_of, (obj.co_filename, *self.dispatch_table[CodeType](obj))
        if isinstance(obj, _CACHED) and obj.__module__ in BY_VALUE:
            # cloudpickle sends these by name; what a script defines has no name on a worker
            return _cached_again, (obj.__wrapped__, obj.cache_parameters())
        if name := name_of_reference(obj):
            return type(obj), (name,)
        reduced = self._reduced(obj)
        if isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) == 6:
            keep_annotations(obj, reduced[2][0])  # it is made by value, with these attributes
        return reduced

    def _reduced(self, obj: Any) -> Any:
        """What cloudpickle makes of it, which asks a function for its annotations."""
        try:
            return super().reducer_override(obj)
        except Exception:
            if not isinstance(obj, FunctionType):
                raise
            return super().reducer_override(with_annotations_in_words(obj))


def dumps(thing: object) -> bytes:
    """The pickle of it; ``pickle.loads`` reads it wherever redismr and cloudpickle are.

    Raises:
        Whatever a ``__reduce__`` of the user's raises, and what cloudpickle raises.
    """
    file = io.BytesIO()
    Pickler(file).dump(thing)
    return file.getvalue()


def _code_of(file: str, make: Callable[..., CodeType], parts: tuple[Any, ...]) -> CodeType:
    """A code object of that file, whatever file its parts name."""
    return make(*parts).replace(co_filename=file)


def _cached_again(function: Any, parameters: dict[str, Any]) -> Any:
    """A function under ``functools.cache`` or ``lru_cache``, with an empty cache."""
    return functools.lru_cache(**parameters)(function)
