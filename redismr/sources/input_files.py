"""Files on disk: which ones a glob means, and opening one as the bytes that were split.

An ``InputFile`` is measured on the submitter and opened on a worker. Between the two it must not
have
changed: byte ranges of a changed file would double some lines and cut others.
"""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from redismr.config import show_value
from redismr.core.plurals import pluralize
from redismr.errors import BadInput, ConfigError, SourceChanged, SourceError
from redismr.sources.decompress import (
    DAMAGE_ERRORS,
    READ_BUFFER_BYTES,
    is_compressed,
    open_decompressed,
    suffix_of,
)
from redismr.sources.glob_matches import match_glob

Patterns = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file as the submitter found it: ``name`` as its glob gave it, ``path`` absolute."""

    name: str
    path: str
    size: int
    mtime_ns: int
    host: str

    @property
    def compressed(self) -> bool:
        """Whether its suffix is .gz, .bz2, .xz or .zst: read whole, and unpacked while reading."""
        return is_compressed(self.path)

    @contextmanager
    def open_checked(self) -> Iterator[BinaryIO]:
        """The bytes that were split, unpacked; the file is checked before and after reading.

        Raises:
            SourceError: no such file here, no permission, a disk that fails, or too little memory.
            BadInput: compressed data is damaged or cut.
            SourceChanged: its size (on the submitter's host also its mtime) is another one.
        """
        try:
            raw = open(self.path, "rb", buffering=READ_BUFFER_BYTES, opener=_open_without_waiting)  # noqa: SIM115
        except OSError as error:
            raise SourceError(self._cannot_open_text(error)) from error
        with raw:
            status_before = self._check_unchanged(raw)
            stream, decompressed = (
                open_decompressed(raw, self.path) if self.compressed else (raw, None)
            )
            try:
                yield stream
            except DAMAGE_ERRORS as error:
                self._check_unchanged(raw, status_before)
                raise self._read_error(
                    error, None if decompressed is None else decompressed.size
                ) from error
            except MemoryError as error:
                raise SourceError(
                    f"reading {self.path} on {platform.node()} took more memory than there is. "
                    "text() and lines() read a file in pieces; fewer executors leave each more."
                ) from error
            self._check_unchanged(raw, status_before)

    def _check_unchanged(
        self, raw: BinaryIO, status_before: os.stat_result | None = None
    ) -> os.stat_result:
        """The file is as it was split and, where nobody knows its time, as in ``status_before``."""
        status = os.fstat(raw.fileno())
        if not stat.S_ISREG(status.st_mode):
            what = "is not a regular file any more"
        elif status.st_size != self.size:
            had, has = pluralize(self.size, "byte"), f"{status.st_size:,}"
            what = f"had {had} when the job was submitted and has {has} now"
        elif status.st_mtime_ns != self.mtime_ns and platform.node() == self.host:
            what = "was written to after the job was submitted"
        elif status_before is not None and status.st_mtime_ns != status_before.st_mtime_ns:
            what = "was written to while it was read"
        else:
            return status
        raise SourceChanged(
            f"{self.path} {what} (seen on {platform.node()}). Nothing was guessed: run the job "
            "again, on a copy if the file is still growing."
        )

    def _read_error(self, error: Exception, unpacked_bytes: int | None) -> SourceError:
        message, advice = str(error), "Repair or remove the file, then run the job again."
        # bz2 says by an OSError that data is damaged; those of the system have a number.
        if unpacked_bytes is not None and not (isinstance(error, OSError) and error.errno):
            return BadInput(
                f"{self.path}, byte {unpacked_bytes} of its unpacked contents: {message}; it is not a "  # noqa: E501
                f"whole {suffix_of(self.path)} file. {advice}"
            )
        return SourceError(f"reading {self.path} failed on {platform.node()}: {message}. {advice}")

    def _cannot_open_text(self, error: OSError) -> str:
        return (
            f"cannot open {self.path} on {platform.node()}: {error.strerror or error}. Every "
            f"worker must see the input at the same path as the submitter ({self.host}); "
            "redismr.files(..., ship=True) sends the contents along instead."
        )


def _open_without_waiting(path: str, flags: int) -> int:
    """Opens without waiting: a pipe that took the file's place has no end."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def check_patterns(patterns: Any) -> Patterns:
    """The paths and globs; several of them as a tuple.

    Raises:
        ConfigError: something among them can be neither path nor glob.
    """
    if isinstance(patterns, (str, os.PathLike)):
        return _check_pattern(patterns)
    if isinstance(patterns, (bytes, bytearray)) or not isinstance(patterns, Iterable):
        raise ConfigError(f"{show_value(patterns)} is no path or glob, nor a list of them")
    return tuple(map(_check_pattern, patterns))


def _check_pattern(pattern: Any) -> str | os.PathLike[str]:
    """A path or glob that can be the name of a file."""
    if not isinstance(pattern, (str, os.PathLike)):
        raise ConfigError(f"{show_value(pattern)} is no path or glob: give a str or Path")
    try:
        nul = b"\0" in os.fsencode(pattern)
    except UnicodeEncodeError:  # half of a surrogate pair
        nul = True
    if nul or isinstance(os.fspath(pattern), bytes):
        raise ConfigError(f"{show_value(os.fspath(pattern))} can be the name of no file")
    return pattern


def find_files(patterns: Patterns) -> tuple[InputFile, ...]:
    """Every file that the paths and globs name: globs sorted, ``**`` recursive, each file once.

    A path that exists is taken as it is, whatever ``*`` or ``[`` it holds. Directories that a glob
    matches are skipped. Links are followed, and a file that is matched also through a link is read
    once, under the name that goes through the fewest links, the first of them. Hard links are
    files of their own.

    Raises:
        SourceError: a pattern that matches no file, or a file that cannot be looked at.
    """
    if isinstance(patterns, (str, os.PathLike)):
        patterns = [patterns]
    found: dict[str, tuple[InputFile, tuple[int, int]]] = {}
    for pattern in [os.fspath(item) for item in patterns]:
        names = match_glob(pattern)
        files = [seen for name in names if (seen := _stat_input(name)) is not None]
        if not files:
            raise SourceError(_no_match_text(pattern, only_directories=bool(names)))
        for file, inode in files:
            found.setdefault(file.path, (file, inode))
    return _without_duplicates(found.values())


def _without_duplicates(
    found: Iterable[tuple[InputFile, tuple[int, int]]],
) -> tuple[InputFile, ...]:
    """The files, of several names that lead to one the one with the fewest links in it."""
    # Links are looked into only where inodes meet: a look at each part of each path costs more
    # than all the rest.
    files_by_inode: dict[tuple[int, int], list[InputFile]] = {}
    for file, inode in found:
        files_by_inode.setdefault(inode, []).append(file)
    chosen_paths = set[str]()
    for files in files_by_inode.values():
        chosen: dict[str, InputFile] = {}
        if len(files) > 1:
            files.sort(key=lambda file: _count_links(file.path))
        for file in files:
            real = os.path.realpath(file.path) if len(files) > 1 else file.path
            chosen.setdefault(real, file)
        chosen_paths.update(file.path for file in chosen.values())
    return tuple(file for file, _ in found if file.path in chosen_paths)


def _count_links(path: str) -> int:
    """How many parts of the path are links."""
    count = 0
    while (parent := os.path.dirname(path)) != path:
        count += os.path.islink(path)
        path = parent
    return count


def _stat_input(name: str) -> tuple[InputFile, tuple[int, int]] | None:
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
    file = InputFile(name, path, status.st_size, status.st_mtime_ns, platform.node())
    return file, (status.st_dev, status.st_ino)


def _no_match_text(pattern: str, *, only_directories: bool) -> str:
    current_folder = os.getcwd()
    if only_directories:
        inside = os.path.join(pattern.rstrip("*/") or ".", "**")
        return (
            f"{pattern!r} matches directories only (in {current_folder}). "
            f"Write {inside!r} to read all files below."
        )
    return (
        f"no file matches {_shortened(pattern)!r} (in {current_folder}). Check the pattern and the current "  # noqa: E501
        "directory; text to be processed as it is belongs in a list: [text]."
    )


def _shortened(pattern: str, limit: int = 200) -> str:
    return pattern if len(pattern) <= limit else pattern[: limit - 3] + "..."
