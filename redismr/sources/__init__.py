"""Where records come from: cut into splits on the submitter, read on the workers.

``as_source`` turns what a caller gave into a ``Source``; the functions beside it make the sources
that need options.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from types import GeneratorType
from typing import Any, cast

from redismr.errors import ConfigError
from redismr.sources.file_functions import csv, files, jsonl, lines, text
from redismr.sources.file_sources import FileSource
from redismr.sources.in_memory import ItemSource, PairSource, mapping_pairs, pairs
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
    """What a job will read, checked as far as that is possible without reading.

    - a str or Path: the files that this glob matches, as ``files`` gives them
    - a mapping, or an object with ``__iter__`` over keys and ``__getitem__`` that is no sequence:
      (key, obj[key]), each fetched when its task is made; ``len`` is never asked for
    - any other iterable: its items, numbered from 0. An iterator can be read once; a generator
      that has been is refused, of other iterators it cannot be told
    - what ``files``, ``text``, ``lines``, ``jsonl``, ``csv`` and ``pairs`` return: itself, with
      the files as they are now

    ``chunk`` is the number of items in one task; None packs many tiny ones and few heavy ones.

    Raises:
        ConfigError: ``obj`` is nothing that can be iterated over, or ``chunk`` does not apply.
        SourceError: a glob that matches no file.
    """
    if chunk is not None and (isinstance(chunk, bool) or chunk < 1):
        raise ConfigError(f"chunk={chunk!r} must be at least 1 item a task")
    if isinstance(obj, (str, os.PathLike)):
        obj = files(cast("str | os.PathLike[str]", obj))
    if isinstance(obj, FileSource):
        return obj.with_files_found(chunk)
    _refuse_exhausted_generator(obj.original if isinstance(obj, (ItemSource, PairSource)) else obj)
    if isinstance(obj, (ItemSource, PairSource)):
        return obj if chunk is None else replace(obj, chunk=chunk)
    if isinstance(obj, Source):
        return _accept_custom_source(obj, chunk)
    if isinstance(obj, bytes):
        raise ConfigError(
            "bytes are not a source: give a path as str or Path, or wrap data in a list: [data]"
        )
    if _is_keyed(obj):
        # dict.items gives the same pairs as mapping_pairs, without a Python frame for each
        return PairSource(obj, dict.items if type(obj) is dict else mapping_pairs, chunk)
    if isinstance(obj, Iterable) or hasattr(obj, "__getitem__"):
        return ItemSource(obj, chunk=chunk)
    raise ConfigError(
        f"{type(obj).__name__} is not a source: give a glob of files, a mapping, an iterable, or "
        "an object with __iter__ over its keys and __getitem__"
    )


def _refuse_exhausted_generator(obj: Any) -> None:
    """A generator that was read before would give an empty result that looks like success."""
    if isinstance(obj, GeneratorType) and obj.gi_frame is None:
        raise ConfigError(
            f"the generator {obj.__name__} has been read to its end already: make a new one for "
            "each run, or give a list"
        )


def _is_keyed(obj: Any) -> bool:
    """Whether iterating over ``obj`` gives keys to index it with."""
    if isinstance(obj, Mapping):
        return True
    if isinstance(obj, (Sequence, AbstractSet)) or not hasattr(obj, "__getitem__"):
        return False
    # numpy arrays, tensors and pandas Series iterate over items; a DataFrame over column names
    array = hasattr(obj, "__array__")
    table = hasattr(obj, "keys") and getattr(obj, "ndim", 1) > 1
    return hasattr(obj, "__iter__") and (table or not array)


def _accept_custom_source(source: Source, chunk: int | None) -> Source:
    if chunk is not None:
        raise ConfigError(
            f"chunk={chunk} does not apply: a {type(source).__name__} makes its own splits"
        )
    return source
