"""Files on disk: which ones a glob means, and opening one as the bytes that were split.

A ``File`` is measured on the submitter and opened on a worker. Between the two it must not have
changed: byte ranges of a changed file would double some lines and cut others.
"""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import lzma
import os
import platform
import stat
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from redismr.errors import SourceChanged, SourceError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Patterns = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]

_BUFFER = 1 << 16
_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": zstd.open,
}
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)


@dataclass(frozen=True, slots=True)
class File:
    """One file as the submitter found it: ``name`` as its glob gave it, ``path`` absolute."""

    name: str
    path: str
    size: int
    mtime_ns: int
    host: str

    @property
    def compressed(self) -> bool:
        """Whether its suffix is .gz, .bz2, .xz or .zst: read whole, and unpacked while reading."""
        return _suffix(self.path) in _OPENERS

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The bytes that were split, unpacked; the file is checked before and after reading.

        Raises:
            SourceError: no such file here, no permission, or damaged compressed data.
            SourceChanged: its size (on the submitter's host also its mtime) is another one.
        """
        try:
            raw = open(self.path, "rb", buffering=_BUFFER)  # noqa: SIM115 - see "with raw" below
        except OSError as error:
            raise SourceError(self._unreadable(error)) from error
        with raw:
            self._check(raw)
            try:
                yield self._unpacked(raw)
            except _DAMAGED as error:
                raise SourceError(
                    f"reading {self.path} failed on {platform.node()}: {error}"
                    + (f"; it is not a whole {_suffix(self.path)} file" if self.compressed else "")
                    + ". Repair or remove the file, then run the job again."
                ) from error
            self._check(raw)

    def _unpacked(self, raw: BinaryIO) -> BinaryIO:
        opener = _OPENERS.get(_suffix(self.path))
        if opener is None:
            return raw
        return cast("BinaryIO", io.BufferedReader(opener(raw), _BUFFER))

    def _check(self, raw: BinaryIO) -> None:
        now = os.fstat(raw.fileno())
        if now.st_size != self.size:
            what = f"had {self.size} bytes when the job was submitted and has {now.st_size} now"
        elif now.st_mtime_ns != self.mtime_ns and platform.node() == self.host:
            what = "was written to after the job was submitted"
        else:
            return
        raise SourceChanged(
            f"{self.path} {what} (seen on {platform.node()}). Nothing was guessed: run the job "
            "again, on a copy if the file is still growing."
        )

    def _unreadable(self, error: OSError) -> str:
        return (
            f"cannot open {self.path} on {platform.node()}: {error.strerror or error}. Every "
            f"worker must see the input at the same path as the submitter ({self.host}); "
            "redismr.files(..., ship=True) sends the contents along instead."
        )


def find(patterns: Patterns) -> tuple[File, ...]:
    """Every file that the paths and globs name: globs sorted, ``**`` recursive, each file once.

    A path that exists is taken as it is, whatever ``*`` or ``[`` it holds. Directories that a glob
    matches are skipped.

    Raises:
        SourceError: a pattern that matches no file, or a file that cannot be looked at.
    """
    if isinstance(patterns, (str, os.PathLike)):
        patterns = [patterns]
    found: dict[str, File] = {}
    host = platform.node()
    for pattern in [os.fspath(item) for item in patterns]:
        names = _matches(pattern)
        files = [file for name in names if (file := _look(name, host)) is not None]
        if not files:
            raise SourceError(_no_match(pattern, only_directories=bool(names)))
        for file in files:
            found.setdefault(file.path, file)
    return tuple(found.values())


def _matches(pattern: str) -> list[str]:
    if os.path.lexists(pattern):
        return [pattern]
    # Not Path.glob: names stay as they were written, "./a.txt" and all.
    return sorted(glob.glob(os.path.expanduser(pattern), recursive=True))


def _look(name: str, host: str) -> File | None:
    try:
        status = os.stat(name)
    except OSError as error:
        raise SourceError(
            f"cannot look at the input file {name!r}: {error.strerror or error}. Correct or "
            "remove it, or choose a pattern that does not match it."
        ) from error
    if stat.S_ISDIR(status.st_mode):
        return None
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(
            f"the input {name!r} is not a regular file (a pipe or a device can be read only once). "
            "Save it to a file, or pass the opened file: its lines become the items."
        )
    path = os.path.abspath(name)
    return File(name, path, status.st_size, status.st_mtime_ns, host)


def _no_match(pattern: str, *, only_directories: bool) -> str:
    here = os.getcwd()
    if only_directories:
        inside = os.path.join(pattern.rstrip("*/") or ".", "**")
        return (
            f"{pattern!r} matches directories only (in {here}). "
            f"Write {inside!r} to read all files below."
        )
    return (
        f"no file matches {_shortened(pattern)!r} (in {here}). Check the pattern and the current "
        "directory; text to be processed as it is belongs in a list: [text]."
    )


def _shortened(pattern: str, limit: int = 200) -> str:
    return pattern if len(pattern) <= limit else pattern[: limit - 3] + "..."


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()
