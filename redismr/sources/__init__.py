"""Inputs of jobs: sources are cut into splits on the submitter; workers read the splits."""

import os
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from types import GeneratorType
from typing import Any, cast

from redismr.errors import ConfigError
from redismr.sources.file_functions import csv, files, jsonl, lines, text
from redismr.sources.file_sources import FileSource
from redismr.sources.in_memory import InMemorySource, mapping_pairs, pairs
from redismr.sources.protocol import Source, Split
from redismr.sources.record_place import Where

__all__ = [
    "Source",
    "Split",
    "Where",
    "as_source",
    "csv",
    "files",
    "jsonl",
    "lines",
    "pairs",
    "text",
]


def as_source(obj: Any, *, chunk: int | None = None) -> Source:
    """Return the source of a job for ``obj``, checked as far as is possible without reading.

    - a str or Path: the files that match this glob, as ``files`` gives them
    - a mapping, or an object with ``__getitem__`` and with ``__iter__`` over its keys that is no
      sequence: (key, obj[key]) in its order, each fetched when its task is made. ``len(obj)`` is
      not called
    - any other iterable: (0, item), (1, item)... in its order. An iterator can be read once; a
      generator that was read before is refused, other iterators do not show it
    - a result of ``files``, ``text``, ``lines``, ``jsonl``, ``csv`` or ``pairs``: that source; its
      globs are looked up now

    The source holds one batch of an iterator in memory at a time.
    ``chunk`` is the number of items in one task; None puts many tiny or few heavy items into one.

    Raises:
        ConfigError: ``obj`` cannot be iterated over, or ``chunk`` does not apply to it.
        SourceError: a glob matches no file.

    >>> [list(split.read()) for split in as_source(["a", "c"], chunk=1).splits()]
    [[(0, 'a')], [(1, 'c')]]
    >>> [list(split.read()) for split in as_source({"x": 1, "y": 2}, chunk=2).splits()]
    [[('x', 1), ('y', 2)]]
    """
    if chunk is not None and (isinstance(chunk, bool) or chunk < 1):
        raise ConfigError(f"chunk={chunk!r} must be at least 1 item a task")
    if isinstance(obj, (str, os.PathLike)):
        obj = files(cast("str | os.PathLike[str]", obj))
    if isinstance(obj, FileSource):
        return obj.with_files_found(chunk)
    if isinstance(obj, InMemorySource):
        _refuse_exhausted_generator(obj.original)
        return obj if chunk is None else replace(obj, chunk=chunk)
    _refuse_exhausted_generator(obj)
    if isinstance(obj, Source):
        if chunk is None:
            return obj
        name = type(obj).__name__
        raise ConfigError(f"chunk={chunk} does not apply: a {name} makes its own splits")
    if isinstance(obj, bytes):
        raise ConfigError(
            "bytes are not a source: give a path as str or Path, or wrap data in a list: [data]"
        )
    if _is_keyed(obj):
        # dict.items gives the same pairs as mapping_pairs, without a Python frame for each
        return InMemorySource(obj, dict.items if type(obj) is dict else mapping_pairs, chunk)
    if isinstance(obj, Iterable) or hasattr(obj, "__getitem__"):
        return InMemorySource(obj, chunk=chunk)
    raise ConfigError(
        f"{type(obj).__name__} is not a source: give a glob of files, a mapping, an iterable, or "
        "an object with __iter__ over its keys and __getitem__"
    )


def _refuse_exhausted_generator(obj: Any) -> None:
    """Raise ConfigError for a generator that was read: an empty result would look like success."""
    if isinstance(obj, GeneratorType) and obj.gi_frame is None:
        raise ConfigError(
            f"the generator {obj.__name__} has been read to its end already: make a new one for "
            "each run, or give a list"
        )


def _is_keyed(obj: Any) -> bool:
    """True if iterating over ``obj`` gives keys to index it with."""
    if isinstance(obj, Mapping):
        return True
    if isinstance(obj, (Sequence, AbstractSet)) or not hasattr(obj, "__getitem__"):
        return False
    # numpy arrays, tensors and pandas Series iterate over items; a DataFrame over column names
    table = hasattr(obj, "keys") and getattr(obj, "ndim", 1) > 1
    return hasattr(obj, "__iter__") and (table or not hasattr(obj, "__array__"))
