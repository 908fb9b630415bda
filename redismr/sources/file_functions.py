"""The public functions that make sources of files: ``files``, ``text``, ``lines``..."""

import os
import re
from collections.abc import Sequence
from numbers import Integral
from reprlib import repr as short
from typing import Any

from redismr.config import FLAG_RULE, show_value
from redismr.errors import ConfigError
from redismr.sources.file_sources import FileSource
from redismr.sources.formats import CsvFormat, JsonlFormat, LinesFormat, TextFormat, WholeFileFormat
from redismr.sources.input_files import Patterns
from redismr.sources.text_encoding import Encoding

DEFAULT_SPLIT = "16MB"

TEXT_BLOCK_BYTES = 1 << 18
"""Bytes of a record of ``text``: what a mapfn makes of them fits the processor's cache, and one
letter that needs two bytes in memory makes two bytes of each letter in that block only. Counting
words takes 0.90 of the time that it takes with 16 MB as one block. 64 kB would take 0.02 less, but
a mapfn that counts within each block would emit more pairs."""

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
    """Return a source with each file as one record: (path as the glob gave it, whole contents).

    ``glob`` is a path, a glob (``**`` recursive) or several of them. Matches are sorted. A file
    that matches twice, also through links, is one record; its key is the name with the fewest
    links in it, the first of several. Hard links are separate files. Contents are str with their
    newlines unchanged, or bytes with ``binary``; .gz, .bz2, .xz and .zst are decompressed, and
    refused if damaged or cut. A worker holds one file in memory at a time.

    Workers open the files themselves, at the same path. With ``ship`` the submitter reads the
    files and sends their contents.

    Raises:
        ConfigError: no such encoding or error handler.
        SourceError: (when run) a pattern matches no file, or a file cannot be read or decoded.
        SourceChanged: (when run) a file has changed since the job was submitted.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a.txt").write_text("one, two")
    ...     [text for split in files(f"{folder}/*.txt").splits() for _, text in split.read()]
    ['one, two']
    """
    if more:
        raise ConfigError(_pass_a_list_advice("files", glob, *more))
    FLAG_RULE.check("ship", ship)
    if FLAG_RULE.check("binary", binary) and (encoding, errors) != ("utf-8", "strict"):
        raise ConfigError("binary=True gives bytes: leave out encoding= and errors=")
    whole_file = WholeFileFormat(None if binary else Encoding(encoding, errors))
    return FileSource(glob, whole_file, ship=ship)


def text(
    glob: Patterns,
    split: int | str | None = DEFAULT_SPLIT,
    *more: str | os.PathLike[str],
    encoding: str = "utf-8",
    errors: str = "strict",
) -> FileSource:
    r"""Return a source of blocks of about 256 kB: (where, block); each line is in one block, whole.

    Use it for data of which any run of lines will do, such as logs whose words are counted; use
    ``files`` for documents. ``where`` equals the path and has an ``.offset`` and a ``.line``. The
    blocks of a file are in order and together are the file.

    A task reads about ``split`` bytes of a file. Of a smaller input it reads less, down to 1 MB, so
    that all workers have tasks. None never cuts: a file is one block. A compressed file is read by
    one task. A file in an encoding like UTF-16 is one block of one task. A worker holds one block
    in memory at a time.

    Raises:
        ConfigError: no such encoding, error handler or size.
        SourceError, SourceChanged: (when run) as in ``files``.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a.log").write_text("one\ntwo\n")
    ...     [block for split in text(f"{folder}/*").splits() for _, block in split.read()]
    ['one\ntwo\n']
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
    r"""Return a source with each line as one record: (where, line without its end).

    Lines end at ``\n`` or ``\r\n``. ``where`` equals the path and has an ``.offset`` and a
    ``.line``. The lines of a task are in order. Files are cut into tasks as in ``text``; a worker
    holds about 32 kB of a file in memory at a time (in UTF-16 the whole file).

    Raises:
        ConfigError: no such encoding, error handler or size.
        SourceError, SourceChanged: (when run) as in ``files``.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a.log").write_text("one\ntwo\n")
    ...     records = [r for split in lines(f"{folder}/*").splits() for r in split.read()]
    >>> [(where.line, where.offset, line) for where, line in records]
    [(1, 0, 'one'), (2, 4, 'two')]
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
    r"""Return a source with each line that is not blank as one record: (where, its JSON value).

    ``where``, the order and the tasks are those of ``lines``.

    Raises:
        ConfigError: no such encoding, error handler or size.
        SourceError: (when run) as in ``files``; or a line is not JSON: the message gives its place.
        SourceChanged: (when run) as in ``files``.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a.jsonl").write_text('{"x": 1}\n\n[2]\n')
    ...     [value for split in jsonl(f"{folder}/*").splits() for _, value in split.read()]
    [{'x': 1}, [2]]
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
    r"""Return a source with each row that is not blank as one record: (where, row).

    With ``header=True`` rows are dicts by the names in each file's first row. With a list of names
    (``header=["name", "age"]``, for files without a header) they are dicts by these names. With
    ``header=False`` they are lists. ``where`` and the order are those of ``lines``.

    Quoted fields may hold newlines, so one task reads a whole file. ``split="16MB"`` promises that
    no field does, and cuts files into tasks. Other options go to ``csv.reader``
    (``delimiter=";"``...), which is strict unless ``strict=False``.

    Raises:
        ConfigError: no such encoding, error handler, size or ``csv.reader`` option.
        SourceError: (when run) as in ``files``; or a row is malformed or not as wide as the header.
        SourceChanged: (when run) as in ``files``.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = pathlib.Path(folder, "a.csv").write_text("name,age\nIda,7\n")
    ...     [row for split in csv(f"{folder}/*").splits() for _, row in split.read()]
    [{'name': 'Ida', 'age': '7'}]
    """
    if more:
        raise ConfigError(_pass_a_list_advice("csv", glob, *more))
    row_format = CsvFormat(Encoding(encoding, errors), header, layout)
    return FileSource(glob, row_format, split=parse_size(split))


def parse_size(size: Any) -> int | None:
    """Return the bytes of ``"16MB"`` (kB, MB, GB are powers of 1024), ``4096`` or None.

    Raises:
        ConfigError: not a size of at least one byte.

    >>> parse_size("16MB"), parse_size("1.5 kB"), parse_size(4096), parse_size(None)
    (16777216, 1536, 4096, None)
    """
    if size is None:
        return None
    number: float = 0
    if type(size) is not bool and isinstance(size, Integral):
        number = int(size)
    elif isinstance(size, str):
        pattern = r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*([kmgt]?)(?:i?b)?\s*"
        match = re.fullmatch(pattern, size.lower())
        number = float(match[1]) * _UNIT_BYTES[match[2]] if match else 0
    if not 1 <= number < _SIZE_LIMIT_BYTES:
        raise ConfigError(
            f"split={show_value(size)} is not a size: give bytes as an int, text such as '16MB', "
            "or None to read each file in one piece"
        )
    return int(number)


def _split_bytes(function: str, glob: Patterns, split: Any, more: tuple[object, ...]) -> int | None:
    """Return the bytes of a split; explain how to pass several files if ``split`` is a path."""
    if more:
        raise ConfigError(_pass_a_list_advice(function, glob, split, *more))
    try:
        return parse_size(split)
    except ConfigError as error:
        if isinstance(split, os.PathLike) or (isinstance(split, str) and not split[:1].isdigit()):
            raise ConfigError(f"{error}. {_pass_a_list_advice(function, glob, split)}") from None
        raise


def _pass_a_list_advice(function: str, *given: Any) -> str:
    """Return what to write instead of several paths as separate arguments."""
    paths = [
        str(item) for item in given if isinstance(item, str | os.PathLike) and item != DEFAULT_SPLIT
    ]
    wanted = f"{function}({short(paths)})"
    return f"{function}() reads one path or glob; for several pass a list: {wanted}"
