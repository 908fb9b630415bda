"""The public functions that make sources of files: ``files``, ``text``, ``lines``..."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from numbers import Integral
from reprlib import repr as short
from typing import Any

from redismr.config import FLAG_RULE, show_value
from redismr.errors import ConfigError
from redismr.sources.file_sources import FileSource
from redismr.sources.formats import (
    CsvFormat,
    JsonlFormat,
    LinesFormat,
    TextFormat,
    WholeFileFormat,
)
from redismr.sources.input_files import Patterns
from redismr.sources.text_encoding import Encoding

DEFAULT_SPLIT = "16MB"

TEXT_BLOCK_BYTES = 1 << 18
"""Bytes of a record of ``text``: what a function makes of one fits into the processor's cache, and
one letter that needs more than a byte widens that much text in memory, not a split of 16 MB.
Counting words takes 0.90 of what it takes with a split as one block; 64 kB would gain 0.02 more,
but from those who count in each block for themselves more pairs would come."""

_SIZE_LIMIT_BYTES = 1 << 62
_UNIT_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def files(
    glob: Patterns,
    *more: str | os.PathLike[str],
    encoding: str = "utf-8",
    errors: str = "strict",
    binary: bool = False,
    ship: bool = False,
) -> FileSource:
    """Each file is one record, once: (path as the glob gave it, whole contents).

    ``glob`` is a path, a glob (``**`` recursive) or several of them; matches are sorted, and a
    file matched twice, also through links, is read once, under the name with the fewest links in
    it (of those, the first). Hard links are files of their own. Contents are str, newlines as they
    are, or bytes with ``binary``; .gz, .bz2, .xz and .zst are unpacked, and refused unless whole.
    Workers open the files themselves, at the same path; with ``ship`` the submitter reads them and
    sends the contents along.

    Raises:
        ConfigError: no such encoding or error handler.
        SourceError: (when run) a pattern matches nothing, or a file cannot be read or decoded.
        SourceChanged: (when run) a file is not the one that was there at the start.
    """
    if more:
        raise ConfigError(_pass_a_list_advice("files", glob, *more))
    FLAG_RULE.check("ship", ship)
    if FLAG_RULE.check("binary", binary) and (encoding, errors) != ("utf-8", "strict"):
        raise ConfigError("binary=True gives bytes: leave out encoding= and errors=")
    return FileSource(
        glob, WholeFileFormat(None if binary else Encoding(encoding, errors)), ship=ship
    )


def text(
    glob: Patterns,
    split: int | str | None = DEFAULT_SPLIT,
    *more: str | os.PathLike[str],
    encoding: str = "utf-8",
    errors: str = "strict",
) -> FileSource:
    """Every line is in exactly one block, whole: (where, block), blocks of about 256 kB.

    For data of which any run of lines will do, such as logs whose words are counted; for documents
    use ``files``. ``where`` equals the path and knows its ``.offset`` and ``.line``. Blocks of one
    file, put together, are the file. A task reads about ``split`` of it, less of a smaller input,
    down to 1 MB, so that all workers have some; None never cuts: a file is one block. Compressed
    files are read by one task each, and so are encodings like UTF-16, in one block.

    Raises:
        ConfigError: no such encoding, error handler or size.
        SourceError, SourceChanged: (when run) as in ``files``.
    """
    size = _split_bytes("text", glob, split, more)
    block = None if size is None else min(size, TEXT_BLOCK_BYTES)
    return FileSource(glob, TextFormat(Encoding(encoding, errors), block), split=size)


def lines(
    glob: Patterns,
    split: int | str | None = DEFAULT_SPLIT,
    *more: str | os.PathLike[str],
    encoding: str = "utf-8",
    errors: str = "strict",
) -> FileSource:
    r"""Every line is one record, once: (where, line without its end).

    Lines end at ``\n`` or ``\r\n``. ``where`` equals the path and knows its ``.offset`` and
    ``.line``. Files are cut into tasks as in ``text``.

    Raises:
        ConfigError: no such encoding, error handler or size.
        SourceError, SourceChanged: (when run) as in ``files``.
    """
    size = _split_bytes("lines", glob, split, more)
    return FileSource(glob, LinesFormat(Encoding(encoding, errors)), split=size)


def jsonl(
    glob: Patterns,
    split: int | str | None = DEFAULT_SPLIT,
    *more: str | os.PathLike[str],
    encoding: str = "utf-8",
    errors: str = "strict",
) -> FileSource:
    """Every line that is not blank is one record, once: (where, the JSON value in it).

    Files are cut into tasks as in ``text``.

    Raises:
        ConfigError: no such encoding, error handler or size.
        SourceError: (when run) as in ``files``; a line is not JSON: file, line and byte are named.
        SourceChanged: (when run) as in ``files``.
    """
    size = _split_bytes("jsonl", glob, split, more)
    return FileSource(glob, JsonlFormat(Encoding(encoding, errors)), split=size)


def csv(
    glob: Patterns,
    *more: str | os.PathLike[str],
    header: bool | Sequence[str] = True,
    split: int | str | None = None,
    encoding: str = "utf-8",
    errors: str = "strict",
    **layout: Any,
) -> FileSource:
    """Every row that is not blank is one record, once: (where, row).

    Rows are dicts by the names in each file's first row (``header=True``) or by those given
    (``header=["name", "age"]``, for files without one); with ``header=False`` they are lists.
    Quoted fields may hold newlines, and so one task reads a whole file; ``split="16MB"`` promises
    that none does, and cuts. Other options go to ``csv.reader`` (``delimiter=";"``...), which is
    strict unless ``strict=False``.

    Raises:
        ConfigError: no such encoding, error handler, size or ``csv.reader`` option.
        SourceError: (when run) as in ``files``; a row is malformed or not as wide as the header.
        SourceChanged: (when run) as in ``files``.
    """
    if more:
        raise ConfigError(_pass_a_list_advice("csv", glob, *more))
    row_format = CsvFormat(Encoding(encoding, errors), header, layout)
    return FileSource(glob, row_format, split=parse_size(split))


def _split_bytes(function: str, glob: Patterns, split: Any, more: tuple[object, ...]) -> int | None:
    """The bytes of a split, unless a second file stands in its place."""
    if more:
        raise ConfigError(_pass_a_list_advice(function, glob, split, *more))
    try:
        return parse_size(split)
    except ConfigError as error:
        if isinstance(split, os.PathLike) or (isinstance(split, str) and not split[:1].isdigit()):
            raise ConfigError(f"{error}. {_pass_a_list_advice(function, glob, split)}") from None
        raise


def _pass_a_list_advice(function: str, *given: Any) -> str:
    """What to write where files stand side by side."""
    paths = [
        str(item) for item in given if isinstance(item, str | os.PathLike) and item != DEFAULT_SPLIT
    ]
    return (
        f"{function}() reads one path or glob; for several pass a list: {function}({short(paths)})"
    )


def parse_size(size: int | str | None, option: str = "split") -> int | None:
    """Bytes in ``"16MB"`` (kB, MB, GB are powers of 1024), ``4096`` or None.

    Raises:
        ConfigError: not a size of at least one byte.
    """
    if size is None:
        return None
    number = _bytes_in(size)
    if not 1 <= number < _SIZE_LIMIT_BYTES:
        raise ConfigError(
            f"{option}={show_value(size)} is not a size: give bytes as an int, text such as '16MB', or "  # noqa: E501
            "None to read each file in one piece"
        )
    return int(number)


def _bytes_in(size: Any) -> float:
    """Bytes, 0 for what is no size."""
    if type(size) is not bool and isinstance(size, Integral):
        return int(size)
    pattern = r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(?:i?b)?\s*"
    match = re.fullmatch(pattern, size.lower()) if isinstance(size, str) else None
    return float(match[1]) * _UNIT_BYTES[match[2]] if match else 0
